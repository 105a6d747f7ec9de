"""Of lesson 4."""

FOUR = "pitfalls.practice.tokens_left(answer, model, tokenizer)"
LEFT = 'answer = {{"nothing said": {}, "max_new_tokens=5": {}, "max_length=30": {}, "both": {}}}\n' + FOUR
SENTENCE = """
def answer(model, tokenizer, prompt):
    inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
    ids = model.generate(**inputs, {})
    return {}
pitfalls.practice.one_sentence(answer, model, tokenizer)"""
STOP = "max_new_tokens=60, stop_strings=['.', '!', '?'], tokenizer=tokenizer"
AFTER = "tokenizer.decode(ids[0, inputs['input_ids'].shape[1] :]{})"

WRONG = {
    "tokens_left": [
        (LEFT.format(16, 5, 26, 5), "it did until version 4.46"),
        (LEFT.format(20, 5, 30, 5), "counts the prompt too"),
        (LEFT.format(20, 5, 26, 26), "max_new_tokens wins"),
        (LEFT.format(20, 4, 26, 5), "Expected the new tokens of each call"),
        ("answer = {'nothing said': 20}\n" + FOUR, "keep those of the stub"),
    ],
    "one_sentence": [
        (SENTENCE.format(STOP, "tokenizer.decode(ids[0], skip_special_tokens=True)"), "The prompt is still there"),
        (SENTENCE.format(STOP, AFTER.format(", skip_special_tokens=True")), "the last token holds both"),
        (SENTENCE.format("max_new_tokens=20", AFTER.format(", skip_special_tokens=True")), "cut off"),
        (SENTENCE.format("max_new_tokens=60", AFTER.format(", skip_special_tokens=True")), "sentence"),
        (SENTENCE.format(STOP, "ids[0]"), "Return the text, a str"),
        (SENTENCE.format("max_new_tokens=60, stop_strings=['.']", "''"), "Your function stopped with ValueError"),
        (SENTENCE.format(STOP, "''"), "Nothing came"),
        (SENTENCE.format(STOP, AFTER.format(", skip_special_tokens=True") + ".strip('.')"), "Only the full stop"),
    ],
}
