"""What callers hand over, read so that nothing can fail at it: inputs, wrapped models, settings that are tensors."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase
from transformers.generation import GenerationMixin


def inputs_of(given: Any) -> dict[str, Any]:
    """The arguments that `generate` gets from what a caller calls inputs: a mapping, or ids alone."""
    try:
        return dict(given) if isinstance(given, Mapping) else {"inputs": given}
    except Exception:  # no mapping to rely on
        return {"inputs": given}


def unwrapped(model: Any) -> Any:
    """The model that generates, where it stands in a wrapper such as those of torch.compile and DataParallel."""
    if isinstance(model, GenerationMixin) or not isinstance(model, torch.nn.Module):
        return None if isinstance(model, type) else model
    return next((module for module in model.modules() if isinstance(module, GenerationMixin)), model)


def is_pipeline(thing: Any) -> bool:
    return not isinstance(thing, torch.nn.Module) and hasattr(thing, "model") and hasattr(thing, "tokenizer")


def tokenizer_in(given: Any) -> Any:
    """A tokenizer, alone or of a processor; None for anything else."""
    for thing in (given, getattr(given, "tokenizer", None)):
        if isinstance(thing, PreTrainedTokenizerBase):
            return thing
    return None


def readable(thing: Any) -> bool:
    return isinstance(thing, torch.Tensor) and not thing.is_meta and thing.layout == torch.strided


def plain(value: Any) -> Any:
    """A setting as Python has it: the numbers of a tensor or an array, one alone or a list."""
    if not hasattr(value, "tolist") or (isinstance(value, torch.Tensor) and not readable(value)):
        return value
    numbers = value.tolist()
    return numbers[0] if isinstance(numbers, list) and len(numbers) == 1 else numbers


def token_ids(*values: Any) -> list[int]:
    """Those of the values that are ids, alone or in lists."""
    flat: list[int] = []
    for value in values:
        flat += token_ids(*value) if isinstance(value, (list, tuple)) else [value] if isinstance(value, int) else []
    return flat
