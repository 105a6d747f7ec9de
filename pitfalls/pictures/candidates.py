"""Figures of what could come next: the candidates of one step, of several, and of a turn of the loop."""

import itertools
import math
from collections.abc import Collection, Mapping

import torch
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from transformers import PreTrainedTokenizerBase

from pitfalls.inspector.call import Call
from pitfalls.inspector.rows import Candidate, Step
from pitfalls.language import _
from pitfalls.pictures.drawing import (
    BAR_CHOSEN,
    SMALLEST,
    WIDTH,
    Picture,
    bars_title,
    cell,
    draw_bars,
    draw_cells,
    no_frame,
    percent,
    prepare_canvas,
    short,
    subplots,
    titled,
    told,
    visible,
    wrap,
)
from pitfalls.pictures.sources import at_least_one, probabilities_of, row_of, steps_of

CERTAIN = "#6fa3d4"  # a darker blue than that of bars


def next_token(
    source: Step | torch.Tensor | Mapping[str, torch.Tensor],
    tokenizer: PreTrainedTokenizerBase,
    top: int = 10,
    title: str | None = None,
    most: float | None = None,
    marked: Collection[str] = (),
    order: str | None = None,
) -> Picture:
    """The likeliest next tokens as bars with their probabilities, and what is left for all the others.

    `source` is a recorded step, logits of shape (vocabulary,), or several logits by name: then one panel each,
    all with the same tokens, the likeliest of each, without those that a filter has cut. The largest bar of all is on
    top, or that of the panel which `order` names. All panels share one scale. Tokens in `marked` stand out.
    Pictures that are to be compared share one where each is given the same `most`, the probability at which it ends.
    """
    at_least_one(top=top)
    taken = None
    if isinstance(source, Step):
        candidates, taken = _shown(source, top)
        panels = {"": [(c.text, c.probability) for c in candidates]}
    else:
        probabilities = probabilities_of(source)
        share = math.ceil(top / len(probabilities))
        best = [[i for i in p.topk(min(share, len(p))).indices.tolist() if p[i]] for p in probabilities.values()]
        ranks = [p.cpu() for name, p in probabilities.items() if order in (None, name)]
        if not ranks:
            raise ValueError(
                _("`order` is one of the panels, {panels}, and not {order!r}.", panels=list(probabilities), order=order)
            )
        ranked = torch.stack(ranks).amax(0)
        ids = sorted(dict.fromkeys(itertools.chain(*best)), key=lambda i: -ranked[i].item())
        panels = {name: [(tokenizer.decode([i]), p[i].item()) for i in ids] for name, p in probabilities.items()}
    title = title or bars_title(sorted(next(iter(panels.values())), key=lambda bar: -bar[1]))
    most = most or max(p for bars in panels.values() for _, p in bars)
    rows = max(map(len, panels.values()))
    figure, axes = subplots(1, len(panels), figsize=(WIDTH, 0.9 + 0.27 * rows), sharey=True, squeeze=False)
    for axis, (name, bars) in zip(axes[0], panels.items(), strict=True):
        draw_bars(axis, bars, taken, most, marked)
        axis.set_title(name, fontsize=10)
    axes[0][0].invert_yaxis()
    alt = "; ".join(f"{name}: {told(bars)}" if name else told(bars) for name, bars in panels.items())
    return titled(figure, title, _("Bars of probabilities. {bars}.", bars=alt))


