"""`%load_ext pitfalls`: every cell is watched, and a report stands under it where there is something to say.

%pitfalls off
%pitfalls on
%pitfalls ignore trailing-space special-tokens-kept
"""

from typing import Any

from pitfalls.inspector.anywhere import LateWatch
from pitfalls.language import _, directed

_extension: "_Cells | None" = None


class _Cells:
    """What happens before and after each cell of one shell."""

    def __init__(self, shell: Any) -> None:
        self.shell, self.on = shell, False
        self.ignore: tuple[str, ...] = ()
        self.open: list[LateWatch] = []  # a cell may run another one
        self.events = {"pre_run_cell": self.before, "post_run_cell": self.after}

    def switch(self, on: bool) -> None:
        if on is not self.on:
            self.on = on
            for name, event in self.events.items():
                (self.shell.events.register if on else self.shell.events.unregister)(name, event)

    def before(self, info: Any = None) -> None:
        self.open.append(LateWatch(ignore=self.ignore).__enter__())

    def after(self, result: Any = None) -> None:
        if not self.open:  # the cell that switched it on
            return
        watched, error = self.open.pop(), getattr(result, "error_in_exec", None)
        watched.__exit__(type(error) if error else None, error, getattr(error, "__traceback__", None))
        if watched.calls is not None and watched.calls.report:
            from IPython.display import display

            display(watched.calls.report)

    def magic(self, line: str) -> None:
        asked, *names = line.split() or ["?"]
        if asked in ("on", "off") and not names:
            self.switch(asked == "on")
        elif asked == "ignore":
            self.ignore = _checked(names)
        else:
            more = _("Say %pitfalls on, %pitfalls off, or %pitfalls ignore RULE ….")
            print(directed(f"{self.state()} {more}"))

    def state(self) -> str:
        rules = ", ".join(self.ignore)
        if self.on:
            return _("pitfalls is on, without {rules}.", rules=rules) if rules else _("pitfalls is on.")
        return _("pitfalls is off, without {rules}.", rules=rules) if rules else _("pitfalls is off.")


def _checked(names: list[str]) -> tuple[str, ...]:
    from pitfalls.inspector.checking import selected

    try:
        selected(ignore=names)
    except ValueError as error:
        from IPython.core.error import UsageError

        raise UsageError(str(error)) from None
    return tuple(names)


def load(shell: Any) -> None:
    global _extension
    _extension = _extension or _Cells(shell)
    _extension.switch(True)
    shell.register_magic_function(_extension.magic, magic_name="pitfalls")


def unload() -> None:
    if _extension is not None:
        _extension.switch(False)
