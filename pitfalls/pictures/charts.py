"""Figures of measurements: bars, dots, and curves."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import accumulate, cycle
from numbers import Real
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from pitfalls.language import _
from pitfalls.pictures.drawing import BAR, BAR_CHOSEN, SMALLEST, WIDTH, Picture, no_frame, percent, subplots, titled
from pitfalls.pictures.sources import kind

# Told apart without colours: by their dashes and their marks.
LINES = [
    {"color": "#000000", "linestyle": "-", "marker": "o"},
    {"color": BAR_CHOSEN, "linestyle": "--", "marker": "s"},
    {"color": "#1f6aa5", "linestyle": ":", "marker": "^"},
    {"color": "#5b3c99", "linestyle": "-.", "marker": "D"},
]
DOTS: list[dict[str, Any]] = [{"marker": "o", "markerfacecolor": BAR}, {"marker": "D", "markerfacecolor": BAR_CHOSEN}]
LETTER = 0.014  # of the longest bar, that a letter takes after a bar: with some air
SIDE_BY_SIDE = 66  # dots across the picture


Line = tuple[Sequence[float] | Sequence[str], Sequence[float]]  # x and y values


def bars(
    values: Mapping[str, float] | Mapping[str, Mapping[str, float]],
    title: str,
    form: str | Callable[[float], str] = "{:.3g}",
    label: str = "",
    marked: Iterable[str] | Mapping[str, Iterable[str]] = (),
    line: tuple[str, float] | None = None,
    shared: bool = True,
) -> Picture:
    """Numbers by name as horizontal bars; several such mappings by name stand side by side, all on one scale.

    `form` writes a number, as "{:.0f} MB", or is a function that does; "%" writes probabilities as the other pictures
    do, the small ones too. Zero has no bar. `label` says what the bars measure; those named in `marked` stand out,
    in every panel, or in those by whose name `marked` has them.
    Panels with the same names share them. `line`, a name and a value, is a limit to compare the bars with.
    Panels that measure different things are not `shared`: each has its own scale, and its name says the unit.
    """
    panels = _panels(values)
    written = _written(form)
    by_panel = marked if isinstance(marked, Mapping) else dict.fromkeys(panels, list(marked))
    same = len({tuple(panel) for panel in panels.values()}) == 1
    most = max((value for panel in panels.values() for value in panel.values()), default=0) or 1
    rows = max(map(len, panels.values()))
    height = 0.6 + 0.32 * rows + 0.25 * bool(label) + 0.25 * (len(panels) > 1) + 0.25 * bool(line)
    figure, axes = subplots(1, len(panels), figsize=(WIDTH, height), squeeze=False, sharey=same)
    for axis, (name, panel) in zip(axes[0], panels.items(), strict=True):
        chosen = set(by_panel.get(name, ()))
        most = most if shared else max(panel.values(), default=0) or 1
        colors = [BAR_CHOSEN if bar in chosen else BAR for bar in panel]
        drawn = axis.barh(list(panel), list(panel.values()), color=colors, edgecolor="black", linewidth=0.6)
        for bar, (called, value) in zip(drawn, panel.items(), strict=True):
            bar.set_visible(bool(value))  # its frame would look like a small number
            if called in chosen and value < most / 100:  # nothing to fill
                bar.set(edgecolor=BAR_CHOSEN, linewidth=3)
        texts = axis.bar_label(drawn, [f" {written(value)}" for value in panel.values()], fontsize=9)
        axis.set_xlim(0, most * (1.15 if len(panels) == 1 else 1.3))
        axis.set_title(name, fontsize=10)
        axis.tick_params(labelsize=9)
        axis.set_xticks([])
        if line:
            axis.axvline(line[1], color="black", linestyle="--", linewidth=1.2)
            axis.set_xticks([line[1]], [line[0]])
            for text, value in zip(texts, panel.values(), strict=True):
                text.set(text=text.get_text().strip(), position=(4, 0))
                room = LETTER * len(text.get_text()) * most * len(panels)
                text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})  # the line passes below it
                if room < value < line[1] < value + room:  # inside the bar, where no line runs through it
                    text.set(ha="right", position=(-4, 0), bbox=None)
        no_frame(axis)
        if not axis.yaxis_inverted():  # once for all that share it
            axis.invert_yaxis()
    if len(panels) == 1:
        axes[0][0].set_xlabel(label, fontsize=9)
    elif label:
        figure.supxlabel(label, fontsize=9)
    alt = "; ".join(
        f"{name + ': ' if name else ''}{', '.join(f'{bar} {written(value)}' for bar, value in panel.items())}"
        for name, panel in panels.items()
    )
    told = _("Bars, {label}. {bars}.", label=label, bars=alt) if label else _("Bars. {bars}.", bars=alt)
    if line:
        told += " " + _("A line at {value}: {name}.", value=written(line[1]), name=line[0])
    return titled(figure, title, told)


def curves(
    lines: Mapping[str, Line] | Mapping[str, Mapping[str, Line]],
    title: str,
    x: str,
    y: str,
    steps: bool | Collection[str] = False,
    height: float = 2.6,
    form: str = "",
    log: bool = False,
    levels: Mapping[str, Sequence[float]] | None = None,
    bands: Iterable[tuple[float, float]] = (),
    notes: Mapping[str, tuple[float, float]] | None = None,
) -> Picture:
    """Measured points by name, each a pair of x and y values, joined by lines that differ in more than their colour.

    Several such mappings by name stand side by side, on the same axes. The x values are numbers, or names.
    `x` and `y` say what the axes measure, with the unit. With `steps` a value holds until the next point;
    names in `steps` are those of the lines that do so, and the others are then drawn without marks.
    `form` writes the value at each point, as in `bars`; with `log` equal heights are equal ratios.
    `levels`, y values by the name of a line, are short ticks at the right; `bands`, pairs of y values, are shaded.
    `notes` are short texts, each with the point that it speaks of.
    """
    if not isinstance(lines, Mapping) or not lines:
        raise ValueError(_("`curves` takes pairs of x and y values by name, and not {what}.", what=kind(lines)))
    panels: dict[str, Any] = dict(lines) if isinstance(next(iter(lines.values())), Mapping) else {"": lines}
    figure, axes = subplots(1, len(panels), figsize=(WIDTH, height), squeeze=False, sharex=True, sharey=True)
    for axis, (name, panel) in zip(axes[0], panels.items(), strict=True):
        _draw_lines(axis, panel, steps, form, levels or {})
        for low, high in bands:
            axis.axhspan(low, high, color="#e4e4e4", zorder=0)
        _axes(axis, log, form)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel(x, fontsize=9)
        if len(panel) > 1:
            axis.legend(fontsize=SMALLEST, frameon=False, loc="upper left" if levels else "best")
    axes[0][0].set_ylabel(y, fontsize=9)
    told = [
        f"{name + ': ' if name else ''}{_told(line, panel[line], form)}"
        for name, panel in panels.items()
        for line in panel
    ]
    for note, point in (notes or {}).items():
        arrow = {"arrowstyle": "->"}
        axes[0][0].annotate(note, point, (48, 8), textcoords="offset points", fontsize=9, arrowprops=arrow)
        told.append(_("at {x}, {y}: {note}", x=_n(point[0]), y=_n(point[1]), note=note))
    return titled(figure, title, _("Curves, {y} over {x}: {lines}.", y=y, x=x, lines="; ".join(told)))


def _n(value: float) -> str:
    """A number in an alternative text: 0.0821, 62.7, 4,096."""
    return f"{float(value):,.0f}" if abs(value) >= 1000 else f"{float(value):.3g}"


def _draw_lines(
    axis: Axes,
    lines: Mapping[str, Line],
    steps: bool | Collection[str],
    form: str,
    levels: Mapping[str, Sequence[float]],
) -> None:
    for (name, (xs, ys)), style in zip(lines.items(), cycle(LINES)):
        stepped = steps if isinstance(steps, bool) else name in steps
        shown: dict[str, Any] = {"marker": None} if steps else {"markersize": 4}
        shown |= {"drawstyle": "steps-post"} if stepped else {}
        named = isinstance(xs[0], str)
        places, values = list(map(float, range(len(xs)) if named else xs)), list(map(float, ys))
        axis.plot(places, values, label=name, **(style | shown))
        for place, value in zip(places, values, strict=True) if form else ():
            text = _written(form)(value)
            axis.annotate(text, (place, value), (5, 4), textcoords="offset points", fontsize=SMALLEST)
        for level in levels.get(name, ()):
            axis.axhline(level, xmin=0.97, color=style["color"], linewidth=1.4)
        if named:
            axis.set_xticks(places, map(str, xs), family="monospace")


def dots(
    values: Mapping[str, Sequence[float]],
    title: str,
    form: str | Callable[[float], str] = "{:.3g}",
    label: str = "",
    end: float | None = None,
) -> Picture:
    """Measured values by name as dots on one scale from 0 to `end`, a line for each name; equal ones are piled up.

    `form` writes a number as in `bars`, and `label` says what is measured.
    """
    if not isinstance(values, Mapping) or not all(isinstance(row, Sequence) and row for row in values.values() or [0]):
        raise ValueError(
            _("`dots` takes lists of numbers by name, as {{'fp32': [7.6, 7.7]}}, and not {what}.", what=kind(values))
        )
    written = _written(form)
    end = end or max(map(max, values.values())) or 1
    piles = [Counter(round(SIDE_BY_SIDE * value / end) for value in numbers) for numbers in values.values()]
    lines = list(accumulate(0.15 * max(pile.values()) + 0.2 for pile in piles))  # in inches from the top
    figure, axis = subplots(figsize=(WIDTH, 1.1 + lines[-1]))
    for y, pile, style in zip(lines, piles, cycle(DOTS)):
        places = [(place * end / SIDE_BY_SIDE, y - 0.15 * n) for place, most in pile.items() for n in range(most)]
        axis.plot(*zip(*places, strict=True), linestyle="", markeredgecolor="black", markersize=8, **style)
    axis.set(xlim=(-0.02 * end, 1.02 * end), ylim=(lines[-1] + 0.15, 0.1))
    axis.set_yticks(lines, list(values), fontsize=9)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: written(value)))
    axis.locator_params(axis="x", nbins=6)
    axis.set_xlabel(label, fontsize=9)
    axis.tick_params(axis="x", labelsize=SMALLEST)
    axis.grid(axis="y", color="#cccccc", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    told = "; ".join(
        f"{name}: {', '.join(map(written, sorted(map(float, numbers))))}" for name, numbers in values.items()
    )
    return titled(
        figure, title, _("Dots, {label}. {dots}.", label=label, dots=told) if label else _("Dots. {dots}.", dots=told)
    )


def _axes(axis: Axes, log: bool, form: str) -> None:
    axis.margins(x=0.1 if form else 0.04)  # room for what is written at the last point
    if log:
        axis.set_yscale("log")
        axis.margins(y=0.15)
        axis.minorticks_off()
        axis.yaxis.set_major_formatter(lambda value, _: f"{value * 100:.3g}%" if form == "%" else f"{value:.3g}")
    else:
        axis.set_ylim(min(0, axis.get_ylim()[0]))
        axis.locator_params(nbins=6)
    axis.tick_params(labelsize=SMALLEST)
    axis.spines[["top", "right"]].set_visible(False)


def _told(name: str, line: Line, form: str) -> str:
    (xs, ys), written = line, _written(form or _n)
    at = [x if isinstance(x, str) else _n(x) for x in (xs[0], xs[-1])]
    return _(
        "{line} goes from {first} at {start} to {last} at {end}",
        line=name,
        first=written(float(ys[0])),
        start=at[0],
        last=written(float(ys[-1])),
        end=at[1],
    )


def _written(form: str | Callable[[float], str]) -> Callable[[float], str]:
    return percent if form == "%" else form.format if isinstance(form, str) else form


def _panels(values: Any) -> dict[str, Mapping[str, float]]:
    if not isinstance(values, Mapping) or not values:
        raise ValueError(
            _(
                "`bars` takes numbers by name, such as {{'fp32': 7.6}}, or several such mappings by name, "
                "and not {what}.",
                what=kind(values),
            )
        )
    panels = dict(values) if all(isinstance(value, Mapping) for value in values.values()) else {"": values}
    for name, value in ((name, value) for panel in panels.values() for name, value in panel.items()):
        if not isinstance(value, Real) or value < 0:
            raise ValueError(
                _(
                    "`bars` takes numbers by name, such as {{'fp32': 7.6}}, or several such mappings by name. "
                    "They are 0 or more; {name!r} has {value!r}.",
                    name=name,
                    value=value,
                )
            )
    return panels
