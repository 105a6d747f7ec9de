"""A figure of what the weights of a model take."""

from collections.abc import Mapping
from numbers import Real

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from pitfalls.pictures.drawing import BAR, WIDTH, no_frame, titled
from pitfalls.pictures.sources import kind


def memory(bytes_by_format: Mapping[str, int], title: str | None = None) -> Figure:
    """The size of the same weights in each format, in MB or GB, and of the smallest against the first."""
    if not isinstance(bytes_by_format, Mapping) or not bytes_by_format:
        wanted = "{'4-bit': model.get_memory_footprint()}"
        raise ValueError(f"`memory` takes bytes by the name of a format, {wanted}, and not {kind(bytes_by_format)}.")
    for name, size in bytes_by_format.items():
        if not isinstance(size, Real):
            raise ValueError(f"`memory` takes bytes as numbers; {name!r} has {kind(size)}.")
        if not size > 0:
            raise ValueError(f"Weights take more than 0 bytes; {name!r} has {size}.")
    names, sizes = list(bytes_by_format), list(bytes_by_format.values())
    least = min(range(len(sizes)), key=sizes.__getitem__)
    labels = [f"{size / 1e9:.1f} GB" if max(sizes) >= 2e9 else f"{size / 1e6:.0f} MB" for size in sizes]
    takes = f"{sizes[least] / sizes[0]:.0%} of the memory of {names[0]}" if least else labels[0]
    figure, axis = plt.subplots(figsize=(WIDTH, 0.8 + 0.42 * len(sizes)))
    bars = axis.barh(names, sizes, color=BAR, edgecolor="black", linewidth=0.6)
    axis.bar_label(bars, [f" {label}" for label in labels], fontsize=9)
    axis.set_xlim(0, max(sizes) * 1.15)
    axis.invert_yaxis()
    axis.set_xticks([])
    no_frame(axis)
    return titled(figure, title or f"{names[least]} takes {takes}")
