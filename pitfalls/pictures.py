"""Figures of tokens, probabilities, padding, templates and memory, for lessons and for your own calls.

Every function returns a closed matplotlib `Figure`: leave it as the last line of a cell to show it, or `savefig` it.
The title states the finding. Prompt, new, special and padding tokens differ in shade and hatch, not only in colour.
"""

import io
import re
from collections.abc import Mapping, Sequence
from functools import cache

import torch
from matplotlib import font_manager
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch
from matplotlib.text import Text

from pitfalls.calls import Call, Candidate, Step

WIDTH = 9.0  # inches: a notebook's column
LETTERS = 104  # monospace letters of size 9 across that width

STYLES = {
    "prompt": {"facecolor": "#e4e4e4", "edgecolor": "#8a8a8a"},
    "new": {"facecolor": "#f5b041", "edgecolor": "#b36b00"},
    "end": {"facecolor": "#444444", "edgecolor": "#000000"},
    "special": {"facecolor": "#ffffff", "edgecolor": "#5f5f5f", "linestyle": "--"},
    "padding": {"facecolor": "#ffffff", "edgecolor": "#b0b0b0", "hatch": "////"},
    "system": {"facecolor": "#9d82d6", "edgecolor": "#5b3c99"},
    "user": {"facecolor": "#d3ecff", "edgecolor": "#1f6aa5"},
    "assistant": {"facecolor": "#f5b041", "edgecolor": "#b36b00"},
}
BAR, BAR_CHOSEN = "#9fbdd9", "#d9730d"


def visible(text: str) -> str:
    """Spaces and line breaks as signs that can be seen: `·`, `⏎`, `⇥`. Letters that the font lacks as `\\u672c`."""
    return "".join(_SIGNS.get(letter) or (letter if _drawable(letter) else ascii(letter)[1:-1]) for letter in text)


_SIGNS = {" ": "·", "\n": "⏎", "\t": "⇥"}


def _drawable(letter: str) -> bool:
    return letter.isprintable() and ord(letter) in _font()


@cache
def _font() -> frozenset[int]:
    return frozenset(font_manager.get_font(font_manager.findfont("monospace")).get_charmap())


def token_strip(
    source: Call | torch.Tensor | Sequence[int], tokenizer, row: int = 0, title: str | None = None
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
    cells = [_cell(tokenizer, token_id, "prompt") for token_id in prompt]
    cells += [_cell(tokenizer, token_id, "new") for token_id in new]
    if new and recorded.stopped_by == "end-of-sequence":
        cells[-1] = (*cells[-1][:2], "end")
    lines = _wrap(cells)
    figure, axis = _canvas(0.5 + 0.48 * len(lines), title)
    _draw_cells(axis, lines)
    return figure


def next_token(
    source: Step | torch.Tensor | Mapping[str, torch.Tensor], tokenizer, top: int = 10, title=None
) -> Figure:
    """The likeliest next tokens as bars with their probabilities, and what is left for all the others.

    `source` is a recorded step, logits of shape (vocabulary,), or several logits by name: then one panel each,
    with the tokens of the first.
    """
    taken = None
    if isinstance(source, Step):
        candidates, taken = _shown(source, top)
        panels = {"": [(c.text, c.probability) for c in candidates]}
    else:
        named = source if isinstance(source, Mapping) else {"": source}
        probabilities = {name: torch.softmax(logits.detach().float().flatten(), -1) for name, logits in named.items()}
        first = next(iter(probabilities.values()))
        ids = first.topk(min(top, len(first))).indices.tolist()
        panels = {name: [(tokenizer.decode([i]), p[i].item()) for i in ids] for name, p in probabilities.items()}
    title = title or _finding(next(iter(panels.values())))
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 0.9 + 0.27 * top), sharey=True, squeeze=False)
    for axis, (name, bars) in zip(axes[0], panels.items(), strict=True):
        _draw_bars(axis, bars, taken)
        axis.set_title(name, fontsize=10)
    axes[0][0].invert_yaxis()
    return _titled(figure, title)


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
            label = f"{_short(visible(candidate.text), letters)}\n{share}"
            axis.text(x, y, label, ha="center", va="center", fontsize=8, family="monospace")
    axis.set(xlim=(-0.6, len(shown) - 0.4), ylim=(top - 0.4, -0.6), yticks=range(top), xticks=range(len(shown)))
    word = "step " if len(shown) <= 14 else ""
    axis.set_xticklabels([f"{word}{first + n + 1}" for n in range(len(shown))], fontsize=8)
    axis.set_yticklabels([*(f"{n + 1}." for n in range(top - 1)), f"{'≥' if replaced else ''}{top}."], fontsize=8)
    _no_frame(axis)
    return _titled(figure, title)


