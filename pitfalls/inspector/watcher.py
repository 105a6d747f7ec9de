"""What one `watch` block keeps: its calls, each with a report, and nothing that holds on to memory."""

import logging
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

import torch

from pitfalls.inspector.caches import note_cache
from pitfalls.inspector.call import Call
from pitfalls.inspector.checking import apply_rules
from pitfalls.inspector.decoded import address
from pitfalls.inspector.listening import Heard
from pitfalls.inspector.report import NO_CALL, Finding, Report, as_text
from pitfalls.inspector.rows import rows_of
from pitfalls.inspector.rule import Rule
from pitfalls.inspector.rules import RULES
from pitfalls.language import N_, _, directed, html_language, ngettext

NONE_SEEN = N_("No generate call was seen.")
SHOWN = 3  # places of a finding
RECENT = 8  # calls whose output may still be decoded
LIBRARIES = ("transformers", "transformers_modules", "torch", "pitfalls")  # the second: code that came with a model
INSIDE = threading.local()  # of each thread: .generate, .decode: whether it is in one; .pipeline, .rendering: its own
_log = logging.getLogger("pitfalls")


class Calls(list[Call]):
    """The watched calls in the order in which they ended, and in `report` what was found in all of them together."""

    def __init__(self) -> None:
        super().__init__()
        self.outside = Report()  # about an exception that left the block, and came from no generate call

    @property
    def report(self) -> Report:
        return Report(finding for report in (self.outside, *(call.report for call in self)) for finding in report)

    def found(self) -> list[tuple[Finding, list[str]]]:
        """Each finding once, the most severe first, with all the places where it was made."""
        places: dict[str, list[str]] = {}
        for n, call in enumerate(self):
            for finding in call.report:
                at = _("call {number} at {place}", number=n, place=call.place) if call.place else _call(n)
                places.setdefault(finding.rule, []).append(at)
        return [(finding, places.get(finding.rule, [])) for finding in self.report]

    def as_dicts(self) -> list[dict[str, Any]]:
        """One dict per finding, for a log, with `places`."""
        return [{**finding.as_dict(), "places": places} for finding, places in self.found()]

    def summary(self) -> str:
        """How many calls there were, and each finding once with where it was made."""
        found = self.found()
        if not self and not found:
            return directed(_(NO_CALL))
        if not found:
            return directed(ngettext("{n} generate call, no pitfall", "{n} generate calls, no pitfall", len(self)))
        lines = [directed(ngettext("{n} generate call, found:", "{n} generate calls, found:", len(self)))]
        for finding, places in found:
            lines.append(as_text(finding))
            if places:
                lines.append(directed(f"  {_made_in(places)}"))
        return "\n".join(lines)

    def __repr__(self) -> str:
        told = [
            directed(_("call {number}: {told}", number=n, told=call.told())) + f"\n{call.report!r}"
            for n, call in enumerate(self)
        ]
        return "\n".join(told) or directed(_(NONE_SEEN))

    def _repr_html_(self) -> str:
        told = [f"<b{html_language()}>{_call(n)}</b>{call._repr_html_()}" for n, call in enumerate(self)]
        return "".join(told) or f"<em{html_language()}>{_(NONE_SEEN)}</em>"


def _call(number: int) -> str:
    return _("call {number}", number=number)


def _made_in(places: list[str]) -> str:
    more, shown = len(places) - SHOWN, ", ".join(places[:SHOWN])
    if more > 0:
        return _("made in: {places} and {more} more", places=shown, more=more)
    return _("made in: {places}", places=shown)


class Watcher:
    """What one block sees, and what it keeps of it."""

    def __init__(self, model: Any = None, tokenizer: Any = None, rules: Mapping[str, Rule] = RULES):
        self.model, self.tokenizer, self.rules, self.calls = model, tokenizer, rules, Calls()
        self.recent: deque[Call] = deque(maxlen=RECENT)  # for what is decoded after them
        self.errors: list[BaseException] = []  # whose tracebacks hold on to memory

    def sees(self, model: Any) -> bool:
        if self.model is None or self.model is model:
            return True
        return isinstance(self.model, torch.nn.Module) and any(module is model for module in self.model.modules())

    def let_go(self, leaving: BaseException | None = None) -> None:
        """Free what the tracebacks of errors hold on to: the cache and the logits of calls that raised.

        Only frames of the libraries are cleared, never the caller's own; and not those of the error that leaves the
        block, which a debugger may want to look into.
        """
        seen = {id(leaving)}
        while self.errors:
            error: BaseException | None = self.errors.pop()
            while error is not None and id(error) not in seen:
                seen.add(id(error))
                _clear_library_frames(error.__traceback__)
                error = error.__context__

    def report_of(self, error: BaseException) -> Report:
        return next((call.report for call in reversed(self.calls) if call.error is error), Report())

    def keep(self, call: Call) -> None:
        self.calls.append(call)
        self.errors += [call.error] if call.error is not None else []
        if call.made:
            self.recent.appendleft(call)


WATCHERS: list[Watcher] = []  # of all blocks that are open
LOCK = threading.Lock()


@contextmanager
def looking() -> Iterator[None]:
    """While rules look at a call, what they ask a tokenizer is not heard."""
    before, INSIDE.looking = getattr(INSIDE, "looking", False), True
    try:
        yield
    finally:
        INSIDE.looking = before


def conclude(
    call: Call, output: Any, error: BaseException | None, heard: Heard | None, rules: Mapping[str, Rule] = RULES
) -> None:
    """Write into the call what came of it, and its report. Whatever goes wrong here stays here."""
    call.error, ids = error, getattr(output, "sequences", output)
    try:
        if heard is not None:
            call.nan_rows, call.answered_for_all = heard.nan_rows, heard.answered_for_all
        if isinstance(ids, torch.Tensor) and heard is not None:
            call.output_ids, call.address = ids.to("cpu", copy=True), address(ids)
            call.rows = rows_of(call, heard)
    except Exception:
        call.output_ids = None
        _log.debug("the rows of a call could not be read", exc_info=True)
    try:
        call.report = apply_rules(call, rules)
        note_cache(call)
        call.release()
    except Exception:
        _log.debug("a call could not be looked at", exc_info=True)


def explain(error: BaseException, report: Report) -> None:
    """Add what explains an exception to its notes, once; Python 3.10 shows none, so there it is printed too."""
    report = Report(finding for finding in report if RULES[finding.rule].explains_error(error))
    if not len(report):
        return
    try:
        says = "\n" + directed(_("pitfalls says:"))
        if any(note.startswith(says) for note in getattr(error, "__notes__", [])):
            return
        note = f"{says}\n{report}"
        if hasattr(error, "add_note"):
            error.add_note(note)
        else:
            error.__notes__ = [*getattr(error, "__notes__", []), note]
            print(note, file=sys.stderr)
    except Exception:
        _log.debug("an exception could not be explained", exc_info=True)


def _clear_library_frames(trace: TracebackType | None) -> None:
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__")).split(".")[0] in LIBRARIES:
            with suppress(RuntimeError):  # it is still running
                trace.tb_frame.clear()
        trace = trace.tb_next
