"""Of lesson 9."""

MIN_P = """
def answer(logits, min_p):
    values = logits.softmax(-1)
    {line}
    return {result}
pitfalls.practice.min_p_by_hand(answer, model, tokenizer)"""
RIGHT = "left = values * (values >= min_p * values.max())"


def min_p(hint, line=RIGHT, result="left / left.sum()") -> tuple[str, str]:
    return MIN_P.format(line=line, result=result), hint


SETTINGS = {"A": "min_p=0.1", "B": "temperature=2.0", "C": "greedy", "D": "top_k=2"}


def words(hint, **changed) -> tuple[str, str]:
    return f"answer = {SETTINGS | changed}\npitfalls.practice.settings_of_words(answer, model, tokenizer)", hint


WRONG = {
    "min_p_by_hand": [
        min_p("and not min_p itself", "left = values * (values >= min_p)"),
        min_p("must add up to 1 again", result="left"),
        min_p("nothing has been cut off yet", result="values"),
        min_p("The best token always stays", RIGHT.replace(">=", ">")),
        min_p("compare probabilities, and not scores", "left = values * (logits >= min_p * logits.max())"),
        min_p("the wrong ones were kept", RIGHT.replace(">=", "<")),
        min_p(
            "this is top-p",
            "b, o = values.sort(descending=True); left = values.index_fill(0, o[b.cumsum(0) - b >= min_p], 0)",
        ),
        min_p("these are scores", result="logits.masked_fill(values < min_p * values.max(), -torch.inf)"),
        min_p("which tokens stay", result="values >= min_p * values.max()"),
        min_p("Return a tensor of probabilities", result="left.tolist()"),
        min_p("a probability for each token", result="left[left > 0]"),
        min_p("tokens that can be drawn", RIGHT.replace("min_p *", "min_p * min_p *")),
    ],
    "settings_of_words": [
        words("greedy decoding gives one word only, and here are 6", A="greedy"),
        words("in the model's order, and top_k=2 keeps two", A="top_k=2"),
        words("with it others would be among them", A="temperature=2.0"),
        words("and min_p=0.1 cuts it off", B="min_p=0.1"),
        words("in the model's order, and top_k=2 keeps two", B="top_k=2"),
        words("Here: one word only", C="top_k=2"),
        words("greedy decoding gives one word only, and here are 2", D="greedy"),
        words("Here: 2 different words", D="min_p=0.1"),
        words("choose one of", D="beam search"),
    ],
}
