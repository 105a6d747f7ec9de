"""Figures of the places of a batch over time: who holds each, and which do nothing."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from pitfalls.language import N_, _, ngettext, right_to_left
from pitfalls.pictures.drawing import BAR, SMALLEST, STYLES, WIDTH, Picture, no_frame, subplots, titled
from pitfalls.pictures.sources import kind

Span = tuple[int, int, int, str]  # place, start, end, who; nobody is ""
WRITES: dict[str, Any] = {"facecolor": BAR, "edgecolor": "black", "linewidth": 0.6}  # orange would mean "marked"
STATIC, CONTINUOUS = N_("static batches"), N_("continuous batching")


def slots(lengths: Mapping[str, int], places: int, title: str | None = None) -> Picture:
    """Answers of these lengths, in tokens by name, on so many places: in static batches, and with continuous batching.

    They are served in their order. A static batch ends with its longest answer, and its other places are held until
    then (hatched); with continuous batching the next answer takes a place as soon as it is free (white).
    """
    if not isinstance(lengths, Mapping) or not lengths or not all(isinstance(n, int) for n in lengths.values()):
        raise ValueError(
            _("`slots` takes the lengths of answers by name, as {{'A': 20}}, and not {what}.", what=kind(lengths))
        )
    panels = {STATIC: static(lengths, places), CONTINUOUS: continuous(lengths, places)}
    steps = {name: max(end for place, start, end, who in spans) for name, spans in panels.items()}
    height = 2.25 + 0.48 * places
    figure, axes = subplots(2, 1, figsize=(WIDTH, height))
    for axis, (name, spans) in zip(axes, panels.items(), strict=True):
        for place, start, end, who in spans:
            axis.barh(place, end - start, left=start, height=0.84, **(WRITES if who else STYLES["padding"]))
            axis.text((start + end) / 2, place, who, ha="center", va="center", fontsize=9)
        heading = ngettext("{name}: {n} steps", "{name}: {n} steps", steps[name], name=_(name))
        axis.set_title(heading, fontsize=10, loc="right" if right_to_left() else "left")
        axis.set_xlim(0, 1.02 * max(steps.values()))  # room for the last edge
        axis.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 4, 5, 10], integer=True))
        axis.set_yticks(range(1, places + 1), [_("place {place}", place=n + 1) for n in range(places)])
        axis.set_ylim(places + 0.5, 0.5)
        axis.tick_params(labelsize=SMALLEST)
        no_frame(axis)
    axes[-1].set_xlabel(_("steps of the model, one new token for each place"), fontsize=9)
    marks = [Patch(label=_("writes"), **WRITES), Patch(label=_("done, and held"), **STYLES["padding"])]
    marks.append(Patch(label=_("free for the next request"), facecolor="white", edgecolor="#999999", linewidth=0.6))
    figure.legend(handles=marks, loc="lower right", ncols=len(marks), fontsize=SMALLEST, frameon=False)
    title = title or ngettext(
        "{n} answers on {places} places: {static} steps in static batches, {continuous} with continuous batching",
        "{n} answers on {places} places: {static} steps in static batches, {continuous} with continuous batching",
        len(lengths),
        places=places,
        static=steps[STATIC],
        continuous=steps[CONTINUOUS],
    )
    told = ". ".join(f"{_(name)}: {'; '.join(_told(spans))}" for name, spans in panels.items())
    alt = _("Who holds each place, by the model's steps. {spans}.", spans=told)
    return titled(figure, title, alt, below=0.25 / height)  # below: room for the legend


def static(lengths: Mapping[str, int], places: int) -> list[Span]:
    """{"A": 3, "B": 1} → [(1, 0, 3, "A"), (2, 0, 1, "B"), (2, 1, 3, "")]"""
    spans, start, waiting = [], 0, iter(lengths.items())
    while batch := list(islice(waiting, places)):
        last = start + max(length for _, length in batch)
        for place, (who, length) in enumerate(batch, start=1):
            spans.append((place, start, start + length, who))
            if start + length < last:
                spans.append((place, start + length, last, ""))
        start = last
    return spans


def continuous(lengths: Mapping[str, int], places: int) -> list[Span]:
    """{"A": 3, "B": 1, "C": 1} on two places → [(1, 0, 3, "A"), (2, 0, 1, "B"), (2, 1, 2, "C")]"""
    spans, free = [], [0] * places
    for who, length in lengths.items():
        place = free.index(min(free))
        spans.append((place + 1, free[place], free[place] + length, who))
        free[place] += length
    return spans


def _told(spans: list[Span]) -> list[str]:
    return [
        _("place {place}, {start} to {end}: {who}", place=place, start=start, end=end, who=who or _("nobody"))
        for place, start, end, who in spans
    ]
