"""What the figures are made of: token boxes, bars, titles, and text that can be seen and is never a formula."""

import io
import re
import unicodedata
from collections.abc import Collection
from functools import cache
from itertools import accumulate
from typing import Any

from matplotlib import font_manager
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.category import StrCategoryFormatter
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter
from transformers import PreTrainedTokenizerBase

from pitfalls.language import END, FROM_LEFT, FROM_RIGHT, ISOLATE, _, ngettext, ordered, right_to_left, unclosed

WIDTH = 9.0  # inches: a notebook's column
LETTERS = 104  # monospace letters of size 9 across that width

STYLES: dict[str, dict[str, Any]] = {
    "prompt": {"facecolor": "#e4e4e4", "edgecolor": "#8a8a8a"},
    "new": {"facecolor": "#f5b041", "edgecolor": "#b36b00"},
    "end": {"facecolor": "#444444", "edgecolor": "#000000"},
    "special": {"facecolor": "#ffffff", "edgecolor": "#5f5f5f", "linestyle": "--"},
    "padding": {"facecolor": "#ffffff", "edgecolor": "#b0b0b0", "hatch": "////"},
    "read pad": {"facecolor": "#ffffff", "edgecolor": "#d9730d", "hatch": "////", "linewidth": 1.6},  # the mask is 1
    "system": {"facecolor": "#9d82d6", "edgecolor": "#5b3c99"},
    "user": {"facecolor": "#d3ecff", "edgecolor": "#1f6aa5"},
    "own": {"facecolor": "#d3ecff", "edgecolor": "#1f6aa5", "linewidth": 1.6},  # a token of the user's text
    "own special": {"facecolor": "#d3ecff", "edgecolor": "#1f6aa5", "linewidth": 1.6, "linestyle": "--"},
    "assistant": {"facecolor": "#f5b041", "edgecolor": "#b36b00"},
    "tool": {"facecolor": "#cdeac0", "edgecolor": "#3f7d2c"},
}
BAR, BAR_CHOSEN = "#9fbdd9", "#d9730d"
SMALLEST = 8  # points: what can still be read
ON_HATCHES = [withStroke(linewidth=4, foreground="white")]  # letters that no line runs through
VALUE = re.compile(r"\u2068(?=[^\u0590-\u08ff\u2068\u2069]*\u2069)")  # without a letter that is read from the right
SIGNS = {" ": "·", "\n": "⏎", "\t": "⇥"}


class Picture(Figure):
    """A figure that carries its description: a saved notebook and a web page give it to those who can't see it."""

    alt = ""

    def draw(self, renderer: RendererBase) -> None:
        if right_to_left():
            _order(self)
        super().draw(renderer)

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=100, bbox_inches="tight")
        return {"image/png": stream.getvalue(), "text/plain": self.alt}, {"image/png": {"alt": self.alt}}


def subplots(rows: int = 1, columns: int = 1, **settings: Any) -> tuple[Picture, Any]:
    """As pyplot's, of a `Picture`."""
    return plt.subplots(rows, columns, FigureClass=Picture, **settings)


def visible(text: str) -> str:
    """Spaces and line breaks as signs that can be seen: `·`, `⏎`, `⇥`. Letters that the font lacks as `\\u672c`."""
    return "".join(SIGNS.get(letter) or (letter if _drawable(letter) else ascii(letter)[1:-1]) for letter in text)


def _drawable(letter: str) -> bool:
    return letter.isprintable() and ord(letter) in _font()


@cache
def _font() -> frozenset[int]:
    return frozenset(font_manager.get_font(font_manager.findfont("monospace")).get_charmap())


def cell(tokenizer: PreTrainedTokenizerBase, token_id: int, style: str) -> tuple[str, str, str]:
    """A token as (visible text, id, style): what `draw_cells` takes."""
    if token_id in tokenizer.all_special_ids:
        style = "special"
    return visible(token_text(tokenizer, token_id)), str(token_id), style


