"""Figures of tokens, probabilities, padding, templates and memory, for lessons and for your own calls.

Every function returns a closed matplotlib `Figure`: leave it as the last line of a cell to show it, or `savefig` it.
The title states the finding. Prompt, new, special and padding tokens differ in shade and hatch, not only in colour.
"""

import io
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pitfalls.inspector.call import Call
from pitfalls.inspector.rows import Candidate, Step
from pitfalls.pictures.drawing import (
    BAR,
    STYLES,
    WIDTH,
    canvas,
    cell,
    draw_bars,
    draw_cells,
    finding,
    no_frame,
    percent,
    pieces,
    prepare_canvas,
    short,
    titled,
    visible,
    wrap,
)

COLUMNS = 16  # of a batch, that can still be read side by side


def token_strip(
    source: Call | torch.Tensor | Sequence[int], tokenizer: Any, row: int = 0, title: str | None = None
) -> Figure:
    """The tokens of one row as boxes with their ids: prompt grey, new orange, special dashed, the end token black.

    `source` is a recorded call, or token ids of shape (tokens,).
    """
    if isinstance(source, Call):
        recorded = source.rows[row]
        prompt, new = recorded.prompt_ids, recorded.new_ids
        title = title or f"{len(prompt)} prompt tokens + {len(new)} new; stopped by {recorded.stopped_by}"
    else:
        prompt, new = torch.as_tensor(source).flatten().tolist(), []
        title = title or f"{len(prompt)} tokens"
    cells = [cell(tokenizer, token_id, "prompt") for token_id in prompt]
    cells += [cell(tokenizer, token_id, "new") for token_id in new]
    if new and recorded.stopped_by == "end-of-sequence":
        cells[-1] = (*cells[-1][:2], "end")
    lines = wrap(cells)
    figure, axis = canvas(0.5 + 0.48 * len(lines), title)
    draw_cells(axis, lines)
    return figure


def next_token(
    source: Step | torch.Tensor | Mapping[str, torch.Tensor], tokenizer: Any, top: int = 10, title: str | None = None
) -> Figure:
    """The likeliest next tokens as bars with their probabilities, and what is left for all the others.

    `source` is a recorded step, logits of shape (vocabulary,), or several logits by name: then one panel each,
    all with the same tokens, the likeliest of each.
    """
    taken = None
    if isinstance(source, Step):
        candidates, taken = _shown(source, top)
        panels = {"": [(c.text, c.probability) for c in candidates]}
    else:
        named = source if isinstance(source, Mapping) else {"": source}
        probabilities = {name: torch.softmax(logits.detach().float().flatten(), -1) for name, logits in named.items()}
        share = math.ceil(top / len(probabilities))
        best = [p.topk(min(share, len(p))).indices.tolist() for p in probabilities.values()]
        ids = list(dict.fromkeys(itertools.chain(*best)))
        panels = {name: [(tokenizer.decode([i]), p[i].item()) for i in ids] for name, p in probabilities.items()}
    title = title or finding(next(iter(panels.values())))
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 0.9 + 0.27 * top), sharey=True, squeeze=False)
    for axis, (name, bars) in zip(axes[0], panels.items(), strict=True):
        draw_bars(axis, bars, taken)
        axis.set_title(name, fontsize=10)
    axes[0][0].invert_yaxis()
    return titled(figure, title)


