"""Of lesson 5."""

HAND = """
def answer(logits, temperature, top_k, top_p, draws):
    def keep_k(scores, k):
        return scores.masked_fill(scores < scores.topk(min(k, len(scores))).values[-1], -torch.inf)

    def keep_p(scores, p, drop=lambda values: values.cumsum(0) - values):
        values, order = scores.softmax(-1).sort(descending=True)
        return scores.index_fill(0, order[drop(values) >= p], -torch.inf)

    {}
    return {}
pitfalls.practice.sampling_by_hand(answer, model, tokenizer)"""
DRAW = "p, torch.multinomial(p, draws, replacement=True)"
RIGHT = "p = keep_p(keep_k(logits / temperature, top_k), top_p).softmax(-1)"

REASONS = {
    "find the date in an invoice": ("greedy", "one right answer"),
    "tell a bedtime story": ("sample", "many good answers"),
    "write five slogans for one product": ("sample", "several to choose from"),
    "is this review positive or negative?": ("greedy", "one right answer"),
    "compare the outputs of two versions of a program": ("greedy", "the same text every run"),
    "chat about the weather": ("sample", "many good answers"),
}


def by_hand(line: str, hint: str, result: str = DRAW) -> tuple[str, str]:
    return HAND.format(line, result), hint


def modes(hint: str, **changed) -> tuple[str, str]:
    keys = dict(zip(["date", "story", "slogans", "review", "versions", "chat"], REASONS, strict=True))
    answers = REASONS | {keys[name]: value for name, value in changed.items()}
    return f"answer = {answers}\npitfalls.practice.modes_for_tasks(answer, model, tokenizer)", hint


WRONG = {
    "sampling_by_hand": [
        by_hand(RIGHT.replace("/", "*"), "divide by the temperature"),
        by_hand(RIGHT.replace(" / temperature", ""), "the temperature has no effect yet"),
        by_hand(RIGHT.replace("top_k)", "top_k + 1)"), "keeps 3 tokens, not one more"),
        by_hand(
            "q = (logits / temperature).softmax(-1); p = q * (keep_k(q, top_k) > 0)", "What is left must add up to 1"
        ),
        by_hand(RIGHT.replace("top_p)", "top_p, lambda v: v.cumsum(0))"), "crosses top_p stays in"),
        by_hand(
            "p = (keep_p(keep_k(logits, top_k), top_p) / temperature).softmax(-1)", "comes first, before the filters"
        ),
        by_hand("p = keep_k(keep_p(logits / temperature, top_p), top_k).softmax(-1)", "top-k comes before top-p"),
        by_hand("p = keep_k(logits / temperature, top_k).softmax(-1)", "top-p has no effect yet"),
        by_hand("p = keep_p(logits / temperature, top_p).softmax(-1)", "top-k has no effect yet"),
        by_hand(RIGHT.replace("top_p)", "top_p, lambda v: v + 1)"), "The best token always stays"),
        by_hand(RIGHT.replace("/ temperature", "/ temperature / 3"), "tokens that can be drawn"),
        by_hand(RIGHT, "All draws gave the same token", "p, p.argmax().repeat(draws)"),
        by_hand(RIGHT, "needs replacement=True", "p, torch.multinomial(p, draws)"),
        by_hand(RIGHT, "with probability 0 was drawn", DRAW.replace("(p", "((logits / temperature).softmax(-1)")),
        by_hand(
            RIGHT, "don't follow the probabilities", "p, torch.multinomial((p > 0).float(), draws, replacement=True)"
        ),
        by_hand(RIGHT, "no token ids", "p, torch.rand(draws)"),
        by_hand(RIGHT, "Return two tensors", "p"),
        by_hand(RIGHT, "Expected drawn ids of this shape", "p, torch.multinomial(p, 1)"),
    ],
    "modes_for_tasks": [
        modes("nothing is won by variety", date=("sample", "many good answers")),
        modes("goes round in circles", story=("greedy", "one right answer")),
        modes("the same slogan five times", slogans=("greedy", "many good answers")),
        modes("sometimes takes the other one", review=("sample", "many good answers")),
        modes("Two draws differ", versions=("sample", "several to choose from")),
        modes("a dull one", chat=("greedy", "the same text every run")),
        modes("the mode is right. What makes a draw harmful", date=("greedy", "many good answers")),
        modes("the mode is right. One story is enough", story=("sample", "several to choose from")),
        modes("the mode is right. Look at the number", slogans=("sample", "many good answers")),
        modes("the mode is right. What can be said of the two labels", review=("greedy", "the same text every run")),
        modes("the mode is right. No text is right or wrong here", versions=("greedy", "one right answer")),
        modes("the mode is right. One reply is given", chat=("sample", "several to choose from")),
        modes("expected a mode and a reason", date="greedy"),
        modes("the mode is 'greedy' or 'sample'", date=("beam", "one right answer")),
        modes("choose a reason of the four", date=("greedy", "it is faster")),
    ],
}