def token_text(tokenizer: PreTrainedTokenizerBase, token_id: int) -> str:
    """A token alone as text; one that is only a part of a letter by its name in the vocabulary."""
    text = tokenizer.decode([token_id])
    return text if "�" not in text else tokenizer.convert_ids_to_tokens(token_id)


def pieces(text: str) -> list[str]:
    """The text cut where a line breaks, and where it gets too long for one."""
    room = LETTERS - 6
    lines = text.splitlines(keepends=True)
    return [line[start : start + room] for line in lines for start in range(0, len(line), room)]


def wrap(cells: list[tuple[str, str, str]], room: float = LETTERS) -> list[list[tuple[str, str, str]]]:
    """Cells in lines that fit the width; a cell that ends in a line break ends its line."""
    lines: list[list[tuple[str, str, str]]] = [[]]
    used = 0.0
    for text, note, style in cells:
        width = cell_width(text, note)
        if lines[-1] and used + width > room:
            lines, used = [*lines, []], 0.0
        lines[-1].append((text.rstrip("\n"), note, style))
        used += width
        if text.endswith("\n"):
            lines, used = [*lines, []], 0.0
    return [line for line in lines if line] or [[]]


def cell_width(text: str, note: str) -> float:
    """Of one box, in letters."""
    return max(len(text.rstrip("\n")), 0.85 * len(note)) + 1.2


def canvas(height: float, title: str, alt: str = "", below: float = 0) -> tuple[Picture, Axes]:
    """A figure for cells; `below` inches at its foot stay free."""
    figure, axis = subplots(figsize=(WIDTH, height))
    prepare_canvas(axis)
    return titled(figure, title, alt, below / height), axis


def prepare_canvas(axis: Axes) -> None:
    """One unit of the x axis is one letter."""
    axis.set_xlim(0, LETTERS)
    axis.axis("off")


def draw_cells(axis: Axes, lines: list[list[tuple[str, str, str]]], height: float = 0.86) -> None:
    """The boxes, line by line from the top; `height` is the share of a line that a box takes."""
    for y, line in enumerate(lines):
        x = 0.0
        for text, note, style in line:
            width = cell_width(text, note)
            axis.add_patch(FancyBboxPatch((x + 0.15, y - height / 2), width - 0.3, height,
                                          boxstyle="round,pad=0,rounding_size=0.12", mutation_aspect=0.2,
                                          **({"linewidth": 0.8} | STYLES[style])))  # fmt: skip
            ink = "white" if style == "end" else "black"
            effects = ON_HATCHES if "hatch" in STYLES[style] else []
            axis.text(x + width / 2, y - (0.16 if note else 0), text, ha="center", va="center", fontsize=9,
                      family="monospace", color=ink, parse_math=False, path_effects=effects)  # fmt: skip
            axis.text(x + width / 2, y + 0.25, note, ha="center", va="center", fontsize=SMALLEST, color=ink,
                      path_effects=effects)  # fmt: skip
            x += width
    axis.set_ylim(len(lines) - 0.5, -0.5)


def draw_bars(
    axis: Axes, bars: list[tuple[str, float]], taken: int | None, most: float, marked: Collection[str] = ()
) -> None:
    """Horizontal bars of probabilities, on a scale that ends at `most`; `taken` is the place of the one to frame.

    Those whose text is in `marked` have its colour, and no frame.
    """
    names = [f"{short(visible(text), 14)}" for text, _ in bars]
    colors = [BAR_CHOSEN if n == taken or text in marked else BAR for n, (text, _) in enumerate(bars)]
    drawn = axis.barh(range(len(bars)), [p for _, p in bars], color=colors, edgecolor="black", linewidth=0.6)
    for n, bar in enumerate(drawn):
        bar.set_linewidth(2 if n == taken else 0.6 if bars[n][1] else 0)
    axis.bar_label(drawn, [f" {percent_or_cut(p)}" for _, p in bars], fontsize=SMALLEST)
    axis.set_yticks(range(len(bars)), names, family="monospace", fontsize=9)
    axis.set_xlim(0, max(0.05, most) * 1.22)
    axis.set_xticks([])
    no_frame(axis)


