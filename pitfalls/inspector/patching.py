"""Replace a method of a class while someone is looking, and put it back; safe from threads."""

import functools
import threading
from collections.abc import Callable
from typing import Any


class Patch:
    """`with Patch(owner, name, replace):` calls to the method go to `replace(original, *args, **kwargs)`.

    Many `with` blocks, in any number of threads, share one replacement: it goes in with the first and out with the
    last. Where the class has no such method of its own nothing happens. A method that someone else replaced meanwhile
    is left alone: ours, if still called from theirs, only passes calls on.
    """

    def __init__(self, owner: type, name: str, replace: Callable[..., Any]) -> None:
        self.owner, self.name, self.replace = owner, name, replace
        self.lock, self.users = threading.Lock(), 0

    def __enter__(self) -> None:
        with self.lock:
            self.users += 1
            if self.users == 1:
                self._install()

    def __exit__(self, *exception: object) -> None:
        with self.lock:
            self.users -= 1
            if self.users == 0 and vars(self.owner).get(self.name) is self.ours:
                setattr(self.owner, self.name, self.original)

    def _install(self) -> None:
        self.ours = self.original = original = vars(self.owner).get(self.name)
        if original is None:
            return

        @functools.wraps(original)
        def ours(*args: Any, **kwargs: Any) -> Any:
            if self.ours is not ours or not self.users:
                return original(*args, **kwargs)
            return self.replace(original, *args, **kwargs)

        self.ours = ours
        setattr(self.owner, self.name, ours)
