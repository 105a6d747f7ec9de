"""Wrong answers in lesson 2, and a piece of the hint that each must get."""

COUNT = """
answer = {{"1999": {}, "in 1999": {}, " blue": {}, "blue ": {}}}
pitfalls.practice.count_tokens(answer, tokenizer)"""
BATCH = """
answer = {{"attention_mask": {}, "position_ids": {}}}
pitfalls.practice.mask_and_positions(answer, model, tokenizer)"""
MASK = "[[1, 1, 1, 1, 1], [0, 0, 0, 0, 1], [0, 0, 1, 1, 1]]"

WRONG = {
    "count_tokens": [
        (COUNT.format(1, 6, 1, 2), "digits stand alone"),
        (COUNT.format(4, 2, 1, 2), "digits stand alone"),
        (COUNT.format(4, 5, 1, 2), "before a digit it is a token of its own"),
        (COUNT.format(4, 6, 2, 2), "belongs to the word"),
        (COUNT.format(4, 6, 1, 1), "no word to belong to"),
        (COUNT.format(4, 7, 1, 2), "Those are letters"),
        (COUNT.format(4, 6, "None", 2), "Expected the number of tokens in ' blue'"),
        ("answer = [4, 6, 1, 2]\npitfalls.practice.count_tokens(answer, tokenizer)", "keep those of the stub"),
    ],
    "mask_and_positions": [
        (
            BATCH.format("[[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 1, 0, 0]]", "[[0] * 5] * 3"),
            "this padding is on the right",
        ),
        (BATCH.format("[[0, 0, 0, 0, 0], [1, 1, 1, 1, 0], [1, 1, 0, 0, 0]]", "[[0] * 5] * 3"), "the other way round"),
        (BATCH.format("[[1] * 5] * 3", "[[0] * 5] * 3"), "would read the padding too"),
        (BATCH.format("[[1] * 5, [1], [1] * 3]", "[[0] * 5] * 3"), "3 rows of 5 numbers"),
        (BATCH.format("'11111'", "[[0] * 5] * 3"), "3 rows of 5 numbers"),
        (
            BATCH.format("[[1, 1, 1, 1, 1], [0, 0, 0, 1, 1], [0, 0, 1, 1, 1]]", "[[0] * 5] * 3"),
            "Expected the attention",
        ),
        (BATCH.format(MASK, "[[0, 1, 2, 3, 4]] * 3"), "these count the padding too"),
        (BATCH.format(MASK, "[[1, 2, 3, 4, 5], [0, 0, 0, 0, 1], [0, 0, 1, 2, 3]]"), "counting starts at 0"),
        (BATCH.format(MASK, "[[0, 1, 2, 3, 4], [0, 7, 7, 7, 7], [0, 1, 2, 7, 7]]"), "padding on the right"),
        (BATCH.format(MASK, "[[0, 1, 2, 3, 4], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]"), "Expected the position ids"),
        (BATCH.format(MASK, "None"), "position_ids: expected 3 rows"),
        ("answer = [[1]]\npitfalls.practice.mask_and_positions(answer, model, tokenizer)", "with the keys"),
    ],
}
