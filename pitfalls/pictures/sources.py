"""What the figures are drawn from: each function gives it back in one form, or says what to pass instead."""

from collections.abc import Mapping, Sequence

import torch
from transformers import PreTrainedTokenizerBase

from pitfalls.inspector.call import Call
from pitfalls.inspector.rows import Row, Step

BATCH = 'what `tokenizer(texts, padding=True, return_tensors="pt")` returns'
POSITION = "the logits of one position, of shape (vocabulary,), such as `model(**inputs).logits[0, -1]`"


def kind(value: object) -> str:
    """What a value is, for a message."""
    if isinstance(value, torch.Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')}, of shape {tuple(value.shape)}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def row_of(call: Call, row: int) -> Row:
    """One row of a recorded call."""
    if not isinstance(call, Call):
        raise TypeError(f"This takes a call from `pitfalls.record(model, tokenizer, inputs)`, and not {kind(call)}.")
    if row not in range(len(call.rows)):
        raise ValueError(f"There is no row {row}: this call has {len(call.rows)}, counted from 0.")
    return call.rows[row]


def steps_of(call: Call, row: int, first: int) -> Sequence[Step]:
    """The recorded steps of a row, from `first` on."""
    steps = row_of(call, row).steps
    if not steps:
        raise ValueError("This call has no recorded steps: beam search and assisted decoding leave none.")
    if first not in range(len(steps)):
        raise ValueError(f"There is no step {first}: this row has {len(steps)}, counted from 0.")
    return steps[first:]


def ids_of(source: torch.Tensor | Sequence[int]) -> list[int]:
    """Token ids of shape (tokens,)."""
    takes = "`token_strip` takes a recorded call, or token ids of shape (tokens,)"
    try:
        ids = torch.as_tensor(source if not isinstance(source, Mapping) else None)
    except (TypeError, ValueError, RuntimeError):  # a text, a dict, rows of different length
        raise TypeError(f"{takes}, such as `tokenizer(text).input_ids`, and not {kind(source)}.") from None
    if ids.ndim != 1:
        raise ValueError(f"{takes}, and not {kind(ids)}. Take one row of a batch, as in `ids[0]`.")
    if len(ids) and (ids.is_floating_point() or ids.dtype == torch.bool or ids.min() < 0):
        raise ValueError(f"{takes}: whole numbers from 0 on. This is {kind(ids)}, and its least is {ids.min().item()}.")
    return ids.tolist()


def probabilities_of(source: torch.Tensor | Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Of logits, or of several by name, each of shape (vocabulary,)."""
    named = source if isinstance(source, Mapping) else {"": source}
    probabilities = {name: _probabilities(logits) for name, logits in named.items()}
    if len({len(shares) for shares in probabilities.values()}) != 1:
        raise ValueError("Panels stand side by side: give one or more, all with logits of the same vocabulary.")
    return probabilities


def _probabilities(logits: torch.Tensor) -> torch.Tensor:
    takes = f"`next_token` takes a recorded step, such as `call.steps[0]`, or {POSITION}"
    if not isinstance(logits, torch.Tensor):
        raise TypeError(f"{takes}, and not {kind(logits)}.")
    if logits.ndim != 1 or not len(logits):
        raise ValueError(f"{takes}, and not {kind(logits)}.")
    if not logits.is_floating_point():
        raise ValueError(f"{takes}. Whole numbers, as in {kind(logits)}, are token ids.")
    logits = logits.detach().float()
    if logits.min() >= 0 and abs(logits.sum() - 1) < 1e-2:
        raise ValueError("These are probabilities already. Give the logits that they came from, or `p.log()`.")
    probabilities = logits.softmax(-1)
    if probabilities.isnan().any():
        raise ValueError("Some of these logits are not numbers (NaN), or all are infinite: there is nothing to draw.")
    return probabilities


def batch_of(inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, both of shape (rows, tokens)."""
    if not isinstance(inputs, Mapping):
        raise TypeError(f"`padding` takes {BATCH}, and not {kind(inputs)}: ids alone don't say where their padding is.")
    for name in ("input_ids", "attention_mask"):
        if not isinstance(inputs.get(name), torch.Tensor):
            has = f"Its {name} are {kind(inputs[name])}" if name in inputs else f"This one has no {name}"
            raise ValueError(f"`padding` takes {BATCH}. {has}.")
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    if ids.ndim != 2 or not ids.numel() or ids.shape != mask.shape:
        shapes = f"of shape {tuple(ids.shape)} and {tuple(mask.shape)}"
        raise ValueError(f"Ids and mask are both of shape (rows, tokens); these are {shapes}. `padding` takes {BATCH}.")
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError("A mask holds 1 for a token and 0 for padding; this one holds something else.")
    return ids, mask.long()


def messages_of(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """The messages of one chat, for a tokenizer that can render them."""
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            "This tokenizer has no chat template: most likely it belongs to a base model, which only continues a text. "
            "Take the tokenizer of a chat model, or set `tokenizer.chat_template`."
        )
    one = [message for message in messages if _is_message(message)] if isinstance(messages, (list, tuple)) else []
    if not one or len(one) != len(messages):
        raise ValueError(
            "`chat` takes a list of messages, each a dict with the texts 'role' and 'content': "
            "[{'role': 'user', 'content': 'Hi'}]."
        )
    return one


def _is_message(message: object) -> bool:
    return isinstance(message, Mapping) and all(isinstance(message.get(key), str) for key in ("role", "content"))


def at_least_one(**numbers: float) -> None:
    """For how much is to be shown."""
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"`{name}` is 1 or more, and not {number}.")
