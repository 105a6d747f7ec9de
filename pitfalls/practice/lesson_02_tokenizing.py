"""Exercises of lesson 2."""

import torch

from pitfalls.language import N_, _
from pitfalls.practice.feedback import Hint, equal, exercise
from pitfalls.practice.prediction import question

question(
    "02",
    N_("How many tokens are in the first text, and how many in the second?"),
    """texts = ["A list of colors: red, blue", "Portugal is"]
tuple(len(ids) for ids in tokenizer(texts).input_ids)""",
    {
        (6, 2): N_("Those are the words. Colon and comma need tokens too, and a rare word is cut into several."),
        (8, 2): N_("The first count is right. Of the two words after it, one is too rare to be a single token."),
        (8, 4): N_("Six words and two signs; and `Portugal` is rare enough to be cut in three."),
        (8, 8): N_("A tokenizer makes rows equally long only when it is told to."),
        (27, 11): N_("Those are the letters. Most words that occur often are one token."),
    },
)


DIGITS = N_("In this tokenizer digits stand alone: each of them is a token.")
LETTERS = N_("Those are letters. A token is a piece that the tokenizer knows, and often a whole word.")
SLIPS = {
    "1999": {
        1: DIGITS,
        2: N_("len(tokenizer(text)) counts ids and mask, two things. Ask for len(tokenizer(text).input_ids)."),
    },
    "in 1999": {
        2: DIGITS,
        3: DIGITS,
        5: N_("The space is missing: before a digit it is a token of its own."),
        7: LETTERS,
    },
    " blue": {2: N_("A space before a word belongs to the word: together they are one token."), 5: LETTERS},
    "blue ": {1: N_("The space at the end has no word to belong to: it is a token of its own."), 5: LETTERS},
}
TEXTS = ["red, green, blue", "red", "red, green"]


@exercise("02", N_("Spaces and digits"))
def count_tokens(answer, tokenizer) -> str:
    """a dict with the number of tokens of each text."""
    if not isinstance(answer, dict) or set(answer) != set(SLIPS):
        raise Hint(_("Expected a dict with the keys {keys}; keep those of the stub.", keys=list(SLIPS)))
    for text, slips in SLIPS.items():
        count = len(tokenizer(text, add_special_tokens=False)["input_ids"])
        equal(answer[text], count, _("the number of tokens in {text!r}", text=text), slips)
    return _("Before a word a space costs nothing. At the end, or before a digit, it costs a token.")


@exercise("02", N_("Attention mask and position ids by hand"))
def mask_and_positions(answer, model, tokenizer) -> str:
    """a dict with the attention mask and the position ids of the batch."""
    if not isinstance(answer, dict) or set(answer) != {"attention_mask", "position_ids"}:
        raise Hint(_("Expected a dict with the keys 'attention_mask' and 'position_ids'; keep those of the stub."))
    mask, positions = _as_generate_sees_them(model, tokenizer)
    given = _table(answer["attention_mask"], "attention_mask", mask.shape)
    _check_mask(given, mask)
    given = _table(answer["position_ids"], "position_ids", mask.shape)
    _check_positions(given, positions, mask)
    return _("These are the numbers that generate gave the model. Padding is neither read nor counted.")


def _as_generate_sees_them(model, tokenizer) -> tuple[torch.Tensor, torch.Tensor]:
    """What a call of generate passes to the model in its first step."""
    seen = {}
    hook = model.register_forward_pre_hook(lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True)
    batch = tokenizer(TEXTS, return_tensors="pt", padding=True, padding_side="left").to(model.device)
    try:
        model.generate(**batch, max_new_tokens=1, do_sample=False)
    finally:
        hook.remove()
    return batch["attention_mask"].cpu(), seen["position_ids"].cpu()


def _table(given, name: str, shape: torch.Size) -> torch.Tensor:
    rows, columns = shape
    try:
        table = torch.as_tensor(given).long()
    except Exception:
        table = None
    if table is None or table.shape != shape:
        values = {"name": name, "rows": rows, "columns": columns, "given": given}
        raise Hint(_("{name}: expected {rows} rows of {columns} numbers each. Came: {given!r}.", **values))
    return table


def _check_mask(given: torch.Tensor, mask: torch.Tensor) -> None:
    if torch.equal(given, mask.flip(1)):
        raise Hint(_("attention_mask: this padding is on the right. The batch is padded on the left."))
    if torch.equal(given, 1 - mask):
        raise Hint(_("attention_mask: the other way round. 1 is a real token, 0 is padding."))
    if given.all():
        raise Hint(_("attention_mask: here the model would read the padding too. Padding gets 0."))
    equal(given, mask, _("the attention mask"))


def _check_positions(given: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor) -> None:
    real = mask == 1
    if torch.equal(given[real], positions[real]):
        return
    columns = torch.arange(mask.shape[1]).expand_as(mask)
    if torch.equal(given[real], columns[real]):
        raise Hint(_("position_ids: these count the padding too. The first real token of each row has position 0."))
    if torch.equal(given[real], positions[real] + 1):
        raise Hint(_("position_ids: counting starts at 0."))
    if torch.equal(given[real.flip(1)], positions[real]):
        raise Hint(_("position_ids: these belong to a batch with its padding on the right."))
    equal(given, positions, _("the position ids"))
