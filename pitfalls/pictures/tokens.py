"""Figures of tokens: those of one row, and those of a padded batch."""

import itertools
from collections.abc import Mapping, Sequence
from itertools import accumulate

import torch
from matplotlib.patches import Patch, Rectangle
from transformers import PreTrainedTokenizerBase

from pitfalls.inspector.call import Call
from pitfalls.inspector.pads import find_pads
from pitfalls.language import _, ngettext, right_to_left
from pitfalls.pictures.drawing import (
    BAR_CHOSEN,
    ON_HATCHES,
    SMALLEST,
    STYLES,
    WIDTH,
    Picture,
    canvas,
    cell,
    draw_cells,
    letters,
    no_frame,
    short,
    subplots,
    titled,
    visible,
    wrap,
)
from pitfalls.pictures.sources import at_least_one, batch_of, ids_of, row_of

COLUMNS = 13  # of a batch, that can still be read side by side
FIRST = 3  # of them, where some are left out after these
NAME = 16  # letters of a row's name
ROOM = 100 * WIDTH - 130  # hundredths of an inch for the columns and the names of the rows
LETTER, NOTE = 0.6 / 0.72, 6.3  # the width of a monospace letter, by its size; of a letter of a note
GAP = 1.7  # at both sides of a box


def token_strip(
    source: Call | torch.Tensor | Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    row: int = 0,
    title: str | None = None,
    budget: int | None = None,
    user: str = "",
) -> Picture:
    """The tokens of one row as boxes with their ids: prompt grey, new orange, special dashed, the end token black.

    `source` is a recorded call, or token ids of shape (tokens,). With `budget`, what a smaller `max_new_tokens` would
    have cut off is hatched, after a pair of scissors. The tokens of the text `user`, where it stands in the prompt, are
    blue with a bold edge, the special ones among them too.
    """
    if budget is not None:
        at_least_one(budget=budget)
    if isinstance(source, Call):
        recorded = row_of(source, row)
        prompt, new = recorded.prompt_ids, recorded.new_ids
        left = len(new) if budget is None else min(budget, len(new))
        title = title or _call_told(len(prompt), left, len(new) - left, recorded.stopped_by)
    else:
        prompt, new = ids_of(source), []
        title = title or ngettext("{n} tokens", "{n} tokens", len(prompt))
    cells = [cell(tokenizer, token_id, "prompt") for token_id in prompt]
    own = _tokens_of(user, prompt, tokenizer) if user else range(0)
    for n in own:
        cells[n] = (*cells[n][:2], "own special" if cells[n][2] == "special" else "own")
    cells += [cell(tokenizer, token_id, "new") for token_id in new]
    if new and recorded.stopped_by == "end-of-sequence":
        cells[-1] = (*cells[-1][:2], "end")
    if budget is not None and len(new) > budget:
        cut = len(prompt) + budget
        cells[cut:] = [("✂", "", "end"), *((text, note, "padding") for text, note, _ in cells[cut:])]
    lines = wrap(cells)
    texts = [text for text, note, style in cells]
    alt, below = _("Tokens: {tokens}", tokens=" ".join(texts)), 0.3 if own else 0
    if own:
        users = " ".join(texts[n] for n in own)
        alt = _("Tokens: {tokens}. The user's: {users}", tokens=" ".join(texts), users=users)
    figure, axis = canvas(0.5 + below + 0.48 * len(lines), title, alt, below)
    draw_cells(axis, lines)
    if own:
        labels = {"special": _("special token"), "own": _("the user's text"), "own special": _("special token in it")}
        drawn = {style for text, note, style in cells}
        handles = [Patch(label=label, **STYLES[style]) for style, label in labels.items() if style in drawn]
        figure.legend(handles=handles, loc="lower left", ncols=len(handles), fontsize=SMALLEST, frameon=False)
    return figure


def _call_told(prompt: int, new: int, cut: int, reason: str) -> str:
    if cut:
        return _("{prompt} prompt tokens + {new} new; {cut} more are cut off", prompt=prompt, new=new, cut=cut)
    return _("{prompt} prompt tokens + {new} new; stopped by {reason}", prompt=prompt, new=new, reason=reason)


