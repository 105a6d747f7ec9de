"""`record`: one generate call, run and kept with all that a reader wants to see of it."""

from collections.abc import Mapping
from typing import Any

import torch

from pitfalls.inspector.call import Call
from pitfalls.inspector.listening import Heard
from pitfalls.inspector.watcher import conclude, explain
from pitfalls.language import _


def record(model: Any, tokenizer: Any, inputs: Any, /, **generate_kwargs: Any) -> Call:
    """Run `model.generate` once on `inputs` and keep what a reader wants to see of it.

    `inputs` is what the tokenizer returned (a `BatchEncoding` or a dict with `input_ids`, shape (batch, tokens)), or
    the tensor of ids alone; every keyword goes to `generate` as it is. The ids are those that `model.generate` returns
    without the recorder. Candidates are kept for greedy decoding and sampling; beam search and assisted decoding leave
    `steps` empty, because their steps do not line up with the rows. Without a tokenizer (None) the texts are empty.

    Raises `TypeError` for inputs that `generate` can't take, `ValueError` for an encoder-decoder model.
    """
    if not hasattr(model, "generate"):
        raise TypeError(
            _(
                "record takes a model, a tokenizer and inputs; the first of these is a {type}.",
                type=type(model).__name__,
            )
        )
    inputs = _as_mapping(inputs)
    if model.config.is_encoder_decoder:
        raise ValueError(
            _("record() follows decoder-only models; this one has an encoder, so its output has no prompt.")
        )
    if generate_kwargs.get("stop_strings") is not None:
        generate_kwargs.setdefault("tokenizer", tokenizer)
    call = Call(model, tokenizer, {**inputs, **generate_kwargs})
    call.read_inputs()
    heard, output, error = Heard.of(call), None, None
    arguments = heard.join((), call.arguments)[1] if heard else call.arguments
    try:
        output = model.generate(**arguments)
    except BaseException as raised:
        error = raised
        raise
    finally:
        conclude(call, output, error, heard)
        if error is not None:
            explain(error, call.report)
    return call


def _as_mapping(inputs: Any) -> dict[str, Any]:
    if isinstance(inputs, torch.Tensor):
        inputs = {"input_ids": inputs}
    ids = inputs.get("input_ids") if isinstance(inputs, Mapping) else None
    if not isinstance(ids, torch.Tensor) or ids.ndim != 2:
        give = _('Give what `tokenizer(texts, return_tensors="pt")` returns.')
        raise TypeError(f"{_no_rows(inputs, ids)} {give}")
    return dict(inputs)


def _no_rows(inputs: Any, ids: Any) -> str:
    """What to say of ids that are no rows of a batch; None of inputs that have none."""
    if ids is None:
        kind = type(inputs).__name__
        return _("generate takes token ids of shape (batch, tokens); this is a {type}.", type=kind)
    if not isinstance(ids, torch.Tensor):
        kind = type(ids).__name__
        return _("generate takes token ids of shape (batch, tokens); these are input_ids of type {type}.", type=kind)
    shape = tuple(ids.shape)
    if ids.ndim == 1:
        return _(
            "generate takes token ids of shape (batch, tokens); these are of shape {shape}: one row is `ids[None]`.",
            shape=shape,
        )
    return _("generate takes token ids of shape (batch, tokens); these are of shape {shape}.", shape=shape)