def generation(
    call: Call,
    row: int = 0,
    first: int = 0,
    steps: int = 8,
    top: int = 5,
    title: str | None = None,
    marked: Collection[int] = (),
) -> Picture:
    """Generation step by step: one column a step, its candidates from likely to less likely, the taken one framed.

    The likelier a candidate, the darker it is. The steps in `marked`, counted from 0, stand out.
    Raises `ValueError` for a call without recorded steps.
    """
    at_least_one(steps=steps, top=top)
    shown = steps_of(call, row, first)[:steps]
    greedy = sum(step.chosen.token_id == step.candidates[0].token_id for step in shown)
    title = title or _("In {greedy} of {steps} steps the likeliest token was taken", greedy=greedy, steps=len(shown))
    figure, axis = subplots(figsize=(WIDTH, 0.9 + 0.36 * (top + 1)))
    letters = min(10, 110 // len(shown))  # what fits into a column
    replaced = any(step.chosen.token_id not in [c.token_id for c in step.candidates[:top]] for step in shown)
    for x, step in enumerate(shown):
        candidates, taken_at = _shown(step, top)
        for y, candidate in enumerate(candidates):
            taken = y == taken_at
            shade = _shade(candidate.probability)
            axis.add_patch(Rectangle((x - 0.47, y - 0.44), 0.94, 0.88, facecolor=shade,
                           edgecolor="black" if taken else "#cccccc", linewidth=2 if taken else 0.6))  # fmt: skip
            label = f"{short(visible(candidate.text), letters)}\n{_whole(candidate.probability)}"
            axis.text(x, y, label, ha="center", va="center", fontsize=SMALLEST, family="monospace")
    framed = {step - first for step in marked} & set(range(len(shown)))
    for x in framed:
        axis.add_patch(Rectangle((x - 0.5, -0.52), 1, top + 0.04, fill=False, edgecolor=BAR_CHOSEN, linewidth=3))
    axis.set(xlim=(-0.6, len(shown) - 0.4), ylim=(top - 0.4, -0.6), yticks=range(top), xticks=range(len(shown)))
    numbers = range(first + 1, first + len(shown) + 1)
    columns = [_("step {step}", step=number) for number in numbers] if len(shown) <= 14 else list(map(str, numbers))
    axis.set_xticklabels(columns, fontsize=SMALLEST)
    axis.set_yticklabels(
        [*(f"{n + 1}." for n in range(top - 1)), f"{'≥' if replaced else ''}{top}."], fontsize=SMALLEST
    )
    legend = [_("black frame: taken"), _("orange: the step of the title"), _("darker: likelier")]
    axis.set_xlabel(" · ".join(legend if framed else legend[::2]), fontsize=SMALLEST)
    no_frame(axis)
    alt = ", ".join(f"'{visible(step.chosen.text)}' {percent(step.chosen.probability)}" for step in shown)
    return titled(figure, title, _("Taken, step by step: {tokens}.", tokens=alt))


def loop(call: Call, tokenizer: PreTrainedTokenizerBase, step: int, top: int = 8, row: int = 0) -> Picture:
    """One turn of the generation loop: the text so far, the candidates for the next token, the one that is taken.

    All steps of a row have one size: room for its last line of text, or its last two.
    Raises `ValueError` for a call without recorded steps.
    """
    at_least_one(top=top)
    recorded, current = row_of(call, row), steps_of(call, row, step)[0]
    so_far = [cell(tokenizer, i, "prompt") for i in recorded.prompt_ids]
    so_far += [cell(tokenizer, i, "new") for i in recorded.new_ids[:step]]
    most = min(2, len(wrap([cell(tokenizer, i, "prompt") for i in [*recorded.prompt_ids, *recorded.new_ids]])))
    figure, (above, below) = subplots(2, 1, figsize=(WIDTH, 2.6 + 0.5 * most), height_ratios=[0.5 * most, 2.4])
    lines = wrap(so_far)[-most:]
    prepare_canvas(above)
    draw_cells(above, lines)
    above.set_ylim(most - 0.5, -0.5)
    candidates, taken = _shown(current, top)
    bars = [(c.text, c.probability) for c in candidates]
    draw_bars(below, bars, taken, most=0.9)
    below.invert_yaxis()
    title = _(
        "Step {step}: '{token}' is taken, at {probability}",
        step=step + 1,
        token=visible(current.chosen.text),
        probability=percent(current.chosen.probability),
    )
    return titled(figure, title, _("Bars of probabilities: {bars}.", bars=told(bars)))


def _shade(probability: float) -> tuple[float, ...]:
    """White for nothing, and blue for certain: black text can be read on it."""
    return tuple(1 - probability * (1 - part) for part in to_rgb(CERTAIN))


def _whole(probability: float) -> str:
    """In whole per cent; neither 0% nor 100% where something is left beside it."""
    if probability < 0.005:
        return "<1%"
    return f"{probability:.0%}" if probability < 0.995 or probability == 1 else ">99%"


def _shown(step: Step, top: int) -> tuple[list[Candidate], int]:
    """The likeliest candidates and the place of the taken one among them; it is the last if it was less likely."""
    shown = step.candidates[:top]
    ids = [candidate.token_id for candidate in shown]
    if step.chosen.token_id in ids:
        return shown, ids.index(step.chosen.token_id)
    return [*shown[: top - 1], step.chosen], min(top, len(shown) + 1) - 1
