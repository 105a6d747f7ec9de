"""`record`: one generate call, run and kept with all that a reader wants to see of it."""

from collections.abc import Mapping
from typing import Any

import torch

from pitfalls.inspector.call import Call
from pitfalls.inspector.watcher import Watcher
from pitfalls.inspector.watching import watching


def record(model: Any, tokenizer: Any, inputs: Any, /, **generate_kwargs: Any) -> Call:
    """Run `model.generate` once on `inputs` and keep what a reader wants to see of it.

    `inputs` is what the tokenizer returned (a `BatchEncoding` or a dict with `input_ids`, shape (batch, tokens)), or
    the tensor of ids alone; every keyword goes to `generate` as it is. The ids are those that `model.generate` returns
    without the recorder. Candidates are kept for greedy decoding and sampling; beam search and assisted decoding leave
    `steps` empty, because their steps do not line up with the rows. Without a tokenizer (None) the texts are empty.

    Raises `TypeError` for inputs that `generate` can't take, `ValueError` for an encoder-decoder model.
    """
    inputs = _as_mapping(inputs)
    if model.config.is_encoder_decoder:
        raise ValueError("record() follows decoder-only models; this one has an encoder, so its output has no prompt.")
    if generate_kwargs.get("stop_strings") is not None:
        generate_kwargs.setdefault("tokenizer", tokenizer)
    with watching(Watcher(tokenizer=tokenizer, own_thread=True)) as calls:
        model.generate(**inputs, **generate_kwargs)
    if not calls:
        raise TypeError(f"record() needs a model of transformers; generate of this {type(model).__name__} is another.")
    return calls[-1]


def _as_mapping(inputs: Any) -> dict[str, Any]:
    if isinstance(inputs, torch.Tensor):
        inputs = {"input_ids": inputs}
    ids = inputs.get("input_ids") if isinstance(inputs, Mapping) else None
    if not isinstance(ids, torch.Tensor) or ids.ndim != 2:
        what = type(inputs).__name__ if ids is None else f"input_ids of type {type(ids).__name__}"
        what += f" and shape {tuple(ids.shape)}" if isinstance(ids, torch.Tensor) else ""
        raise TypeError(
            f"generate takes token ids of shape (batch, tokens); this is a {what}. "
            'Give what `tokenizer(texts, return_tensors="pt")` returns.'
        )
    return dict(inputs)
