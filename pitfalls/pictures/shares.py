"""A figure of counts out of so many trials, and of how sure they are."""

from collections.abc import Mapping
from typing import Any

from pitfalls.language import _
from pitfalls.pictures.drawing import BAR, WIDTH, Picture, no_frame, subplots, titled
from pitfalls.pictures.sources import at_least_one, kind


def shares(counts: Mapping[str, int] | Mapping[str, Mapping[str, int]], of: int, title: str) -> Picture:
    """Hits by name, out of `of` trials, as bars with their Wilson intervals; several such mappings stand side by side.

    An interval, from low to high, holds the true share in about 95 of 100 experiments.
    """
    panels = _panels(counts, of)
    rows = max(map(len, panels.values()))
    figure, axes = subplots(1, len(panels), figsize=(WIDTH, 1.1 + 0.36 * rows), squeeze=False, sharey=True)
    told = []
    for axis, (heading, panel) in zip(axes[0], panels.items(), strict=True):
        axis.barh(list(panel), list(panel.values()), color=BAR, edgecolor="black", linewidth=0.6)
        for y, (name, hits) in enumerate(panel.items()):
            low, high = wilson(hits, of)
            axis.errorbar((low + high) * of / 2, y, xerr=(high - low) * of / 2, color="black", capsize=4, linewidth=1.4)
            counted = _("{hits} of {trials}", hits=hits, trials=of)
            axis.text(of * (high + 0.03), y, counted, va="center", fontsize=9)
            said = _("{name} {count}, {low:.0%} to {high:.0%}", name=name, count=counted, low=low, high=high)
            told.append(f"{heading}: {said}" if heading else said)
        axis.set(xlim=(0, 1.35 * of), xticks=[])
        axis.set_title(heading, fontsize=10)
        axis.tick_params(labelsize=9)
        no_frame(axis)
    axes[0][0].invert_yaxis()
    legend = _("bar: counted of {trials} · line: 95% Wilson interval, where the true share may be", trials=of)
    figure.supxlabel(legend, fontsize=9)
    return titled(figure, title, _("Bars with the interval of the true share. {shares}.", shares="; ".join(told)))


def wilson(hits: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """The interval of the true share: in 95 of 100 experiments it lies in there."""
    middle, spread = hits + z * z / 2, z * (hits * (trials - hits) / trials + z * z / 4) ** 0.5
    return (middle - spread) / (trials + z * z), (middle + spread) / (trials + z * z)


def _panels(counts: Any, of: int) -> dict[str, Mapping[str, int]]:
    at_least_one(of=of)
    if not isinstance(counts, Mapping) or not counts:
        raise ValueError(
            _("`shares` takes numbers of hits by name, as {{'before': 5}}, and not {what}.", what=kind(counts))
        )
    panels = dict(counts) if all(isinstance(panel, Mapping) for panel in counts.values()) else {"": counts}
    for name, hits in ((name, hits) for panel in panels.values() for name, hits in panel.items()):
        if hits not in range(of + 1):
            raise ValueError(
                _(
                    "`shares` takes numbers of hits from 0 to {trials}; {name!r} has {hits!r}.",
                    trials=of,
                    name=name,
                    hits=hits,
                )
            )
    return panels
