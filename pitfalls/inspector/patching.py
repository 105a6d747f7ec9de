"""Look into a method while someone is watching, and leave no trace of it; safe from threads."""

import inspect
import threading
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

_patches: dict[int, "Patch"] = {}


class Patch:
    """`with Patch(owner, name, replace):` calls to the method go to `replace(original, *args, **kwargs)`.

    The function stays the same object, and its code is exchanged: so whoever bound the method earlier, as in
    `ask = model.generate`, is seen too, and nobody who wraps it meanwhile is in the way. Many `with` blocks, in any
    number of threads, share one exchange: it is made with the first and undone with the last. Where the class has no
    such function of its own nothing happens.
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
            if self.users == 0 and self.function is not None:
                self._restore()

    def _install(self) -> None:
        function = vars(self.owner).get(self.name)
        self.function = function if isinstance(function, FunctionType) else None
        if self.function is None:
            return
        _patches[id(self)] = self
        self.original = _copied(self.function)
        vars(self.function).setdefault("__signature__", inspect.signature(self.function))
        self.function.__code__ = _detour(self.function.__code__, id(self))
        self.function.__defaults__ = self.function.__kwdefaults__ = None  # now, as another thread may be calling

    def _restore(self) -> None:
        self.function.__defaults__ = self.original.__defaults__
        self.function.__kwdefaults__ = self.original.__kwdefaults__
        self.function.__code__ = self.original.__code__
        if "__signature__" not in vars(self.original):
            del self.function.__signature__


def call_replaced(number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the exchanged code does."""
    __tracebackhide__ = True  # IPython and pytest leave such frames out
    patch = _patches[number]
    return patch.replace(patch.original, *args, **kwargs)


def _copied(function: FunctionType) -> FunctionType:
    copy = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__, copy.__qualname__ = function.__kwdefaults__, function.__qualname__
    vars(copy).update(vars(function))
    return copy


def _detour(code: CodeType, number: int) -> CodeType:
    """Code that calls `call_replaced`; it has the free variables of `code`, as a function keeps its closure."""
    free = ", ".join(code.co_freevars)
    source = f"""
def outer({free}):
    def {code.co_name if code.co_name.isidentifier() else "detour"}(*args, **kwargs):
        __tracebackhide__ = True
        ({free}{"," if free else ""})
        return __import__({__name__!r}, None, None, ["call_replaced"]).call_replaced({number}, args, kwargs)
"""
    made = compile(source, f"<pitfalls watches {code.co_name}>", "exec")
    (outer,) = (constant for constant in made.co_consts if isinstance(constant, CodeType))
    (inner,) = (constant for constant in outer.co_consts if isinstance(constant, CodeType))
    return inner