def told(bars: list[tuple[str, float]], most: int = 5) -> str:
    """The longest of the bars in words."""
    return ", ".join(f"'{visible(text)}' {percent_or_cut(p)}" for text, p in bars[:most])


def bars_title(bars: list[tuple[str, float]]) -> str:
    """What the bars say."""
    text, probability = bars[0]
    share = sum(p for _, p in bars)
    return ngettext(
        "'{token}' gets {probability}; these {n} tokens share {share}",
        "'{token}' gets {probability}; these {n} tokens share {share}",
        len(bars),
        token=visible(text),
        probability=percent(probability),
        share=percent(share),
    )


def percent(probability: float) -> str:
    if probability == 0:
        return "0%"  # cut off, and not only unlikely
    if probability >= 0.001:
        return f"{probability:.1%}"
    return f"{probability * 100:.1g}%" if probability >= 1e-5 else "<0.001%"


def percent_or_cut(probability: float) -> str:
    """Of a token: what has no probability at all has been cut off, and has no bar."""
    return percent(probability) if probability else _("cut")


def short(text: str, length: int) -> str:
    """At most so many letters. Signs that hold a value of a message together are none, and none of them stays open."""
    if letters(text) <= length:
        return text
    kept = "".join(letter for letter, n in zip(text, accumulate(map(letters, text)), strict=True) if n < length)
    return kept + "…" + END * unclosed(kept)


def letters(text: str) -> int:
    return len(text) - sum(map(text.count, (FROM_LEFT, FROM_RIGHT, ISOLATE, END)))


def no_frame(axis: Axes) -> None:
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)


def titled(figure: Picture, title: str, alt: str = "", below: float = 0) -> Picture:
    """Set the title, describe, lay out, close."""
    side: dict[str, Any] = {"x": 0.99, "ha": "right"} if right_to_left() else {"x": 0.01, "ha": "left"}
    figure.suptitle(title, fontsize=11, **side)
    figure.alt = f"{title}. {alt}" if alt else title
    if right_to_left():
        _order_names(figure)
        _order(figure)
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a dollar sign is one
    figure.tight_layout(rect=(0, below, 1, 1))
    plt.close(figure)
    return figure


def _order(figure: Picture) -> None:
    """What holds letters of a language from right to left is read from there, whatever it begins with.

    Tokens, in boxes of their own, keep the order of the model.
    """
    for text in figure.findobj(Text):
        if not any(map(_is_from_right, text.get_text())):
            continue
        if "monospace" in text.get_fontfamily():  # in which these letters are wide and hard to read
            text.set_fontfamily(["sans-serif", "monospace"])
        else:
            text.set_text(_from_right_to_left(text.get_text()))


def _order_names(figure: Picture) -> None:
    """The same for what an axis writes anew whenever it is drawn."""
    for axis in figure.findobj(Axis):
        written = axis.get_major_formatter()
        if isinstance(written, (FuncFormatter, StrCategoryFormatter)):  # of names, and not of numbers alone
            axis.set_major_formatter(FuncFormatter(lambda *place, of=written: _from_right_to_left(of(*place))))
        axis.get_ticklabels()  # makes them


def _from_right_to_left(text: str) -> str:
    lines = text.split("\n")
    for n, line in enumerate(lines):
        if any(map(_is_from_right, line)) and line[0] != FROM_RIGHT:
            lines[n] = FROM_RIGHT + VALUE.sub(FROM_LEFT, ordered(line)) + END
    return "\n".join(lines)


def _is_from_right(letter: str) -> bool:
    return unicodedata.bidirectional(letter) in ("R", "AL")
