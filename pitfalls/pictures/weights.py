"""A figure of what the weights of a model take."""

from collections.abc import Mapping
from numbers import Real

from pitfalls.language import _
from pitfalls.pictures.charts import bars
from pitfalls.pictures.drawing import Picture
from pitfalls.pictures.sources import kind


def memory(bytes_by_format: Mapping[str, int], title: str | None = None) -> Picture:
    """The size of the same weights in each format, in MB or GB, and of the smallest against the first."""
    if not isinstance(bytes_by_format, Mapping) or not bytes_by_format:
        raise ValueError(
            _(
                "`memory` takes bytes by the name of a format, {{'4-bit': model.get_memory_footprint()}}, "
                "and not {what}.",
                what=kind(bytes_by_format),
            )
        )
    for name, size in bytes_by_format.items():
        if not isinstance(size, Real):
            raise ValueError(_("`memory` takes bytes as numbers; {name!r} has {what}.", name=name, what=kind(size)))
        if not size > 0:
            raise ValueError(_("Weights take more than 0 bytes; {name!r} has {size}.", name=name, size=size))
    sizes = list(bytes_by_format.values())
    least = min(bytes_by_format, key=bytes_by_format.__getitem__)
    unit, form = (1e9, "{:.1f} GB") if max(sizes) >= 2e9 else (1e6, "{:.0f} MB")
    share, first = bytes_by_format[least] / sizes[0], next(iter(bytes_by_format))
    if share == 1:
        title = title or _("{format} takes {size}", format=least, size=form.format(sizes[0] / unit))
    title = title or _("{format} takes {share:.0%} of the memory of {first}", format=least, share=share, first=first)
    return bars({name: size / unit for name, size in bytes_by_format.items()}, title, form)
