"""The extra `[course]`: what the model, pictures, widgets and exercises need, and the inspector does not."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def course_extra() -> Iterator[None]:
    """Around imports, or a function that imports: a package that is missing is told in one sentence."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ImportError(f'{error}: it comes with  pip install "generation-pitfalls[course]"') from None
