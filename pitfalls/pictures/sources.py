"""What the figures are drawn from: each function gives it back in one form, or says what to pass instead."""

from collections.abc import Mapping, Sequence

import torch
from transformers import PreTrainedTokenizerBase

from pitfalls.inspector.call import Call
from pitfalls.inspector.rows import Row, Step
from pitfalls.language import N_, _

BATCH = N_('`padding` takes what `tokenizer(texts, padding=True, return_tensors="pt")` returns.')


def kind(value: object) -> str:
    """What a value is, for a message."""
    if isinstance(value, torch.Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        return _("a tensor of {dtype}, of shape {shape}", dtype=dtype, shape=str(tuple(value.shape)))
    name = type(value).__name__
    return _("an {type}", type=name) if name[0] in "AEIOUaeiou" else _("a {type}", type=name)


def row_of(call: Call, row: int) -> Row:
    """One row of a recorded call."""
    if not isinstance(call, Call):
        raise TypeError(
            _("This takes a call from `pitfalls.record(model, tokenizer, inputs)`, and not {what}.", what=kind(call))
        )
    if row not in range(len(call.rows)):
        raise ValueError(
            _("There is no row {row}: this call has {rows}, counted from 0.", row=row, rows=len(call.rows))
        )
    return call.rows[row]


def steps_of(call: Call, row: int, first: int) -> Sequence[Step]:
    """The recorded steps of a row, from `first` on."""
    steps = row_of(call, row).steps
    if not steps:
        raise ValueError(_("This call has no recorded steps: beam search and assisted decoding leave none."))
    if first not in range(len(steps)):
        raise ValueError(
            _("There is no step {step}: this row has {steps}, counted from 0.", step=first, steps=len(steps))
        )
    return steps[first:]


def ids_of(source: torch.Tensor | Sequence[int]) -> list[int]:
    """Token ids of shape (tokens,)."""
    try:
        ids = torch.as_tensor(source if not isinstance(source, Mapping) else None)
    except (TypeError, ValueError, RuntimeError):  # a text, a dict, rows of different length
        raise TypeError(
            _(
                "`token_strip` takes a recorded call, or token ids of shape (tokens,), such as "
                "`tokenizer(text).input_ids`, and not {what}.",
                what=kind(source),
            )
        ) from None
    if ids.ndim != 1:
        raise ValueError(
            _(
                "`token_strip` takes a recorded call, or token ids of shape (tokens,), and not {what}. "
                "Take one row of a batch, as in `ids[0]`.",
                what=kind(ids),
            )
        )
    if len(ids) and (ids.is_floating_point() or ids.dtype == torch.bool or ids.min() < 0):
        raise ValueError(
            _(
                "`token_strip` takes a recorded call, or token ids of shape (tokens,): whole numbers from 0 on. "
                "This is {what}, and its least is {least}.",
                what=kind(ids),
                least=ids.min().item(),
            )
        )
    return ids.tolist()


def probabilities_of(source: torch.Tensor | Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Of logits, or of several by name, each of shape (vocabulary,)."""
    named = source if isinstance(source, Mapping) else {"": source}
    probabilities = {name: _probabilities(logits) for name, logits in named.items()}
    if len({len(shares) for shares in probabilities.values()}) != 1:
        raise ValueError(_("Panels stand side by side: give one or more, all with logits of the same vocabulary."))
    return probabilities


def _probabilities(logits: torch.Tensor) -> torch.Tensor:
    if not isinstance(logits, torch.Tensor) or logits.ndim != 1 or not len(logits):
        raise (ValueError if isinstance(logits, torch.Tensor) else TypeError)(
            _(
                "`next_token` takes a recorded step, such as `call.steps[0]`, or the logits of one position, of shape "
                "(vocabulary,), such as `model(**inputs).logits[0, -1]`, and not {what}.",
                what=kind(logits),
            )
        )
    if not logits.is_floating_point():
        raise ValueError(
            _(
                "`next_token` takes a recorded step, such as `call.steps[0]`, or the logits of one position, of shape "
                "(vocabulary,), such as `model(**inputs).logits[0, -1]`. Whole numbers, as in {what}, are token ids.",
                what=kind(logits),
            )
        )
    logits = logits.detach().float()
    if logits.min() >= 0 and abs(logits.sum() - 1) < 1e-2:
        raise ValueError(_("These are probabilities already. Give the logits that they came from, or `p.log()`."))
    probabilities = logits.softmax(-1)
    if probabilities.isnan().any():
        raise ValueError(
            _("Some of these logits are not numbers (NaN), or all are infinite: there is nothing to draw.")
        )
    return probabilities


def batch_of(inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, both of shape (rows, tokens)."""
    if not isinstance(inputs, Mapping):
        raise TypeError(
            _(
                '`padding` takes what `tokenizer(texts, padding=True, return_tensors="pt")` returns, and not {what}: '
                "ids alone don't say where their padding is.",
                what=kind(inputs),
            )
        )
    for name in ("input_ids", "attention_mask"):
        if not isinstance(inputs.get(name), torch.Tensor):
            if name in inputs:
                raise ValueError(_(BATCH) + " " + _("Its {name} are {what}.", name=name, what=kind(inputs[name])))
            raise ValueError(_(BATCH) + " " + _("This one has no {name}.", name=name))
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    if ids.ndim != 2 or not ids.numel() or ids.shape != mask.shape:
        shapes = _(
            "Ids and mask are both of shape (rows, tokens); these are of shape {ids} and {mask}.",
            ids=str(tuple(ids.shape)),
            mask=str(tuple(mask.shape)),
        )
        raise ValueError(f"{shapes} {_(BATCH)}")
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError(_("A mask holds 1 for a token and 0 for padding; this one holds something else."))
    return ids, mask.long()


def messages_of(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """The messages of one chat, for a tokenizer that can render them."""
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            _(
                "This tokenizer has no chat template: most likely it belongs to a base model, which only continues a "
                "text. Take the tokenizer of a chat model, or set `tokenizer.chat_template`."
            )
        )
    one = [message for message in messages if _is_message(message)] if isinstance(messages, (list, tuple)) else []
    if not one or len(one) != len(messages):
        raise ValueError(
            _(
                "`chat` takes a list of messages, each a dict with the texts 'role' and 'content': "
                "[{'role': 'user', 'content': 'Hi'}]."
            )
        )
    return one


def _is_message(message: object) -> bool:
    return isinstance(message, Mapping) and all(isinstance(message.get(key), str) for key in ("role", "content"))


def at_least_one(**numbers: float) -> None:
    """For how much is to be shown."""
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(_("`{name}` is 1 or more, and not {number}.", name=name, number=number))