def generation(
    call: Call, row: int = 0, first: int = 0, steps: int = 8, top: int = 5, title: str | None = None
) -> Figure:
    """Generation step by step: one column a step, its candidates from likely to less likely, the taken one framed.

    Raises `ValueError` for a call without recorded steps.
    """
    shown = _recorded_steps(call, row)[first : first + steps]
    if not shown:
        raise ValueError(f"Step {first} is beyond the {len(call.rows[row].steps)} recorded ones.")
    greedy = sum(step.chosen.token_id == step.candidates[0].token_id for step in shown)
    title = title or f"In {greedy} of {len(shown)} steps the likeliest token was taken"
    figure, axis = plt.subplots(figsize=(WIDTH, 0.9 + 0.36 * (top + 1)))
    letters = min(10, 110 // len(shown))  # what fits into a column
    replaced = any(step.chosen.token_id not in [c.token_id for c in step.candidates[:top]] for step in shown)
    for x, step in enumerate(shown):
        candidates, taken_at = _shown(step, top)
        for y, candidate in enumerate(candidates):
            taken = y == taken_at
            shade = 1 - 0.6 * candidate.probability
            axis.add_patch(
                plt.Rectangle((x - 0.47, y - 0.44), 0.94, 0.88, facecolor=(1, shade, shade * 0.85),
                              edgecolor="black" if taken else "#cccccc", linewidth=2 if taken else 0.6)
            )  # fmt: skip
            share = f"{candidate.probability:.0%}" if candidate.probability >= 0.005 else "<1%"
            label = f"{short(visible(candidate.text), letters)}\n{share}"
            axis.text(x, y, label, ha="center", va="center", fontsize=8, family="monospace")
    axis.set(xlim=(-0.6, len(shown) - 0.4), ylim=(top - 0.4, -0.6), yticks=range(top), xticks=range(len(shown)))
    word = "step " if len(shown) <= 14 else ""
    axis.set_xticklabels([f"{word}{first + n + 1}" for n in range(len(shown))], fontsize=8)
    axis.set_yticklabels([*(f"{n + 1}." for n in range(top - 1)), f"{'≥' if replaced else ''}{top}."], fontsize=8)
    no_frame(axis)
    return titled(figure, title)


def padding(inputs: Mapping, tokenizer: Any, title: str | None = None) -> Figure:
    """A batch as a grid: each token with its mask (0 is hatched) and the position id that `generate` gives it.

    A wide batch is shown by its first and its last columns.
    `inputs` holds `input_ids` and `attention_mask`, both of shape (batch, tokens). The position of a token is the
    number of unmasked tokens before it, as in transformers' `_prepare_position_ids_for_generation`.
    """
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    columns: list[int | None] = list(range(ids.shape[1]))
    if len(columns) > COLUMNS:
        columns = [*columns[:3], None, *columns[4 - COLUMNS :]]
    letters = max(4, min(9, 90 // len(columns)))  # what fits into a column
    texts = [short(visible(tokenizer.decode([i])), letters) for i in ids.flatten().tolist()]
    figure, axis = plt.subplots(figsize=(max(WIDTH, 0.45 * len(columns)), 0.9 + 0.72 * len(ids)))
    for y, (x, column) in itertools.product(range(len(ids)), enumerate(columns)):
        if column is None:
            axis.text(x, y, "…", ha="center", va="center", fontsize=12)
        else:
            seen, text = bool(mask[y, column]), texts[y * ids.shape[1] + column]
            box = plt.Rectangle((x - 0.47, y - 0.44), 0.94, 0.88, **STYLES["prompt" if seen else "padding"])
            axis.add_patch(box)
            note = f"mask 1\npos {positions[y, column]}" if seen else "mask 0"
            axis.text(x, y - 0.2, text if seen else "pad", ha="center", va="center", fontsize=9, family="monospace")
            axis.text(x, y + 0.2, note, ha="center", va="center", fontsize=6.5)
    ends_on_pad = int((mask[:, -1] == 0).sum())
    title = title or (
        f"{ends_on_pad} of {len(ids)} rows end on padding: what follows continues a pad, not the prompt"
        if ends_on_pad
        else "Every row ends on a token of its own: what follows continues the prompt"
    )
    x_right = len(columns) - 0.5
    axis.axvline(x_right, color="black", linewidth=2)
    axis.text(x_right + 0.1, (len(ids) - 1) / 2, "new tokens\ngo here →", va="center", fontsize=8)
    axis.set(xlim=(-0.6, x_right + 1.4), ylim=(len(ids) - 0.4, -0.6), xticks=[], yticks=range(len(ids)))
    axis.set_yticklabels([f"row {n}" for n in range(len(ids))], fontsize=8)
    no_frame(axis)
    return titled(figure, title)


def chat(tokenizer: Any, messages: list[dict], add_generation_prompt: bool = True, title: str | None = None) -> Figure:
    """What `apply_chat_template` makes of the messages, coloured by role; what the template adds itself is dashed."""
    parts = chat_parts(tokenizer, messages, add_generation_prompt)
    cells = [
        (piece, "", role if role in STYLES else "new")
        for role, part in parts
        for piece in pieces(visible(part).replace("⏎", "⏎\n"))
    ]
    lines = wrap(cells)
    own = sum(len(part) for role, part in parts if role != "special")
    template = sum(len(part) for role, part in parts if role == "special")
    title = title or f"{own} characters are yours, {template} come from the template"
    figure, axis = canvas(0.85 + 0.34 * len(lines), title, below=0.3)
    draw_cells(axis, lines, height=0.62)
    roles = ["special", *dict.fromkeys(message["role"] for message in messages if message["role"] in STYLES)]
    handles = [Patch(label="template" if role == "special" else role, **STYLES[role]) for role in roles]
    figure.legend(handles=handles, loc="lower left", ncols=len(handles), fontsize=8, frameon=False)
    return figure


def memory(bytes_by_format: Mapping[str, int], title: str | None = None) -> Figure:
    """The size of the same weights in each format, in MB or GB, and of the smallest against the first."""
    names, sizes = list(bytes_by_format), list(bytes_by_format.values())
    least = min(range(len(sizes)), key=sizes.__getitem__)
    labels = [f"{size / 1e9:.1f} GB" if max(sizes) >= 2e9 else f"{size / 1e6:.0f} MB" for size in sizes]
    takes = f"{sizes[least] / sizes[0]:.0%} of the memory of {names[0]}" if least else labels[0]
    figure, axis = plt.subplots(figsize=(WIDTH, 0.8 + 0.42 * len(sizes)))
    bars = axis.barh(names, sizes, color=BAR, edgecolor="black", linewidth=0.6)
    axis.bar_label(bars, [f" {label}" for label in labels], fontsize=9)
    axis.set_xlim(0, max(sizes) * 1.15)
    axis.invert_yaxis()
    axis.set_xticks([])
    no_frame(axis)
    return titled(figure, title or f"{names[least]} takes {takes}")


def loop(call: Call, tokenizer: Any, step: int, top: int = 8) -> Figure:
    """One turn of the generation loop: the text so far, the candidates for the next token, the one that is taken.

    Raises `ValueError` for a call without recorded steps.
    """
    recorded, current = call.rows[0], _recorded_steps(call, 0)[step]
    so_far = [cell(tokenizer, i, "prompt") for i in recorded.prompt_ids]
    so_far += [cell(tokenizer, i, "new") for i in recorded.new_ids[:step]]
    figure, (above, below) = plt.subplots(2, 1, figsize=(WIDTH, 3.6), height_ratios=[1, 2.4])
    lines = wrap(so_far)[-2:]
    prepare_canvas(above)
    draw_cells(above, lines)
    above.set_ylim(1.5, -0.5)
    candidates, taken = _shown(current, top)
    draw_bars(below, [(c.text, c.probability) for c in candidates], taken)
    below.set_xlim(0, 1.1)
    below.invert_yaxis()
    return titled(
        figure, f"Step {step + 1}: '{visible(current.chosen.text)}' is taken, at {percent(current.chosen.probability)}"
    )


def animate(figures: Sequence[Figure], seconds: float = 1.2):
    """The figures one after the other, for ever, as one image that a saved notebook keeps (an animated PNG).

    Raises `ValueError` for no figures, or figures of different sizes.
    """
    from IPython.display import Image as NotebookImage
    from PIL import Image

    frames = []
    for figure in figures:
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=80, facecolor="white")
        frames.append(Image.open(buffer).convert("RGB"))
    if len({frame.size for frame in frames}) != 1:
        raise ValueError("An animation takes one figure or more, all of one size.")
    width, height = frames[0].size
    together = Image.new("RGB", (width, height * len(frames)))  # one palette: Pillow 11 keeps no other
    for n, frame in enumerate(frames):
        together.paste(frame, (0, n * height))
    together = together.quantize(64)
    frames = [together.crop((0, n * height, width, (n + 1) * height)) for n in range(len(frames))]
    stream = io.BytesIO()
    times = [int(seconds * 1000)] * (len(frames) - 1) + [int(seconds * 2500)]
    frames[0].save(stream, format="PNG", save_all=True, append_images=frames[1:], duration=times, loop=0)
    return NotebookImage(data=stream.getvalue(), format="png")


def chat_parts(tokenizer: Any, messages: list[dict], add_generation_prompt: bool) -> list[tuple[str, str]]:
    """The rendered messages as (role or "special", text). A rendering of marks shows where the contents stand."""

    def render(chat: list[dict]) -> str:
        return tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=add_generation_prompt)

    text = render(messages)
    marked = render([message | {"content": f"\ue000{n}\ue001"} for n, message in enumerate(messages)])
    before, *rest = re.split("\ue000(\\d+)\ue001", marked)
    parts, position = [], 0
    for number, after in zip(rest[::2], rest[1::2], strict=True):
        message, start = messages[int(number)], position + len(before)
        stripped = message["content"].strip()
        own = next((own for own in (message["content"], stripped) if text.startswith(own + after, start)), None)
        if own is None:  # a template that treats this content in its own way
            own, start = stripped, text.find(stripped, position)
        if own and start >= 0:
            parts += [("special", text[position:start]), (message["role"], own)]
            position, before = start + len(own), after
        else:
            before = before + after
    return [*parts, ("special", text[position:])]


def _recorded_steps(call: Call, row: int) -> Sequence[Step]:
    if not call.rows[row].steps:
        raise ValueError("This call has no recorded steps: beam search and assisted decoding leave none.")
    return call.rows[row].steps


def _shown(step: Step, top: int) -> tuple[list[Candidate], int]:
    """The likeliest candidates and the place of the taken one among them; it is the last if it was less likely."""
    shown = step.candidates[:top]
    ids = [candidate.token_id for candidate in shown]
    if step.chosen.token_id in ids:
        return shown, ids.index(step.chosen.token_id)
    return [*shown[: top - 1], step.chosen], min(top, len(shown) + 1) - 1
