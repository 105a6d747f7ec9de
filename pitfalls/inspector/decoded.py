"""Where the ids that a caller decodes stand in the output of a call."""

from typing import Any, NamedTuple

import torch

from pitfalls.inspector.call import Call, Decoded

SHORTEST = 2  # ids in a list that are looked for in the output; one id stands anywhere


class Address(NamedTuple):
    """Where in memory an output lies: slices of a tensor share it, so an empty one still tells where it was cut."""

    pointer: int
    offset: int
    strides: tuple[int, ...]


def address(output: Any) -> Address | None:
    if not isinstance(output, torch.Tensor) or output.ndim != 2 or not output.numel():
        return None
    return Address(output.untyped_storage().data_ptr(), output.storage_offset(), output.stride())


def located(call: Call, given: Any, skip_special_tokens: bool | None) -> list[Decoded]:
    """What was handed to `decode`, row by row, where it is one piece of a row of this call's output."""
    if not call.made:
        return []
    outputs = call.output_ids.tolist()
    if isinstance(given, torch.Tensor):
        rows = [given] if given.ndim == 1 else list(given) if given.ndim == 2 else []
        found = [_in_memory(call.address, outputs, row) or _by_content(call, outputs, row.tolist()) for row in rows]
    else:
        found = [_by_content(call, outputs, row) for row in _rows(given)]
    return [Decoded(ids, skip_special_tokens, row, first) for ids, row, first in filter(None, found)]


Piece = tuple[list[int], int, int]  # ids, row, place of the first


def _in_memory(own: Address | None, outputs: list[list[int]], ids: torch.Tensor) -> Piece | None:
    """By the memory that a slice shares with the output."""
    if own is None or ids.untyped_storage().data_ptr() != own.pointer or ids.dtype not in (torch.int64, torch.int32):
        return None
    if len(ids) > 1 and ids.stride(0) != own.strides[1]:
        return None
    row, rest = divmod(ids.storage_offset() - own.offset, own.strides[0])
    first = rest // own.strides[1]
    if not len(ids) and first == 0 and row > 0:  # an empty piece at the end of a row is one at the start of the next
        row, first = row - 1, len(outputs[0])
    values = ids.tolist()
    if not 0 <= row < len(outputs):
        return None
    return (values, row, first) if outputs[row][first : first + len(values)] == values else None


def _by_content(call: Call, outputs: list[list[int]], ids: list[int]) -> Piece | None:
    """By the ids themselves: at an end of a row rather than somewhere in it."""
    if len(ids) < SHORTEST:
        return None
    for row, output in enumerate(outputs):
        for first in (0, len(output) - len(ids), call.start):
            if first >= 0 and output[first : first + len(ids)] == ids:
                return ids, row, first
    for row, output in enumerate(outputs):
        for first in range(len(output) - len(ids) + 1):
            if output[first : first + len(ids)] == ids:
                return ids, row, first
    return None


def _rows(given: Any) -> list[list[int]]:
    """Ids as lists, one for each row, where they are arrays or lists, or lists of tensors."""
    given = given.tolist() if hasattr(given, "tolist") else given
    if not isinstance(given, (list, tuple)) or not given:
        return []
    if isinstance(given[0], int):
        return [list(given)]
    rows = [row.tolist() if hasattr(row, "tolist") else list(row) for row in given]
    return [row for row in rows if row and isinstance(row[0], int)]
