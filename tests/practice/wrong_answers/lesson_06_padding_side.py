"""Of lesson 6."""

BATCH = """
def answer(model, tokenizer, prompts, max_new_tokens):
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "{side}"
    inputs = tokenizer(prompts, padding=True, return_tensors="pt").to(model.device)
    ids, mask, width = inputs["input_ids"], inputs["attention_mask"], inputs["input_ids"].shape[1]
    output = model.generate(ids, attention_mask={mask}, max_new_tokens={budget})
    return {result}
pitfalls.practice.batch_like_single(answer, model, tokenizer)"""
TEXTS = "tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)"
OWN = "[tokenizer.decode(row[int(m.sum()):], skip_special_tokens=True) for row, m in zip(output, mask)]"
SINGLE = """
def answer(model, tokenizer, prompts, max_new_tokens):
    texts = []
    for prompt in prompts:
        inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
        ids = model.generate(**inputs, max_new_tokens=max_new_tokens)
        texts.append(tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    return texts
pitfalls.practice.batch_like_single(answer, model, tokenizer)"""

PAD = """
def answer(rows, pad_id):
    width = {width}
    ids = [{ids} for row in rows]
    mask = [{mask} for row in rows]
    return {result}
pitfalls.practice.left_pad_by_hand(answer, model, tokenizer)"""
IDS = "([pad_id] * (width - len(row)) + row)[:width]"
MASK = "([0] * (width - len(row)) + [1] * len(row))[:width]"


def batch(hint, side="left", mask="mask", budget="max_new_tokens", result=TEXTS) -> tuple[str, str]:
    return BATCH.format(side=side, mask=mask, budget=budget, result=result), hint


def pad(hint, width="max(map(len, rows))", ids=IDS, mask=MASK, result="torch.tensor(ids), torch.tensor(mask)"):
    return PAD.format(width=width, ids=ids, mask=mask, result=result), hint


WRONG = {
    "batch_like_single": [
        batch("The padding is on the right", side="right"),
        batch("The pads are read as text", mask="None"),
        batch("The pads are read as text", mask="torch.ones_like(ids)"),
        batch("The prompt is still in", result="tokenizer.batch_decode(output, skip_special_tokens=True)"),
        batch("A piece of the prompt is still in", result=OWN),
        batch("pass max_new_tokens on", budget="12"),
        batch("Special tokens are in the texts", result="tokenizer.batch_decode(output)"),
        batch("Return a list of str", result="output"),
        batch("as many texts as prompts", result=f"{TEXTS}[:1]"),
        batch("is continued alone", result="['', '', '']"),
        (batch("")[0].replace("    tokenizer.pad_token = tokenizer.eos_token\n", ""), "has no pad token"),
        (SINGLE, "These are single runs"),
    ],
    "left_pad_by_hand": [
        pad("The pads are on the right", ids="row + [pad_id] * (width - len(row))"),
        pad("all ones", mask="[1] * width"),
        pad("take the mask from the lengths", mask="[int(i != pad_id) for i in [pad_id] * (width - len(row)) + row]"),
        pad("the wrong way round", mask="[1] * (width - len(row)) + [0] * len(row)"),
        pad("as wide as the longest row", width="min(map(len, rows))"),
        pad("put the lists into torch.tensor", result="ids, mask"),
        pad("Return both", result="torch.tensor(ids)"),
        pad("Expected these ids", ids="[0] * (width - len(row)) + row"),
        pad("Expected this mask", mask="[0] + [1] * (width - 1)"),
    ],
}
