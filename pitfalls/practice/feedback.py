"""What exercises share: an answer is checked in its own cell, and what comes back speaks to a person.

    @exercise("04", N_("Exactly one sentence"))
    def one_sentence(answer, model, tokenizer) -> str:
        ids = run(answer, model, tokenizer, "Once upon a time")
        if …:
            raise Hint(_("The prompt is still in it: cut off the first `prompt_length` tokens."))
        return _("The answer is one sentence, and nothing of the prompt.")

A checker raises `Hint` for a wrong answer and returns what a right one has proved.
"""

import dis
import re
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from html import escape
from typing import Any

import torch

from pitfalls.language import N_, _, directed, html_code, html_language, isolated
from pitfalls.practice.tasks import SIGNS, Task, answered, tasks

COLOURS = {"not yet": "#8a8a8a", "not quite": "#e69f00", "right": "#2a9d3f"}
NOT_YET = N_("Not yet: replace the dots, and run the cell again.")


class Hint(Exception):
    """What a wrong answer needs to hear."""


@dataclass(frozen=True)
class Feedback:
    """The last line of an exercise's cell."""

    state: str  # "not yet", "not quite" or "right"
    text: str

    def __repr__(self) -> str:
        return directed(f"{SIGNS[self.state]} {self.text}")

    def _repr_html_(self) -> str:
        style = f"border-inline-start: 4px solid {COLOURS[self.state]}; padding: 4px 10px; white-space: pre-wrap"
        return f'<div{html_language()} style="{style}"><b>{SIGNS[self.state]}</b> {_with_code(self.text)}</div>'


def exercise(lesson: str, title: str) -> Callable[[Callable[..., str]], Callable[..., Feedback]]:
    """Make a checker of a function that returns what was proved, or raises `Hint`. `lesson` is its number, as "04"."""

    def decorate(check: Callable[..., str]) -> Callable[..., Feedback]:
        tasks[lesson, check.__name__] = title

        @wraps(check)
        def checked(*answer, **context) -> Feedback:
            return noted((lesson, check.__name__), _checked(check, answer, context))

        return checked

    return decorate


def noted(task: Task, feedback: Feedback) -> Feedback:
    """What is said of an answer, once the answer is noted."""
    answered(task, feedback.state, feedback.text)
    return feedback


def _checked(check: Callable[..., str], answer: tuple, context: dict) -> Feedback:
    if any(is_stub(part) for part in answer):
        return Feedback("not yet", _(NOT_YET))
    try:
        proved = check(*answer, **context)
    except Hint as hint:
        return Feedback("not quite", hint.args[0])
    except Exception as error:  # an answer of a kind that nobody thought of
        wanted = _((check.__doc__ or "").strip().splitlines()[0])
        ended = _("Expected: {wanted} Checking yours ended in {error}.", wanted=wanted, error=named(error))
        return Feedback("not quite", ended)
    return Feedback("right", _("Right. {proved}", proved=proved))


def run(function: Callable, *arguments, **keywords) -> Any:
    """What the reader's function returns; what it raises becomes a hint that shows the line, and is its `__cause__`."""
    if not callable(function):
        raise Hint(_("Expected a function; this is {value}.", value=_shown(function)))
    try:
        return function(*arguments, **keywords)
    except Exception as error:
        lines = [frame.line for frame in traceback.extract_tb(error.__traceback__)[1:] if frame.line]
        if lines:
            told = (
                _("Your function stopped with {error}, in the line", error=named(error)) + f"\n    {isolated(lines[0])}"
            )
        else:
            told = _("Your function stopped with {error}", error=named(error))
        if "out of range in self" in str(error):  # PyTorch says no more than that
            told += "\n" + _(
                "An id is larger than the vocabulary. Take one position first, as in logits[0, -1], then argmax()."
            )
        raise Hint(told) from error


def equal(answer: Any, expected: Any, what: str, hints: Mapping[Any, str] | None = None) -> None:
    """Raise a hint unless they are equal: the one meant for this answer, else what was expected and what came.

    `what` is said as it comes, already translated; `hints` are looked up here.
    """
    given = answer.tolist() if isinstance(answer, torch.Tensor) else answer
    wanted = expected.tolist() if isinstance(expected, torch.Tensor) else expected
    try:
        same = bool(given == wanted)
    except Exception:  # arrays of another library
        same = False
    if same:
        return
    for wrong, hint in (hints or {}).items():
        if given == wrong:
            raise Hint(_(hint))
    raise Hint(_("Expected {what}: {wanted}. Came: {given}.", what=what, wanted=_shown(wanted), given=_shown(given)))


def is_stub(answer: Any) -> bool:
    """Dots, anywhere in it, or a function with nothing but dots inside."""
    if answer is ...:
        return True
    if isinstance(answer, Mapping):
        return any(map(is_stub, answer.values()))
    if isinstance(answer, (list, tuple, set)):
        return any(map(is_stub, answer))
    code = getattr(answer, "__code__", None)
    return code is not None and all(
        step.opname in ("RESUME", "NOP", "RETURN_VALUE")
        or (step.opname in ("LOAD_CONST", "RETURN_CONST") and step.argval is None)
        for step in dis.get_instructions(code)
    )


def named(error: BaseException) -> str:
    """An exception in one line, as Python prints it."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def as_code(text: str) -> str:
    """A block of code on a page, whose own style may know none."""
    return f'<pre{html_code()} style="font-family: monospace; line-height: 1.4; background: none">{escape(text)}</pre>'


def _with_code(text: str) -> str:
    """What stands between backticks, or in a line that is indented as code is, in the letters of code."""
    code = rf'<code{html_code()} style="font-family: monospace; background: none">\1</code>'
    lines = escape(text).splitlines()
    return "\n".join(re.sub("(.+)" if line[:4] == "    " else "`([^`]+)`", code, line) for line in lines)


def _shown(value: Any, most: int = 200) -> str:
    text = repr(value)
    return text if len(text) <= most else text[: most - 1] + "…"
