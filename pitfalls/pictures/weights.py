"""A figure of what the weights of a model take."""

from collections.abc import Mapping
from numbers import Real

from pitfalls.pictures.charts import bars
from pitfalls.pictures.drawing import Picture
from pitfalls.pictures.sources import kind


def memory(bytes_by_format: Mapping[str, int], title: str | None = None) -> Picture:
    """The size of the same weights in each format, in MB or GB, and of the smallest against the first."""
    if not isinstance(bytes_by_format, Mapping) or not bytes_by_format:
        wanted = "{'4-bit': model.get_memory_footprint()}"
        raise ValueError(f"`memory` takes bytes by the name of a format, {wanted}, and not {kind(bytes_by_format)}.")
    for name, size in bytes_by_format.items():
        if not isinstance(size, Real):
            raise ValueError(f"`memory` takes bytes as numbers; {name!r} has {kind(size)}.")
        if not size > 0:
            raise ValueError(f"Weights take more than 0 bytes; {name!r} has {size}.")
    sizes = list(bytes_by_format.values())
    least = min(bytes_by_format, key=bytes_by_format.__getitem__)
    unit, form = (1e9, "{:.1f} GB") if max(sizes) >= 2e9 else (1e6, "{:.0f} MB")
    takes = f"{bytes_by_format[least] / sizes[0]:.0%} of the memory of {next(iter(bytes_by_format))}"
    if bytes_by_format[least] == sizes[0]:
        takes = form.format(sizes[0] / unit)
    return bars({name: size / unit for name, size in bytes_by_format.items()}, title or f"{least} takes {takes}", form)
