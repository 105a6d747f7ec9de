"""`watch` around code that knows nothing of it: a script, the cells of a notebook, a test.

    python -m pitfalls run script.py --its --arguments
    %load_ext pitfalls
    pytest --pitfalls

Nothing is imported before the code itself imports it: what a script sets up for transformers must come first.
"""

from __future__ import annotations

import io
import json
import os
import runpy
import signal
import sys
import threading
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from pitfalls.inspector.importing import Awaited
from pitfalls.inspector.report import NO_CALL
from pitfalls.language import _, directed

if TYPE_CHECKING:
    from pitfalls.inspector.watcher import Calls

GENERATE = "transformers.generation.utils"  # with it everything that `watch` needs is there


class LateWatch:
    """`pitfalls.watch(…)` that begins when the code inside has imported transformers; until then `calls` is None."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.calls: Calls | None = None

    def __enter__(self) -> LateWatch:
        self.block = ExitStack()
        self.awaited = Awaited(GENERATE, self._begin)
        return self

    def _begin(self) -> None:
        from pitfalls.inspector.watching import watch

        self.calls = self.block.enter_context(watch(**self.options))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.awaited.cancel()
        self.block.__exit__(kind, error, trace)


# --- a script ----------------------------------------------------------------------------------------------------


def run(
    target: str,
    arguments: list[str],
    module: bool = False,
    only: Iterable[str] = (),
    ignore: Iterable[str] = (),
    fail: bool = False,
    save: Path | None = None,
) -> int:
    """Run a script, or a module, as Python itself does; what was found goes to stderr, and as JSON into `save`.

    Returns the program's own exit status, or 1 where `fail` and an error was found. Raises `ValueError` for a name of
    a rule that there is not, `FileNotFoundError` for a script that there is not, before anything is run.
    """
    if only or ignore:
        from pitfalls.inspector.checking import selected

        selected(only, ignore)
    if not module and not Path(target).exists():
        raise FileNotFoundError(_("There is no script {script!r} in {folder}.", script=target, folder=Path.cwd()))
    if save is not None and not save.absolute().parent.is_dir():
        raise FileNotFoundError(_("There is no folder for {file}: make it first.", file=save))
    watched = LateWatch(only=only, ignore=ignore)
    status, interrupted = _status_of(target, arguments, module, watched)
    sys.stdout.flush()
    summary = watched.calls.summary() if watched.calls is not None else directed(_(NO_CALL))
    print(f"\npitfalls: {summary}", file=sys.stderr)
    findings = watched.calls.as_dicts() if watched.calls is not None else []
    if save is not None:
        save.write_text(json.dumps({"calls": len(watched.calls or ()), "findings": findings}, indent=1) + "\n", "utf-8")
    if interrupted:  # the shell is to see that the program was interrupted, as without us
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return status or int(fail and any(finding["severity"] == "error" for finding in findings))


def _status_of(target: str, arguments: list[str], module: bool, watched: LateWatch) -> tuple[int, bool]:
    """The exit status that Python gives, and whether the program was interrupted; errors are printed as Python does."""
    sys.argv = [target, *arguments]
    if not module:
        sys.path[0] = str(Path(target).resolve().parent)
    try:
        with watched:
            if module:
                runpy.run_module(target, run_name="__main__", alter_sys=True)
            else:
                _run_script(str(Path(target).absolute()))
            for thread in threading.enumerate():
                if thread is not threading.current_thread() and not thread.daemon:
                    thread.join()
    except SystemExit as asked:
        if asked.code is None or isinstance(asked.code, int):
            return asked.code or 0, False
        print(asked.code, file=sys.stderr)
        return 1, False
    except BaseException as error:
        error.__traceback__ = _own(error.__traceback__)
        sys.excepthook(type(error), error, error.__traceback__)
        return 1, isinstance(error, KeyboardInterrupt)
    return 0, False


def _run_script(path: str) -> None:
    """As `python script.py` does; `runpy.run_path` would change `sys.argv`, and forget the module at the end."""
    program = sys.modules["__main__"] = ModuleType("__main__")
    program.__file__ = path
    with io.open_code(path) as file:
        code = compile(file.read(), path, "exec")
    exec(code, vars(program))


def _own(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames that run the program."""
    here = {__file__, runpy.__file__, "<frozen runpy>"}
    while trace is not None and trace.tb_frame.f_code.co_filename in here:
        trace = trace.tb_next
    return trace
