"""Exercises of lesson 6."""

import copy

import torch

from pitfalls.inspector.watching import watch
from pitfalls.language import N_, _
from pitfalls.practice.feedback import Hint, equal, exercise, run
from pitfalls.practice.prediction import question

question(
    "06",
    N_("How many of the two rows are continued as they should be?"),
    """batch = tokenizer(["1, 2, 3", "A, B, C, D, E"], padding=True, padding_side="right", return_tensors="pt")
ids = model.generate(**batch.to(model.device), max_new_tokens=10)
first, second = tokenizer.batch_decode(ids, skip_special_tokens=True)
int("1, 2, 3, 4" in first) + int("D, E, F" in second)""",
    {
        0: N_("The longer row has no padding at all, so nothing is in its way."),
        1: N_("The longer row is. The shorter one ends in pads, and the model has to continue after a pad."),
        2: N_(
            "The mask hides the pads, but the new token still comes after the last column, and in the "
            "shorter row that is a pad."
        ),
    },
)


@exercise("06", N_("A batch whose rows equal the single runs"))
def batch_like_single(answer, model, tokenizer) -> str:
    """a function that returns the new text of each prompt, as a list of str."""
    prompts, budget = ["1, 2, 3", "A, B, C, D, E, F", "The capital of Japan is"], 6
    bare = copy.deepcopy(tokenizer)  # as many tokenizers come: padding on the right, and nothing to pad with
    bare.padding_side, bare.pad_token = "right", None
    with watch(model, bare) as calls:
        try:
            texts = run(answer, model, bare, prompts, budget)
        except Hint as hint:
            if "not have a padding token" in str(hint.__cause__):  # the words of transformers
                told = _("This tokenizer has no pad token: give it one first, its end token for example.")
                raise Hint(told) from None
            raise
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise Hint(_("Return a list of str, decoded with batch_decode. Came: {kind}.", kind=type(texts).__name__))
    equal(len(texts), len(prompts), _("as many texts as prompts"))
    if calls and all(call.input_ids.shape[0] == 1 for call in calls):
        raise Hint(_("These are single runs, one after the other. Give all prompts to one call of generate."))
    expected = [_single(model, tokenizer, prompt, budget) for prompt in prompts]
    if [text.strip() for text in texts] != [text.strip() for text in expected]:
        _explain(texts, expected, prompts, calls.report.rules, tokenizer)
    return _("Three prompts of different length, one call, and every row says what it says alone.")


def _single(model, tokenizer, prompt, budget) -> str:
    inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
    ids = model.generate(**inputs, max_new_tokens=budget)[0, inputs["input_ids"].shape[1] :]
    return tokenizer.decode(ids, skip_special_tokens=True)


def _explain(texts, expected, prompts, rules, tokenizer) -> None:
    if "padding-side" in rules:
        raise Hint(_("The padding is on the right, so a row is continued after a pad: set padding_side='left'."))
    if "attention-mask" in rules:
        raise Hint(_("The pads are read as text. Give the tokenizer's mask to generate: `generate(**inputs, …)`."))
    if any(special in text for text in texts for special in tokenizer.all_special_tokens):
        raise Hint(_("Special tokens are in the texts: decode with skip_special_tokens=True."))
    for text, wanted, prompt in zip(texts, expected, prompts, strict=True):
        if text.startswith(prompt):
            raise Hint(_("The prompt is still in {text!r}: decode only the new ids.", text=text))
        if wanted and text != wanted and text.endswith(wanted):
            told = _(
                "A piece of the prompt is still in {text!r}: cut all rows at the width of the padded batch.", text=text
            )
            raise Hint(told)
        if wanted and text != wanted and text.startswith(wanted):
            raise Hint(_("The row {text!r} is too long: pass max_new_tokens on.", text=text))
        equal(text.strip(), wanted.strip(), _("how {prompt!r} is continued alone", prompt=prompt))


@exercise("06", N_("Left padding by hand"))
def left_pad_by_hand(answer, model, tokenizer) -> str:
    """a function that returns two tensors, input_ids and attention_mask."""
    padder = copy.deepcopy(tokenizer)
    padder.pad_token = padder.pad_token or padder.eos_token
    pad = padder.pad_token_id
    rows = [tokenizer(text)["input_ids"] for text in ["1, 2, 3", "Hello", "A, B, C, D, E"]]
    rows[1] = [*rows[1], pad]  # text that holds the pad token itself, as the end of a turn does
    ids, mask = _padded(padder, rows, "left")
    result = run(answer, [list(row) for row in rows], pad)
    if not isinstance(result, tuple) or len(result) != 2:
        raise Hint(_("Return both: `return input_ids, attention_mask`."))
    if not all(isinstance(part, torch.Tensor) for part in result):
        raise Hint(_("generate takes tensors: put the lists into torch.tensor(…)."))
    given_ids, given_mask = result
    if given_ids.shape != ids.shape:
        raise Hint(_("Expected ids of the shape {shape}, as wide as the longest row.", shape=tuple(ids.shape)))
    if torch.equal(given_ids, _padded(padder, rows, "right")[0]):
        raise Hint(_("The pads are on the right, after the text. They belong before it."))
    equal(given_ids, ids, _("these ids"))
    equal(tuple(given_mask.shape), tuple(mask.shape), _("a mask of the shape of the ids"))
    if given_mask.bool().all():
        raise Hint(_("This mask is all ones, so the pads would be read as text: they get 0."))
    if torch.equal(given_mask.bool(), ids != pad):
        raise Hint(_("The row 'Hello' ends in a real token with the pad's id: take the mask from the lengths."))
    if torch.equal(given_mask.bool(), ~mask.bool()):
        raise Hint(_("The mask is the wrong way round: 1 for text, 0 for pads."))
    equal(given_mask.long(), mask, _("this mask"))
    return _("It is what the tokenizer's own padding gives, also where the text holds the pad token.")


def _padded(tokenizer, rows, side) -> tuple[torch.Tensor, torch.Tensor]:
    tokenizer.padding_side = side
    batch = tokenizer.pad({"input_ids": rows}, return_tensors="pt")
    return batch["input_ids"], batch["attention_mask"]
