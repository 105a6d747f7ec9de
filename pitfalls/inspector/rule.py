"""What a rule is: a function over one call that says nothing, or what is wrong with it."""

import ast
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

from pitfalls.inspector.call import Call
from pitfalls.inspector.report import Finding

GENERATE = "output = model.generate(**inputs, max_new_tokens=50)"  # the end of many a fix
Said = str | tuple[str, str] | None
Look = Callable[[Call], Said]


@dataclass(frozen=True)
class Rule:
    """A function over one `Call` that says nothing or a message, and what is printed with it.

    The function's name is the rule's name, its docstring the story: one sentence, then why. It returns None, a message,
    or a severity and a message where that differs from the rule's own.
    """

    look: Look
    severity: str
    lesson: str
    mistake: str
    fix: str
    source: str

    @property
    def name(self) -> str:
        return self.look.__name__.replace("_", "-")

    @property
    def summary(self) -> str:
        return self.story.splitlines()[0]

    @property
    def story(self) -> str:
        told = inspect.getdoc(self.look)
        if told is None:  # `python -OO` drops docstrings: this one is read from the file
            (function,) = ast.parse(textwrap.dedent(inspect.getsource(self.look))).body
            assert isinstance(function, ast.FunctionDef)
            told = ast.get_docstring(function)
        return told or ""

    def __call__(self, call: Call) -> Finding | None:
        said = self.look(call)
        if said is None:
            return None
        severity, message = said if isinstance(said, tuple) else (self.severity, said)
        return Finding(self.name, severity, message, self.fix, self.lesson)


def rule(severity: str, lesson: str, *, mistake: str, fix: str, source: str) -> Callable[[Look], Rule]:
    """Make a `Rule` of the function below it. `mistake` and `fix` are code for the names that `Finding.fix` tells."""
    return lambda look: Rule(look, severity, lesson, inspect.cleandoc(mistake), inspect.cleandoc(fix), source)
