"""Where the pads of a batch are: what the mask hides, and runs of pad tokens at the ends of a row."""

from typing import NamedTuple


class Pads(NamedTuple):
    """Of one row: how many pads stand before and after its text, and how many of all are not masked."""

    left: int
    right: int
    attended: int


def find_pads(
    rows: list[list[int]], masks: list[list[int]] | None, pad_ids: set[int], ends: set[int], inferred: int | None
) -> list[Pads]:
    """Of each row. A pad is what the mask hides, or a run of `pad_ids` at an end of the row.

    A pad token that is also among `ends`, the first or last tokens of a text (BOS, EOS), counts only where rows differ
    in it. `inferred` is the pad id that `generate` masks by itself where no mask is given, or None.
    """
    ambiguous = pad_ids & ends  # a text may begin or end with these itself
    hides = masks is not None and any(0 in mask for mask in masks)  # then it knows those better than we do
    if hides:
        pad_ids = pad_ids - ambiguous
    left = [_run(row, pad_ids) for row in rows]
    right = [_run(row[::-1], pad_ids) for row in rows]
    if ambiguous:
        left, right = _beyond_common(left), _beyond_common(right)
    masks = masks or [[1] * len(row) for row in rows]
    return [_pads(*ends_of_row, inferred) for ends_of_row in zip(rows, masks, left, right, strict=True)]


def _pads(row: list[int], mask: list[int], before: int, after: int, inferred: int | None) -> Pads:
    width = len(row)
    if 1 not in mask:
        return Pads(width, 0, 0)
    before, after = max(before, mask.index(1)), max(after, mask[::-1].index(1))
    if before + after > width:  # nothing but pads
        before, after = width, 0
    places = [*range(before), *range(width - after, width)]
    return Pads(before, after, sum(mask[place] and row[place] != inferred for place in places))


def _run(row: list[int], ids: set[int]) -> int:
    """How many of the first tokens are among `ids`."""
    for count, token in enumerate(row):
        if token not in ids:
            return count
    return len(row)


def _beyond_common(runs: list[int]) -> list[int]:
    """Drop what all rows share, and a single one that could be the text's own."""
    if not runs:
        return runs
    common = min(runs) if len(runs) > 1 else min(runs[0], 1)
    return [run - min(common, 1) for run in runs]
