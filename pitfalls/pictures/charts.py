"""Figures of measurements: bars, and curves."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import cycle
from numbers import Real
from typing import Any

from matplotlib.axes import Axes

from pitfalls.pictures.drawing import BAR, BAR_CHOSEN, SMALLEST, WIDTH, Picture, no_frame, percent, subplots, titled
from pitfalls.pictures.sources import kind

# Told apart without colours: by their dashes and their marks.
LINES = [
    {"color": "#000000", "linestyle": "-", "marker": "o"},
    {"color": BAR_CHOSEN, "linestyle": "--", "marker": "s"},
    {"color": "#1f6aa5", "linestyle": ":", "marker": "^"},
    {"color": "#5b3c99", "linestyle": "-.", "marker": "D"},
]


def bars(
    values: Mapping[str, float] | Mapping[str, Mapping[str, float]],
    title: str,
    form: str = "{:.3g}",
    label: str = "",
    marked: Iterable[str] = (),
) -> Picture:
    """Numbers by name as horizontal bars; several such mappings by name stand side by side, all on one scale.

    `form` writes a number, as "{:.0f} MB"; "%" writes probabilities as the other pictures do, the small ones too.
    `label` says what the bars measure; those named in `marked` stand out. Panels with the same names share them.
    """
    panels = _panels(values)
    written: Callable[[float], str] = percent if form == "%" else form.format
    shared = len({tuple(panel) for panel in panels.values()}) == 1
    most = max((value for panel in panels.values() for value in panel.values()), default=0) or 1
    rows = max(map(len, panels.values()))
    height = 0.6 + 0.32 * rows + 0.25 * bool(label) + 0.25 * (len(panels) > 1)
    figure, axes = subplots(1, len(panels), figsize=(WIDTH, height), squeeze=False, sharey=shared)
    for axis, (name, panel) in zip(axes[0], panels.items(), strict=True):
        colors = [BAR_CHOSEN if bar in set(marked) else BAR for bar in panel]
        drawn = axis.barh(list(panel), list(panel.values()), color=colors, edgecolor="black", linewidth=0.6)
        axis.bar_label(drawn, [f" {written(value)}" for value in panel.values()], fontsize=9)
        axis.set_xlim(0, most * (1.15 if len(panels) == 1 else 1.3))
        axis.set_title(name, fontsize=10)
        axis.set_xlabel(label, fontsize=9)
        axis.tick_params(labelsize=9)
        axis.set_xticks([])
        no_frame(axis)
        if not axis.yaxis_inverted():  # once for all that share it
            axis.invert_yaxis()
    alt = "; ".join(
        f"{name + ': ' if name else ''}{', '.join(f'{bar} {written(value)}' for bar, value in panel.items())}"
        for name, panel in panels.items()
    )
    return titled(figure, title, f"Bars{', ' + label if label else ''}. {alt}.")


def curves(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    title: str,
    x: str,
    y: str,
    steps: bool | Collection[str] = False,
    height: float = 2.6,
    notes: Mapping[str, tuple[float, float]] | None = None,
) -> Picture:
    """Measured points by name, each a pair of x and y values, joined by lines that differ in more than their colour.

    `x` and `y` say what the axes measure, with the unit. With `steps` a value holds until the next point;
    names in `steps` are those of the lines that do so, and the others are then drawn without marks.
    `notes` are short texts, each with the point that it speaks of.
    """
    if not isinstance(lines, Mapping) or not lines:
        raise ValueError(f"`curves` takes pairs of x and y values by name, and not {kind(lines)}.")
    figure, axis = subplots(figsize=(WIDTH, height))
    told = []
    for (name, (xs, ys)), style in zip(lines.items(), cycle(LINES)):
        stepped = steps if isinstance(steps, bool) else name in steps
        shown: dict[str, Any] = {"marker": None} if steps else {"markersize": 4}
        shown |= {"drawstyle": "steps-post"} if stepped else {}
        axis.plot(list(map(float, xs)), list(map(float, ys)), label=name, **(style | shown))
        told.append(f"{name} goes from {_n(ys[0])} at {_n(xs[0])} to {_n(ys[-1])} at {_n(xs[-1])}")
    _axes(axis, x, y)
    for note, point in (notes or {}).items():
        axis.annotate(note, point, (48, 8), textcoords="offset points", fontsize=9, arrowprops={"arrowstyle": "->"})
        told.append(f"at {_n(point[0])}, {_n(point[1])}: {note}")
    if len(lines) > 1:
        axis.legend(fontsize=SMALLEST, frameon=False)
    return titled(figure, title, f"Curves, {y} over {x}: {'; '.join(told)}.")


def _n(value: float) -> str:
    """A number in an alternative text: 0.0821, 62.7, 4,096."""
    return f"{float(value):,.0f}" if abs(value) >= 1000 else f"{float(value):.3g}"


def _axes(axis: Axes, x: str, y: str) -> None:
    axis.set_ylim(min(0, axis.get_ylim()[0]))
    axis.locator_params(nbins=6)
    axis.margins(x=0.04)
    axis.set_xlabel(x, fontsize=9)
    axis.set_ylabel(y, fontsize=9)
    axis.tick_params(labelsize=SMALLEST)
    axis.spines[["top", "right"]].set_visible(False)


def _panels(values: Any) -> dict[str, Mapping[str, float]]:
    takes = "`bars` takes numbers by name, such as {'fp32': 7.6}, or several such mappings by name"
    if not isinstance(values, Mapping) or not values:
        raise ValueError(f"{takes}, and not {kind(values)}.")
    panels = dict(values) if all(isinstance(value, Mapping) for value in values.values()) else {"": values}
    for name, value in ((name, value) for panel in panels.values() for name, value in panel.items()):
        if not isinstance(value, Real) or value < 0:
            raise ValueError(f"{takes}. They are 0 or more; {name!r} has {value!r}.")
    return panels
