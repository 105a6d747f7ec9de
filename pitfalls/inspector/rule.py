"""What a rule is: a function over one call that says nothing, or what is wrong with it."""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from pitfalls.inspector.call import Call
from pitfalls.inspector.report import Finding
from pitfalls.language import _

GENERATE = "output = model.generate(**inputs, max_new_tokens=50)"  # the end of many a fix
TEMPLATE = """
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
output = model.generate(**inputs, max_new_tokens=200)
"""


class Said(NamedTuple):
    """What a rule says where the message alone does not do."""

    message: str
    severity: str | None = None  # None: the rule's own
    fix: str | None = None  # None: the rule's own


Look = Callable[[Call], str | Said | None]


@dataclass(frozen=True)
class Rule:
    """A function over one `Call` that says nothing or a message, and what is printed with it.

    The function's name is the rule's name, its docstring the story: one sentence, then why.
    """

    look: Look
    severity: str
    lesson: str
    mistake: str
    fix: str
    source: str
    explains: str  # a pattern for "ValueError: …": the exceptions that this mistake ends in; empty for none
    encoders: bool  # whether it holds for encoder-decoder models too

    @property
    def name(self) -> str:
        return self.look.__name__.replace("_", "-")

    @property
    def summary(self) -> str:
        """What happens, in the chosen language: the first sentence of the story."""
        return _(self.story).splitlines()[0]

    @property
    def story(self) -> str:
        """In English: a message to look up as a whole."""
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
        said = Said(said) if isinstance(said, str) else said
        fix = self.fix if said.fix is None else inspect.cleandoc(said.fix)
        return Finding(self.name, said.severity or self.severity, said.message, fix, self.lesson)

    def explains_error(self, error: BaseException) -> bool:
        return bool(self.explains) and bool(re.search(self.explains, f"{type(error).__name__}: {error}"))


def rule(
    severity: str, lesson: str, *, mistake: str, fix: str, source: str, explains: str = "", encoders: bool = False
) -> Callable[[Look], Rule]:
    """Make a `Rule` of the function below it. `mistake` and `fix` are code for the names that `Finding.fix` tells."""
    return lambda look: Rule(
        look, severity, lesson, inspect.cleandoc(mistake), inspect.cleandoc(fix), source, explains, encoders
    )
