"""What a rule is, and what it says."""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from pitfalls.inspector.request import Request

GENERATE = "output = model.generate(**inputs, max_new_tokens=50)"  # the end of many a fix
SEVERITIES = ("error", "warning", "note")  # it raises or can't be right; the text suffers; worth knowing


@dataclass(frozen=True)
class Finding:
    """One mistake in one call."""

    rule: str
    severity: str
    message: str  # what will happen, or did, with the numbers of this call
    fix: str  # code that runs as it stands where `model`, `tokenizer`, `inputs`, `texts` and `messages` are yours
    lesson: str  # such as "06_padding_side"

    @property
    def link(self) -> str:
        return lesson_link(self.lesson)

    def as_dict(self) -> dict[str, str]:
        return {**vars(self), "link": self.link}


@dataclass(frozen=True)
class Rule:
    """A function over one `Request` that says nothing or a message, and what is printed with it.

    The function's name is the rule's name, its docstring the story: one sentence, then why. It returns None, a message,
    or a severity and a message where that differs from the rule's own.
    """

    look: Callable[[Request], str | tuple[str, str] | None]
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
        return inspect.getdoc(self.look).splitlines()[0]

    @property
    def story(self) -> str:
        return inspect.getdoc(self.look)

    def __call__(self, request: Request) -> Finding | None:
        said = self.look(request)
        if said is None:
            return None
        severity, message = said if isinstance(said, tuple) else (self.severity, said)
        return Finding(self.name, severity, message, self.fix, self.lesson)


def rule(severity: str, lesson: str, *, mistake: str, fix: str, source: str) -> Callable[[Callable], Rule]:
    """Make a `Rule` of the function below it. `mistake` and `fix` are code for the names that `Finding.fix` tells."""
    return lambda look: Rule(look, severity, lesson, inspect.cleandoc(mistake), inspect.cleandoc(fix), source)


def lesson_link(lesson: str) -> str:
    """Where a reader without a copy of the course finds the lesson."""
    urls = metadata.metadata("generation-pitfalls").get_all("Project-URL") or []
    repository = next((re.split(r",\s*", url, maxsplit=1)[1] for url in urls if url.startswith("Repository")), "")
    return f"{repository}/blob/main/notebooks/{lesson}.ipynb"