def _tokens_of(text: str, ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> range:
    """The places of the tokens that hold this text, or a part of it."""
    so_far = [tokenizer.decode(ids[: n + 1], clean_up_tokenization_spaces=False) for n in range(len(ids))]
    before, found = so_far[-1].partition(text)[:2] if so_far else ("", "")
    if not found:
        raise ValueError(_("The text of the user, {text!r}, does not stand in these tokens.", text=short(text, 40)))
    first = next(n for n, read in enumerate(so_far) if len(read) > len(before))
    return range(first, next(n for n, read in enumerate(so_far) if read.startswith(before + text)) + 1)


def padding(
    inputs: Mapping[str, torch.Tensor],
    tokenizer: PreTrainedTokenizerBase,
    title: str | None = None,
    names: Sequence[str] | None = None,
) -> Picture:
    """A batch as a grid: each token with its mask (0 is hatched) and the position id that `generate` gives it.

    A wide batch is shown by its first and its last columns. Pads before a text that are read, as the mask is 1 there,
    are hatched too, with an orange edge.
    `names` are those of the rows, such as their texts; without them the rows are counted.
    `inputs` holds `input_ids` and `attention_mask`, both of shape (batch, tokens). The position of a token is the
    number of unmasked tokens before it, as in transformers' `_prepare_position_ids_for_generation`.
    """
    ids, mask = batch_of(inputs)
    names = names or [_("row {row}", row=n) for n in range(len(ids))]
    if len(names) != len(ids):
        raise ValueError(
            _("`names` has one name for each of the {rows} rows, and not {names}.", rows=len(ids), names=len(names))
        )
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    texts = [visible(tokenizer.decode([i])) for i in ids.flatten().tolist()]
    ends = {i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None}
    pad_ids = {tokenizer.pad_token_id} - {None}
    before = [pads.left for pads in find_pads(ids.tolist(), mask.tolist(), pad_ids, ends, None)]
    shown = [
        ["pad" if x < pads or not mask[y, x] else texts[y * ids.shape[1] + x] for x in range(ids.shape[1])]
        for y, pads in enumerate(before)
    ]
    told, names = names, [short(name, NAME) for name in names]
    columns, widths, size = _fitting(shown, ROOM - 5.5 * max(map(letters, names)))
    edges = [0.0, *accumulate(widths)]
    figure, axis = subplots(figsize=(WIDTH, 0.9 + 0.8 * len(ids)))
    for y, (x, column) in itertools.product(range(len(ids)), enumerate(columns)):
        middle = (edges[x] + edges[x + 1]) / 2
        if column is None:
            hidden = ngettext("…\n{n} more\n…", "…\n{n} more\n…", ids.shape[1] - len(columns) + 1)
            axis.text(middle, y, hidden, ha="center", va="center", fontsize=SMALLEST)
            continue
        style = "padding" if not mask[y, column] else "read pad" if column < before[y] else "prompt"
        effects = ON_HATCHES if "hatch" in STYLES[style] else []
        left, width = edges[x] + GAP, widths[x] - 2 * GAP
        axis.add_patch(Rectangle((left, y - 0.44), width, 0.88, **STYLES[style]))
        position = int(positions[y, column])
        note = _("mask 1\npos {position}", position=position) if mask[y, column] else _("mask 0")
        axis.text(middle, y - 0.24, shown[y][column], ha="center", va="center", family="monospace", fontsize=size,
                  path_effects=effects)  # fmt: skip
        axis.text(middle, y + 0.18, note, ha="center", va="center", fontsize=SMALLEST, path_effects=effects)
    ends_on_pad = int((mask[:, -1] == 0).sum())
    if ends_on_pad:
        title = title or ngettext(
            "{n} of {rows} rows ends on padding: what follows continues a pad, not the prompt",
            "{n} of {rows} rows end on padding: what follows continues a pad, not the prompt",
            ends_on_pad,
            rows=len(ids),
        )
    title = title or _("Every row ends on a token of its own: what follows continues the prompt")
    x_right = edges[-1]
    for y in range(len(ids)):  # the token that new ones follow
        left, right, low, high = edges[-2] + GAP, x_right - GAP, y - 0.44, y + 0.44
        axis.plot([left, right, right, left, left], [low, low, high, high, low], color=BAR_CHOSEN, linewidth=2)
    axis.axvline(x_right, color="black", linewidth=2)
    axis.text(x_right + 6, (len(ids) - 1) / 2, _("new tokens\ngo here →"), va="center", fontsize=SMALLEST)
    axis.set(xlim=(-6, x_right + 66), ylim=(len(ids) - 0.4, -0.6), xticks=[], yticks=range(len(ids)))
    axis.set_yticklabels(names, fontsize=SMALLEST)
    no_frame(axis)
    rows = list(zip(told, mask.tolist(), before, strict=True))
    alt = ", ".join(
        _("{name} has {tokens} tokens and {pads} pads", name=name, tokens=sum(row), pads=row.count(0))
        for name, row, n in rows
    )
    read = [
        ngettext("{name}: {n} pads are read as text", "{name}: {n} pads are read as text", sum(row[:n]), name=name)
        for name, row, n in rows
        if any(row[:n])
    ]
    return titled(figure, title, _("A grid of tokens: {rows}.", rows="; ".join([alt, *read])))


def _fitting(shown: list[list[str]], room: float) -> tuple[list[int | None], list[float], int]:
    """The columns of a grid that fit into `room` with no token cut, their widths, and the size of the letters.

    Places that are left out stand as one None. A token that leaves no room for the last columns is shortened.
    """
    wide = len(shown[0])
    for most, size in [(COLUMNS, 9), *((most, SMALLEST) for most in range(COLUMNS, FIRST + 1, -1))]:
        columns: list[int | None] = list(range(wide))
        if wide > most:
            columns = [*columns[:FIRST], None, *columns[FIRST + 1 - most :]]
        note = 7 if wide <= 100 else 8  # letters of "pos 10", and of "pos 100", with some air
        note += 2 * right_to_left()  # whose letters are wider
        widths = [
            max(NOTE * note, *(LETTER * size * len(row[column]) + 10 for row in shown))
            if column is not None
            else NOTE * 8
            for column in columns
        ]
        if sum(widths) <= room:
            break
    else:
        widths = [min(width, room / len(columns)) for width in widths]
        longest = int((room / len(columns) - 10) / (LETTER * SMALLEST))
        for row in shown:
            row[:] = [short(text, longest) for text in row]
    return columns, [width + (room - sum(widths)) / len(columns) for width in widths], size
