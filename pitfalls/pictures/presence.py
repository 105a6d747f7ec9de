"""A figure of what is there at each step: a row for each name, a column for each step."""

import re
from collections.abc import Collection, Mapping
from itertools import chain

from matplotlib.patches import Rectangle

from pitfalls.language import _
from pitfalls.pictures.drawing import BAR, BAR_CHOSEN, SMALLEST, WIDTH, Picture, no_frame, subplots, titled
from pitfalls.pictures.sources import kind


def presence(steps: Mapping[str, Collection[str]], title: str | None = None) -> Picture:
    """What is there at each step, as names by step: each name has a row, filled in the columns where it is there.

    Those that go first stand on top. One that was not there from the beginning is marked as new where it comes.
    The last line counts what is there.
    """
    if not isinstance(steps, Mapping) or not steps or any(isinstance(there, str) for there in steps.values()):
        raise ValueError(
            _(
                "`presence` takes names by step, as {{'before': {{'a', 'b'}}, 'after': {{'b'}}}}, and not {what}.",
                what=kind(steps),
            )
        )
    columns = list(steps.values())
    places = {name: [x for x, there in enumerate(columns) if name in there] for name in chain(*columns)}
    names = sorted(places, key=lambda name: (places[name][-1], places[name][0], name))
    figure, axis = subplots(figsize=(WIDTH, 1.3 + 0.27 * len(names)))
    for y, x in ((y, x) for y, name in enumerate(names) for x in places[name]):
        new = x == places[names[y]][0] > 0
        axis.add_patch(Rectangle((x - 0.46, y - 0.4), 0.92, 0.8, facecolor=BAR_CHOSEN if places[names[y]][0] else BAR,
                                 edgecolor="black", linewidth=0.6))  # fmt: skip
        axis.text(x, y, _("new") if new else "", ha="center", va="center", fontsize=9)
    for x, there in enumerate(columns):
        axis.text(x, len(names), len(there), ha="center", va="center", fontsize=9, fontweight="bold")
    axis.set(xlim=(-0.6, len(columns) - 0.4), ylim=(len(names) + 0.5, -0.5))
    axis.set_yticks(range(len(names) + 1), [*names, _("together")], fontsize=9)
    axis.xaxis.tick_top()
    axis.set_xticks(range(len(columns)), [re.sub("([,،]) ", r"\1\n", name) for name in steps], fontsize=SMALLEST)
    no_frame(axis)
    first, last = columns[0], columns[-1]
    nothing = _("nothing")
    told = "; ".join(f"{step}: {', '.join(sorted(there)) or nothing}" for step, there in steps.items())
    title = title or _("{first} at first, {last} at last", first=len(first), last=len(last))
    return titled(figure, title, _("What is there at each step. {steps}.", steps=told))