def padding(inputs: Mapping, tokenizer, title: str | None = None) -> Figure:
    """A batch as a grid: each token with its mask (0 is hatched) and the position id that `generate` gives it.

    `inputs` holds `input_ids` and `attention_mask`, both of shape (batch, tokens). The position of a token is the
    number of unmasked tokens before it, as in transformers' `_prepare_position_ids_for_generation`.
    """
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    letters = max(4, min(9, 90 // ids.shape[1]))  # what fits into a column
    texts = [[_short(visible(tokenizer.decode([i])), letters) for i in row] for row in ids.tolist()]
    figure, axis = plt.subplots(figsize=(max(WIDTH, 0.45 * ids.shape[1]), 0.9 + 0.72 * len(texts)))
    for y, row in enumerate(texts):
        for x, text in enumerate(row):
            seen = bool(mask[y, x])
            box = plt.Rectangle((x - 0.47, y - 0.44), 0.94, 0.88, **STYLES["prompt" if seen else "padding"])
            axis.add_patch(box)
            note = f"mask 1\npos {positions[y, x]}" if seen else "mask 0"
            axis.text(x, y - 0.2, text if seen else "pad", ha="center", va="center", fontsize=9, family="monospace")
            axis.text(x, y + 0.2, note, ha="center", va="center", fontsize=6.5)
    ends_on_pad = int((mask[:, -1] == 0).sum())
    title = title or (
        f"{ends_on_pad} of {len(texts)} rows end on padding: what follows continues a pad, not the prompt"
        if ends_on_pad
        else "Every row ends on a token of its own: what follows continues the prompt"
    )
    x_right = ids.shape[1] - 0.5
    axis.axvline(x_right, color="black", linewidth=2)
    axis.text(x_right + 0.1, (len(texts) - 1) / 2, "new tokens\ngo here →", va="center", fontsize=8)
    axis.set(xlim=(-0.6, x_right + 1.4), ylim=(len(texts) - 0.4, -0.6), xticks=[], yticks=range(len(texts)))
    axis.set_yticklabels([f"row {n}" for n in range(len(texts))], fontsize=8)
    _no_frame(axis)
    return _titled(figure, title)


def chat(tokenizer, messages: list[dict], add_generation_prompt: bool = True, title: str | None = None) -> Figure:
    """What `apply_chat_template` makes of the messages, coloured by role; what the template adds itself is dashed."""
    parts = _chat_parts(tokenizer, messages, add_generation_prompt)
    cells = [
        (piece, "", role if role in STYLES else "new")
        for role, part in parts
        for piece in _pieces(visible(part).replace("⏎", "⏎\n"))
    ]
    lines = _wrap(cells)
    own = sum(len(part) for role, part in parts if role != "special")
    template = sum(len(part) for role, part in parts if role == "special")
    title = title or f"{own} characters are yours, {template} come from the template"
    figure, axis = _canvas(0.85 + 0.34 * len(lines), title, below=0.3)
    _draw_cells(axis, lines, height=0.62)
    roles = ["special", *dict.fromkeys(message["role"] for message in messages if message["role"] in STYLES)]
    handles = [Patch(label="template" if role == "special" else role, **STYLES[role]) for role in roles]
    figure.legend(handles=handles, loc="lower left", ncols=len(handles), fontsize=8, frameon=False)
    return figure


def memory(bytes_by_format: Mapping[str, int], title: str | None = None) -> Figure:
    """The size of the same weights in each format, in MB or GB, and of the smallest against the first."""
    names, sizes = list(bytes_by_format), list(bytes_by_format.values())
    least = min(range(len(sizes)), key=sizes.__getitem__)
    labels = [f"{size / 1e9:.1f} GB" if max(sizes) >= 2e9 else f"{size / 1e6:.0f} MB" for size in sizes]
    finding = f"{sizes[least] / sizes[0]:.0%} of the memory of {names[0]}" if least else labels[0]
    figure, axis = plt.subplots(figsize=(WIDTH, 0.8 + 0.42 * len(sizes)))
    bars = axis.barh(names, sizes, color=BAR, edgecolor="black", linewidth=0.6)
    axis.bar_label(bars, [f" {label}" for label in labels], fontsize=9)
    axis.set_xlim(0, max(sizes) * 1.15)
    axis.invert_yaxis()
    axis.set_xticks([])
    _no_frame(axis)
    return _titled(figure, title or f"{names[least]} takes {finding}")


def loop(call: Call, tokenizer, step: int, top: int = 8) -> Figure:
    """One turn of the generation loop: the text so far, the candidates for the next token, the one that is taken.

    Raises `ValueError` for a call without recorded steps.
    """
    recorded, current = call.rows[0], _recorded_steps(call, 0)[step]
    so_far = [_cell(tokenizer, i, "prompt") for i in recorded.prompt_ids]
    so_far += [_cell(tokenizer, i, "new") for i in recorded.new_ids[:step]]
    figure, (above, below) = plt.subplots(2, 1, figsize=(WIDTH, 3.6), height_ratios=[1, 2.4])
    lines = _wrap(so_far)[-2:]
    _prepare_canvas(above)
    _draw_cells(above, lines)
    above.set_ylim(1.5, -0.5)
    candidates, taken = _shown(current, top)
    _draw_bars(below, [(c.text, c.probability) for c in candidates], taken)
    below.set_xlim(0, 1.1)
    below.invert_yaxis()
    return _titled(
        figure, f"Step {step + 1}: '{visible(current.chosen.text)}' is taken, at {_percent(current.chosen.probability)}"
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


# --- drawing -----------------------------------------------------------------------------------------------------


def _cell(tokenizer, token_id: int, style: str) -> tuple[str, str, str]:
    if token_id in tokenizer.all_special_ids:
        style = "special"
    text = tokenizer.decode([token_id])
    return visible(text if "�" not in text else tokenizer.convert_ids_to_tokens(token_id)), str(token_id), style


def _chat_parts(tokenizer, messages: list[dict], add_generation_prompt: bool) -> list[tuple[str, str]]:
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


def _recorded_steps(call: Call, row: int) -> list[Step]:
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


def _pieces(text: str) -> list[str]:
    """Words that may stand on different lines; a line break ends a piece."""
    return [word for line in text.splitlines(keepends=True) for word in _words(line)]


def _words(line: str) -> list[str]:
    words, room = [], LETTERS - 6
    for start in range(0, len(line), room):
        words.append(line[start : start + room])
    return words


def _wrap(cells: list[tuple[str, str, str]]) -> list[list[tuple[str, str, str]]]:
    lines, used = [[]], 0.0
    for text, note, style in cells:
        width = _width(text, note)
        if lines[-1] and used + width > LETTERS:
            lines, used = [*lines, []], 0.0
        lines[-1].append((text.rstrip("\n"), note, style))
        used += width
        if text.endswith("\n"):
            lines, used = [*lines, []], 0.0
    return [line for line in lines if line] or [[]]


def _width(text: str, note: str) -> float:
    return max(len(text.rstrip("\n")), 0.75 * len(note)) + 1.2


def _canvas(height: float, title: str, below: float = 0) -> tuple[Figure, plt.Axes]:
    figure, axis = plt.subplots(figsize=(WIDTH, height))
    _prepare_canvas(axis)
    return _titled(figure, title, below / height), axis


def _prepare_canvas(axis) -> None:
    axis.set_xlim(0, LETTERS)
    axis.axis("off")


def _draw_cells(axis, lines, height: float = 0.86) -> None:
    for y, line in enumerate(lines):
        x = 0.0
        for text, note, style in line:
            width = _width(text, note)
            axis.add_patch(FancyBboxPatch((x + 0.15, y - height / 2), width - 0.3, height,
                                          boxstyle="round,pad=0,rounding_size=0.12", mutation_aspect=0.2,
                                          linewidth=0.8, **STYLES[style]))  # fmt: skip
            ink = "white" if style == "end" else "black"
            axis.text(x + width / 2, y - (0.16 if note else 0), text, ha="center", va="center", fontsize=9,
                      family="monospace", color=ink, parse_math=False)  # fmt: skip
            axis.text(x + width / 2, y + 0.25, note, ha="center", va="center", fontsize=6, color=ink)
            x += width
    axis.set_ylim(len(lines) - 0.5, -0.5)


def _draw_bars(axis, bars: list[tuple[str, float]], taken: int | None) -> None:
    names = [f"{_short(visible(text), 14)}" for text, _ in bars]
    colors = [BAR_CHOSEN if n == taken else BAR for n in range(len(bars))]
    drawn = axis.barh(range(len(bars)), [p for _, p in bars], color=colors, edgecolor="black", linewidth=0.6)
    for n, bar in enumerate(drawn):
        bar.set_linewidth(2 if n == taken else 0.6)
    axis.bar_label(drawn, [f" {_percent(p)}" for _, p in bars], fontsize=8)
    axis.set_yticks(range(len(bars)), names, family="monospace", fontsize=9)
    axis.set_xlim(0, max(0.05, *(p for _, p in bars)) * 1.22)
    axis.set_xticks([])
    _no_frame(axis)


def _finding(bars: list[tuple[str, float]]) -> str:
    text, probability = bars[0]
    share = sum(p for _, p in bars)
    return f"'{visible(text)}' gets {_percent(probability)}; these {len(bars)} tokens share {_percent(share)}"


def _percent(probability: float) -> str:
    if probability >= 0.001:
        return f"{probability:.1%}"
    return f"{probability * 100:.1g}%" if probability >= 1e-5 else "<0.001%"


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _no_frame(axis) -> None:
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)


def _titled(figure: Figure, title: str, below: float = 0) -> Figure:
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a dollar sign is one
    figure.tight_layout(rect=(0, below, 1, 1))
    plt.close(figure)
    return figure
