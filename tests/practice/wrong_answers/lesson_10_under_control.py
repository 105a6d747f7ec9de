"""Of lesson 10."""

DIGITS = """
def answer(tokenizer):
    from transformers import LogitsProcessor
    pieces = tokenizer.batch_decode([[number] for number in range(len(tokenizer))])
    ids = [number for number, piece in enumerate(pieces) if {which}]

    class Rule(LogitsProcessor):
        def __call__(self, input_ids, scores):
            {body}

    return {result}
pitfalls.practice.no_digits(answer, model, tokenizer)"""
BODY = "scores[:, ids] = -torch.inf; return scores"
HOLDS = "any(letter in '0123456789' for letter in piece)"

HOW_LIKELY = """
def answer(model, inputs, **settings):
    start = inputs["input_ids"].shape[1]
    output = model.generate(
        **inputs, {settings}, output_logits=True, output_scores=True, return_dict_in_generate=True
    )
    ids = output.sequences
    {line}
    return {result}
pitfalls.practice.answer_probability(answer, model, tokenizer)"""
KEPT = "values = model.compute_transition_scores(ids, output.{}, normalize_logits={})"
LOSS = "with torch.no_grad(): loss = model(ids, labels=ids).loss"
WHOLE = "with torch.no_grad(): all_ = model(ids).logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])"


def digits(hint, which=HOLDS, body=BODY, result="Rule()") -> tuple[str, str]:
    return DIGITS.format(which=which, body=body, result=result), hint


def likely(hint, line=None, result="values.sum().item()", settings="**settings") -> tuple[str, str]:
    return HOW_LIKELY.format(line=line or KEPT.format("logits", True), result=result, settings=settings), hint


WRONG = {
    "no_digits": [
        digits("must end with `return scores`", body="scores[:, ids] = -torch.inf"),
        digits("not the class", result="Rule"),
        digits("Return the processor itself", result="[Rule()]"),
        digits("Expected a LogitsProcessor", result="ids"),
        digits("A score of 0 forbids nothing", body="scores[:, ids] = 0; return scores"),
        digits("can still come", body="scores[:, ids] -= 10; return scores"),
        digits("come back as they were", body="return scores"),
        digits("still get through", which="piece in list('123456789')"),
        digits("Only the first row is ruled", body="scores[0, ids] = -torch.inf; return scores"),
        digits("Nothing is left", body="return torch.full_like(scores, -torch.inf)"),
        digits("has no digit and is forbidden too", which="not piece.isalpha()"),
        digits("have changed", body="scores[:, ids] = -torch.inf; return scores / 2"),
        digits("of the shape that it got", body="return scores[:, :-1]"),
        digits("stopped with", body="return scores.index_fill(1, ids, -torch.inf)"),
    ],
    "answer_probability": [
        likely("This is the mean for a token", result="values.mean().item()"),
        likely("Return one number", result="values"),
        likely("take `output_logits`", KEPT.format("scores", True)),
        likely("logits and not log-probabilities", KEPT.format("logits", False)),
        likely("scores after the temperature", KEPT.format("scores", False)),
        likely("The prompt is counted in", WHOLE, "all_.sum().item()"),
        likely("the mean over the prompt, too", LOSS, "-loss.item()"),
        likely("leave the logarithm", result="values.sum().exp().item()"),
        likely("The sign", result="-values.sum().item()"),
        likely("Return a number", result="output.logits"),
        likely("Hand the settings on", settings="max_new_tokens=6"),
        likely("Expected -", result="values[0, 0].item()"),
    ],
}
