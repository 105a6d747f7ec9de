"""A figure as a reader sees it, and calls to draw from."""

import io
import warnings

import matplotlib
import numpy as np
from matplotlib import cbook
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from pitfalls.inspector.call import Call
from pitfalls.inspector.rows import Candidate, Row, Step
from pitfalls.pictures.drawing import STYLES

matplotlib.use("agg")


def written(figure: Figure) -> list:
    """The texts of a figure as matplotlib objects, in the order in which they were drawn."""
    texts = list(figure.texts)
    for axis in figure.axes:
        texts += [axis.title, *axis.texts]
        if axis.axison:
            for ticks, (low, high) in ((axis.xaxis, sorted(axis.get_xlim())), (axis.yaxis, sorted(axis.get_ylim()))):
                shown = zip(ticks.get_ticklocs(), ticks.get_ticklabels(), strict=False)  # of a shared axis: none
                texts += [label for place, label in shown if low <= place <= high]
    for legend in figure.legends:
        texts += legend.get_texts()
    return [text for text in texts if text.get_text() and text.get_visible()]


def as_drawn(text) -> str:
    """A text as a reader sees it; none may be taken for a formula."""
    content = text.get_text()
    if not text.get_parse_math():
        return content
    assert not cbook.is_math_text(content), f"{content!r} is set as a formula"
    return content.replace(r"\$", "$")


def seen(figure: Figure) -> list[str]:
    return [as_drawn(text) for text in written(figure)]


def title(figure: Figure) -> str:
    return figure.get_suptitle()


def render(figure: Figure) -> Image.Image:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(buffer, format="png", dpi=80, facecolor="white")
    return Image.open(buffer).convert("RGB")


def check(figure: Figure) -> Figure:
    """Draws without a warning, inside the figure, no text over another and none set as a formula."""
    assert isinstance(figure, Figure)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FigureCanvasAgg(figure).draw()
    texts = seen(figure)
    left, low, right, high = np.array([text.get_window_extent().extents for text in written(figure)]).T
    for inside in (left > -1, low > -1, right < figure.bbox.width + 1, high < figure.bbox.height + 1):
        assert inside.all(), f"cut off: {texts[inside.argmin()]!r}"
    over = (left[:, None] < right - 2) & (low[:, None] < high - 2)  # two pixels are no overlap
    for one, other in np.argwhere(np.triu(over & over.T, 1)):
        raise AssertionError(f"{texts[one]!r} is drawn over {texts[other]!r}")
    return figure


def is_style(patch, name: str) -> bool:
    style = STYLES[name]
    return (
        to_hex(patch.get_facecolor()) == style["facecolor"]
        and to_hex(patch.get_edgecolor()) == style["edgecolor"]
        and patch.get_linestyle() == style.get("linestyle", "solid")
        and patch.get_hatch() == style.get("hatch")
    )


def boxes(axis) -> list[tuple]:
    """(text, note, box) of each token; in some figures there is no note."""
    texts = [as_drawn(text) for text in axis.texts]
    x, y = axis.transData.transform([text.get_position() for text in axis.texts] or np.empty((0, 2))).T
    found = []
    for patch in axis.patches:
        left, low, right, high = patch.get_window_extent().extents
        inside = np.flatnonzero((left < x) & (x < right) & (low < y) & (y < high))
        found.append((*(texts[n] for n in inside), patch))
    return found


def styled(figure: Figure, name: str) -> list[str]:
    return [text for text, _, patch in boxes(figure.axes[0]) if is_style(patch, name)]


def names(figure: Figure, panel: int = 0) -> list[str]:
    return [as_drawn(label) for label in figure.axes[panel].get_yticklabels()]


def percentages(figure: Figure, panel: int = 0) -> list[str]:
    return [text.get_text().strip() for text in figure.axes[panel].texts]


def framed(figure: Figure, panel: int = 0) -> list[int]:
    return [n for n, bar in enumerate(figure.axes[panel].patches) if bar.get_linewidth() > 1]


def columns(figure: Figure) -> list[list[str]]:
    found = {}
    for text in figure.axes[0].texts:
        found.setdefault(text.get_position()[0], []).append(as_drawn(text))
    return [found[x] for x in sorted(found)]


def taken(figure: Figure) -> list[str]:
    return [words[0] for words in boxes(figure.axes[0]) if words[-1].get_linewidth() > 1]


def step(tokenizer, probabilities: dict[int, float], chosen: int, share: float | None = None) -> Step:
    candidates = [Candidate(i, tokenizer.decode([i]), p) for i, p in probabilities.items()]
    taken = Candidate(chosen, tokenizer.decode([chosen]), share or probabilities[chosen])
    return Step(taken, candidates, end_probability=0.0, entropy=1.0)


def call_of(tokenizer, prompt, new, stopped_by="length", steps=()) -> Call:
    """A call with one row for each list of `new`: the pictures read the rows alone."""
    texts = {"prompt_text": tokenizer.decode(prompt), "stopped_by": stopped_by, "steps": list(steps)}
    return Call(rows=[Row(prompt_ids=prompt, new_ids=ids, new_text=tokenizer.decode(ids), **texts) for ids in new])
