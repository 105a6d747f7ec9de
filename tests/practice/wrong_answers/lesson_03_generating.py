"""Wrong answers in lesson 3, and a piece of the hint that each must get."""

LOOP = """
def greedy(model, tokenizer, prompt, most):
    ids = tokenizer(prompt, return_tensors="pt").input_ids.to(model.device)
    for step in range(most):
        with torch.no_grad():
            logits = model(ids).logits[0, -1]
        next_id = logits.argmax()
        ids = torch.cat([ids, next_id.view(1, 1)], dim=-1)
        if next_id == tokenizer.eos_token_id:
            break
    return ids
pitfalls.practice.greedy_loop(greedy, model, tokenizer)"""
STOP = "        if next_id == tokenizer.eos_token_id:\n            break\n"
APPEND = "        ids = torch.cat([ids, next_id.view(1, 1)], dim=-1)\n"
GENERATE = """
def greedy(model, tokenizer, prompt, most):
    return model.generate(**tokenizer(prompt, return_tensors="pt").to(model.device), max_new_tokens=most)
pitfalls.practice.greedy_loop(greedy, model, tokenizer)"""
SUM = """
def log_probability(model, ids):
    with torch.no_grad():
        logits = model(ids).logits[0]
    logs = logits[:-1].log_softmax(-1)
    return logs.gather(1, ids[0, 1:, None]).sum()
pitfalls.practice.text_probability(log_probability, model, tokenizer)"""


def loop(old: str, new: str) -> str:
    assert old in LOOP
    return LOOP.replace(old, new)


def total(old: str, new: str) -> str:
    assert old in SUM
    return SUM.replace(old, new)


WRONG = {
    "greedy_loop": [
        (loop(STOP, ""), "continues after the end token"),
        (loop("logits[0, -1]", "logits[0, 0]"), "follows the first word of the prompt"),
        (loop(APPEND, ""), "Only the prompt came back"),
        (loop("return ids", "return ids[:, -step - 1 :]"), "only the new tokens"),
        (loop(APPEND + STOP, STOP + APPEND), "The end token is missing"),
        (loop("range(most)", "range(most + 1)"), "2 new tokens were allowed, and 3 came"),
        (loop("return ids", "return tokenizer.decode(ids[0])"), "This is text"),
        (loop("    return ids\n", ""), "returns nothing"),
        (loop("next_id.view(1, 1)", "next_id"), "Your function stopped with RuntimeError"),
        (loop("logits.argmax()", "logits.argmin()"), "Expected the ids for"),
        (loop("return ids", "return [[1], [2, 3]]"), "of shape (1, tokens)"),
        (GENERATE, "This calls generate"),
    ],
    "text_probability": [
        (total("logs.gather", "-logs.gather"), "never above 0"),
        (total(".sum()", ".mean()"), "the mean over the tokens"),
        (total("    logs =", "    return model(ids, labels=ids).loss\n    logs ="), "This is the loss"),
        (total(".sum()", ".sum().exp()"), "the probability itself"),
        (total("logits[:-1]", "logits[1:]"), "about the next token"),
        (total("logits[:-1]", "logits").replace("ids[0, 1:, None]", "ids[0, :, None]"), "about the next token"),
        (total("log_softmax(-1)", "softmax(-1)"), "Probabilities of steps aren't added"),
        (total(".log_softmax(-1)", ""), "These are raw scores"),
        (total("log_softmax(-1)", "log_softmax(0)"), "over the vocabulary"),
        (total(".sum()", ""), "sum over the tokens"),
        (total(".sum()", ".max()"), "Expected the log-probability"),
        (total("return logs", "logs"), "Return one number. Came: NoneType"),
    ],
}
