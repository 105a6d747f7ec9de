"""Choose before you run: the question quotes code, and that code gives the answer.

Questions stand in the modules of the lessons and not in the notebooks, where a web page would show what is said of
each choice above the choices themselves.
"""

import ast
import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import traitlets

from pitfalls.language import N_, _, directed, isolated
from pitfalls.practice.feedback import Feedback, as_code
from pitfalls.practice.tasks import SIGNS, answered, mark, tasks
from pitfalls.silence import silenced
from pitfalls.widgets.play import Play, module

WORDS = {
    "working": N_("running the code …"),
    "answer": N_("Answer"),
    "needs_notebook": N_("The answer is what the code gives: to choose, run this cell in a notebook."),
}


@dataclass(frozen=True)
class Question:
    """What a lesson asks before its failure; the key under which it is done."""

    lesson: str
    text: str
    code: str
    choices: dict[Any, str]

    @property
    def key(self) -> tuple[str, str]:
        return self.lesson, "prediction"


questions: dict[str, Question] = {}  # by lesson


class Prediction(Play):
    """A question about code, with a button for each choice.

    The first click runs the code, in the notebook's own names; what its last line gives is the right choice. No key is
    written anywhere. Where a lesson is run to be saved, the code runs at once, for the pages without a kernel.
    """

    _esm = module(__package__, "prediction")
    chosen = traitlets.Int(-1).tag(sync=True)

    def __init__(self, asked: Question, names: dict):
        self.question, self.code, self.choices, self.names = _(asked.text), asked.code, asked.choices, names
        self.key = asked.key
        self.told: list[Feedback] = []  # of each choice, once the code has run
        super().__init__(WORDS)
        self.on_msg(lambda _widget, clicked, _buffers: self._run(lambda: self._click(clicked["choose"])))

    def answer(self) -> Any:
        """What the code gives; it runs once."""
        if not hasattr(self, "_answer"):
            with warnings.catch_warnings(), silenced():  # what transformers says of it is for the lesson to show
                warnings.simplefilter("ignore")
                self._answer = _last_value(self.code, dict(self.names))
        return self._answer

    def choose(self, choice: Any) -> Feedback:
        """What a click on this choice says."""
        said = self._say(choice)
        chosen = said.state != "not yet" and self.answer() in self.choices
        if chosen:  # whoever has chosen has done it
            mark(self.key)
        answered(self.key, said.state, _(self.choices[choice]) if chosen else said.text)
        return said

    def _say(self, choice: Any) -> Feedback:
        try:
            answer = self.answer()
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            told = _("The code stopped with {error}.", error=said)
            lost = isinstance(error, NameError)
            hint = _("Run the cells above first.") if lost else _("Is the code above unchanged?")
            return Feedback("not yet", f"{told} {hint}")
        if answer not in self.choices:
            text = _(
                "The code gives {answer!r} here, which is none of the choices: they are about the embedded model.",
                answer=answer,
            )
            return Feedback("not quite", text)
        words = {"choice": _label(choice), "said": _(self.choices[choice])}
        if choice == answer:
            return Feedback("right", _("Right: {choice}. {said}", **words))
        return Feedback("not quite", _("Not {choice}: {said} Think again, or run on and see.", **words))

    def _tell(self) -> None:
        self.told = [self._say(choice) for choice in self.choices]

    def _click(self, n: int) -> None:
        self.choose(list(self.choices)[n])
        self._tell()

    def _data(self) -> dict[str, Any]:
        feedback = [{"state": said.state, "sign": SIGNS[said.state], "text": said.text} for said in self.told]
        choices = list(map(_label, self.choices))
        return {"question": self.question, "code": self.code, "choices": choices, "feedback": feedback}

    def _saved(self) -> dict[str, str]:
        if os.environ.get("PITFALLS_SAVING"):
            self._run(self._tell)
        labels = list(map(_label, self.choices))
        choices = "".join(f"<li>{escape(label)}</li>" for label in labels)
        right = next((said for said in self.told if said.state == "right"), None)
        answer = f"<details><summary>{_(WORDS['answer'])}</summary>{right._repr_html_()}</details>" if right else ""
        still = f"<p><b>{escape(self.question)}</b></p>{as_code(self.code)}<ul>{choices}</ul>{answer}"
        words = "\n".join([directed(self.question), self.code, *(directed(f"( ) {label}") for label in labels)])
        return {"text/html": self._page(still), "text/plain": words}


def question(lesson: str, text: str, code: str, choices: Mapping[Any, str]) -> Question:
    """The prediction of a lesson. `choices` maps each possible value of the code's last line to what is said of it.

    The text, what is said, and those values that are words for the reader are marked for translation.
    """
    asked = questions[lesson] = Question(lesson, text, code.strip(), dict(choices))
    tasks[asked.key] = text
    return asked


def predict(lesson: str) -> Prediction:
    """Ask the question of a lesson, as "04", before its code is run.

    The code sees the notebook's names, and leaves them as they are. Raises `ValueError` for a lesson without one.
    """
    if lesson not in questions:
        raise ValueError(
            _("There is no prediction for {lesson!r}; lessons are written as in predict('04').", lesson=lesson)
        )
    return Prediction(questions[lesson], sys._getframe(1).f_globals)


def _label(choice: Any) -> str:
    """A choice as it is shown; numbers and signs keep their own order among words that run from right to left."""
    return isolated(_(choice) if isinstance(choice, str) else str(choice))


def _last_value(code: str, names: dict) -> Any:
    tree = ast.parse(code)
    value = tree.body.pop()
    assert isinstance(value, ast.Expr), "the code of a prediction ends in its answer"
    last = ast.Expression(value.value)
    exec(compile(tree, "<prediction>", "exec"), names)
    return eval(compile(last, "<prediction>", "eval"), names)
