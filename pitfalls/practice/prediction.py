"""Choose before you run: the question quotes code, and that code gives the answer.

Questions stand in the modules of the lessons and not in the notebooks, where a web page would show what is said of
each choice above the choices themselves.
"""

import ast
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import ipywidgets

from pitfalls.practice.feedback import Feedback, as_code
from pitfalls.practice.tasks import mark, tasks
from pitfalls.silence import silenced
from pitfalls.widgets.play import shown_live


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


class Prediction:
    """A question about code, with a button for each choice.

    The first click runs the code, in the notebook's own names; what its last line gives is the right choice. No key is
    written anywhere.
    """

    def __init__(self, asked: Question, names: dict):
        self.question, self.code, self.choices, self.names = asked.text, asked.code, asked.choices, names
        self.key = asked.key
        self.feedback = ipywidgets.HTML()
        self.buttons = [self._button(choice) for choice in self.choices]
        self.root = ipywidgets.VBox([ipywidgets.HTML(self._head()), *self.buttons, self.feedback])
        self.root.add_class("pitfalls-predict")

    def _head(self) -> str:
        return f"<b>{escape(self.question)}</b>{as_code(self.code)}"

    def _button(self, choice: Any) -> ipywidgets.Button:
        button = ipywidgets.Button(description=str(choice), layout={"width": "auto"})
        button.on_click(lambda _: self._show(choice))
        return button

    def answer(self) -> Any:
        """What the code gives; it runs once."""
        if not hasattr(self, "_answer"):
            with warnings.catch_warnings(), silenced():  # what transformers says of it is for the lesson to show
                warnings.simplefilter("ignore")
                self._answer = _last_value(self.code, dict(self.names))
        return self._answer

    def choose(self, choice: Any) -> Feedback:
        """What a click on this choice says."""
        try:
            answer = self.answer()
        except Exception as error:
            hint = "Run the cells above first." if isinstance(error, NameError) else "Is the code above unchanged?"
            return Feedback("not yet", f"The code stopped with {type(error).__name__}: {error}. {hint}")
        if answer not in self.choices:
            text = f"The code gives {answer!r} here, which is none of the choices: they are about the embedded model."
            return Feedback("not quite", text)
        mark(self.key)
        if choice == answer:
            return Feedback("right", f"Right: {choice}. {self.choices[choice]}")
        return Feedback("not quite", f"Not {choice}: {self.choices[choice]} Think again, or run on and see.")

    def _show(self, choice: Any) -> None:
        for button in self.buttons:
            button.disabled = True
        self.feedback.value = "<i>running the code …</i>"
        try:
            self.feedback.value = self.choose(choice)._repr_html_()
        finally:
            for button in self.buttons:
                button.disabled = False

    def _repr_mimebundle_(self, **kwargs) -> dict:
        text = "\n".join([self.question, self.code, *(f"( ) {choice}" for choice in self.choices)])
        choices = "".join(f"<li>{escape(str(choice))}</li>" for choice in self.choices)
        html = f"{self._head()}<ul>{choices}</ul><i>Run this cell to choose.</i>"
        return shown_live(self.root, text) | {"text/html": html}


def question(lesson: str, text: str, code: str, choices: Mapping[Any, str]) -> Question:
    """The prediction of a lesson. `choices` maps each possible value of the code's last line to what is said of it."""
    asked = questions[lesson] = Question(lesson, text, code.strip(), dict(choices))
    tasks[asked.key] = f"Predict: {text}"
    return asked


def predict(lesson: str) -> Prediction:
    """Ask the question of a lesson, as "04", before its code is run.

    The code sees the notebook's names, and leaves them as they are. Raises `ValueError` for a lesson without one.
    """
    if lesson not in questions:
        raise ValueError(f"There is no prediction for {lesson!r}; lessons are written as in predict('04').")
    return Prediction(questions[lesson], sys._getframe(1).f_globals)


def _last_value(code: str, names: dict) -> Any:
    tree = ast.parse(code)
    value = tree.body.pop()
    assert isinstance(value, ast.Expr), "the code of a prediction ends in its answer"
    last = ast.Expression(value.value)
    exec(compile(tree, "<prediction>", "exec"), names)
    return eval(compile(last, "<prediction>", "eval"), names)
