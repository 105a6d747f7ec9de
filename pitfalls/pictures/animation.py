"""Figures one after the other, as one image."""

import io
from collections.abc import Iterable
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from pitfalls.language import _
from pitfalls.pictures.sources import kind


class MovingPicture:
    """An animated PNG and its description. (IPython's own image takes no `alt` in the version that Colab has.)"""

    def __init__(self, data: bytes, alt: str) -> None:
        self.data, self.alt = data, alt

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"image/png": self.data, "text/plain": self.alt}, {"image/png": {"alt": self.alt}}


def animate(figures: Iterable[Figure], seconds: float = 1.2) -> MovingPicture:
    """The figures one after the other, for ever, as one image that a saved notebook keeps (an animated PNG).

    Raises `ValueError` for no figures, or figures of different sizes.
    """
    figures = list(figures) if isinstance(figures, Iterable) else [figures]
    frames = in_one_palette(as_image(figure) for figure in figures)
    stream = io.BytesIO()
    times = [int(seconds * 1000)] * (len(frames) - 1) + [int(seconds * 2500)]
    frames[0].save(stream, format="PNG", save_all=True, append_images=frames[1:], duration=times, loop=0)
    first, *others = (getattr(figure, "alt", "") for figure in figures)
    told = [_("A moving picture."), first, *(_("Then: {picture}", picture=alt) for alt in others)]
    return MovingPicture(stream.getvalue(), " ".join(told))


def as_image(figure: Figure, dpi: float = 80) -> Image.Image:
    """A figure as a Pillow image."""
    if not isinstance(figure, Figure):
        raise TypeError(
            _("An animation takes figures, such as `pictures.loop(…)` returns, and not {what}.", what=kind(figure))
        )
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi, facecolor="white")
    return Image.open(buffer).convert("RGB")


def in_one_palette(frames: Iterable[Image.Image]) -> list[Image.Image]:
    """The images in 64 colours that all of them share: Pillow 11 keeps no other palette than the first one's.

    What is nearly white is white: the paper of a page.
    """
    frames = list(frames)
    if len({frame.size for frame in frames}) != 1:
        raise ValueError(_("An animation takes one figure or more, all of one size."))
    width, height = frames[0].width // 2, frames[0].height // 2  # enough for the colours, in a quarter of the memory
    together = Image.new("RGB", (width, height * len(frames)))
    for n, frame in enumerate(frames):
        together.paste(frame.resize((width, height), Image.Resampling.NEAREST), (0, n * height))
    palette = together.quantize(64, Image.Quantize.MAXCOVERAGE)  # this method leaves white as it is
    parts = palette.getpalette() or []
    colours = [parts[n : n + 3] for n in range(0, len(parts), 3)]
    # Pillow looks up the nearest colour for steps of four, from below: of 250 and 255, white (252) would get 250.
    palette.putpalette([part for colour in colours for part in ([255] * 3 if min(colour) > 246 else colour)])
    return [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
