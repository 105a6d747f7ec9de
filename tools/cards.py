"""What the pictures of README.md are drawn on: a small white card, shown large.

Its letters have the size that they have in the lessons, so that they stay legible at 260 pixels and on a phone.
Everything is placed in inches from the upper left corner.
"""

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.text import Text

from pitfalls.pictures.drawing import LETTERS, cell, draw_cells, no_frame, prepare_canvas
from pitfalls.pictures.drawing import WIDTH as COLUMN

WIDTH, HEIGHT = 2.56, 1.44  # inches, of a picture in the table of lessons
LETTER = COLUMN / LETTERS
LINE = 0.235  # from one line of boxes to the next
GREY = "#57606a"


def card(title: str, width: float = WIDTH, height: float = HEIGHT) -> Figure:
    """Opaque, with a border of its own: it can be read on a light and on a dark page."""
    figure = plt.figure(figsize=(width, height))
    plt.close(figure)
    figure.patch.set(facecolor="white", edgecolor="#8a8a8a", linewidth=1.5)
    write(figure, title, 0.1, 0.09, fontsize=10, weight="bold")
    return figure


def write(figure: Figure, text: str, left: float, top: float, **style) -> None:
    """Text with its upper left corner there."""
    width, height = figure.get_size_inches()
    figure.text(left / width, 1 - top / height, text, **{"va": "top", "fontsize": 8, "parse_math": False} | style)


def space(figure: Figure, left: float, top: float, width: float, height: float) -> plt.Axes:
    """Axes there, without a frame."""
    across, down = figure.get_size_inches()
    axis = figure.add_axes([left / across, 1 - (top + height) / down, width / across, height / down])
    axis.set(xticks=[], yticks=[])
    axis.patch.set_visible(False)
    no_frame(axis)
    return axis


def put_cells(figure: Figure, lines: list[list], left: float, top: float, line: float = LINE) -> None:
    """Token boxes, line by line."""
    width = figure.get_size_inches()[0] - left
    axis = space(figure, left, top, width, line * len(lines))
    prepare_canvas(axis)
    axis.set_xlim(0, width / LETTER)
    draw_cells(axis, lines)


def plain(tokenizer, ids: list[int], style: str) -> list[tuple[str, str, str]]:
    """Token boxes without their ids."""
    return [(text, "", style) for text, _, style in (cell(tokenizer, token_id, style) for token_id in ids)]


def words(figure: Figure) -> str:
    """Everything that is written on it, in the order in which it was drawn."""
    texts = [text.get_text().strip() for text in figure.findobj(Text) if text.get_visible()]
    return " | ".join(text for text in texts if text)
