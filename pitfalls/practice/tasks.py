"""What is done of the predictions and exercises of all lessons, in one small file that outlives the kernel.

    pitfalls.practice.progress()            # the whole course
    pitfalls.practice.progress("04")        # a lesson
    pitfalls.practice.progress().reset()    # begin again

The file is `progress.json` in the folder that the operating system keeps for a user's data, or in $PITFALLS_PROGRESS.
It holds the names of what is done. Where it can't be written, this kernel remembers.
Nothing is sent anywhere, but in a workshop: there the class's board is told of each answer (`class_board.py`).
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from typing import Any

from pitfalls.language import Message, _, directed, html_language
from pitfalls.practice import class_board, kept

Task = tuple[str, str]  # (lesson, name)

SIGNS = {"not yet": "○", "not quite": "✗", "right": "✓"}
tasks: dict[Task, str] = {}  # (lesson, name): title, or question, in the order in which they were defined
_here: set[Task] = set()  # done in this kernel


def answered(task: Task, state: str, said: str) -> None:
    """Note an answer: a task that is right is done, and a class's board hears of all, with the hint of a wrong one."""
    if state == "right":
        mark(task)
    hint = said.source.strip() if state == "not quite" and isinstance(said, Message) else None
    class_board.tell("/".join(task), state, hint)


def mark(task: Task) -> None:
    """Note down that a task is done."""
    _here.add(task)
    with suppress(OSError, RuntimeError):  # a folder that may not be written to; an account without one
        _change(lambda done: done | {task})


def done() -> set[Task]:
    """The tasks that are done, in this kernel or before."""
    return _here | _read()


def in_order() -> list[tuple[Task, str]]:
    """All tasks with their titles, as the course has them: of each lesson the prediction first, and the exam last."""
    return sorted(tasks.items(), key=lambda item: (item[0][0], item[0][1] != "prediction", item[0][1] == "exam"))


@dataclass(frozen=True)
class Progress:
    """What is done and what is open in a lesson, or in all of them (None)."""

    lesson: str | None = None

    def lessons(self) -> dict[str, list[tuple[bool, str]]]:
        """Of each lesson that is meant, its tasks in its own order: whether one is done, and its title."""
        ready = done()  # the file is read once
        found: dict[str, list[tuple[bool, str]]] = {}
        for task, title in in_order():
            if self.lesson in (None, task[0]):
                told = _("Predict: {question}", question=_(title)) if task[1] == "prediction" else _(title)
                found.setdefault(task[0], []).append((task in ready, told))
        return found

    def reset(self) -> "Progress":
        """Forget what was done, in this lesson or in all."""
        forgotten = {task for task in done() if self.lesson in (None, task[0])}
        _here.difference_update(forgotten)
        with suppress(OSError, RuntimeError):
            _change(lambda before: before - forgotten)
        return self

    def __repr__(self) -> str:
        lessons = self.lessons()
        everything = [item for items in lessons.values() for item in items]
        counts = {"done": _ready(everything), "all": len(everything)}
        if self.lesson:
            lines = [_("{done} of {all} done", **counts), *(_line(ready, title) for ready, title in everything)]
        else:
            lines = [_("{done} of {all} done in the course", **counts), *map(_lesson, lessons, lessons.values())]
        return directed("\n".join([*lines, *class_board.notice()]))

    def _repr_html_(self) -> str:
        return f'<pre{html_language()} style="font-family: monospace; background: none">{escape(repr(self))}</pre>'


def _ready(items: list[tuple[bool, str]]) -> int:
    return sum(ready for ready, _title in items)


def _line(ready: bool, text: str) -> str:
    return f"{SIGNS['right' if ready else 'not yet']} {text}"


def _lesson(lesson: str, items: list[tuple[bool, str]]) -> str:
    ready = _ready(items)
    return _line(
        ready == len(items), _("lesson {lesson:2}: {done} of {all}", lesson=int(lesson), done=ready, all=len(items))
    )


def progress(lesson: str | None = None) -> Progress:
    """The predictions and exercises of a lesson, as "04", or of the whole course.

    Raises `ValueError` for a lesson that has none.
    """
    if lesson is not None and lesson not in {number for number, _name in tasks}:
        raise ValueError(
            _("There are no exercises for {lesson!r}; lessons are written as in progress('04').", lesson=lesson)
        )
    return Progress(lesson)


def _read() -> set[Task]:
    try:
        return _tasks(kept.read(kept.progress_file()))
    except RuntimeError:
        return set()


def _tasks(by_lesson: Any) -> set[Task]:
    try:
        return {(lesson, name) for lesson, names in by_lesson.items() for name in names}
    except (AttributeError, TypeError):  # there is no file, or it is not ours
        return set()


def _change(how: Callable[[set[Task]], set[Task]]) -> None:
    def changed(before: Any) -> dict[str, list[str]]:
        by_lesson: dict[str, list[str]] = {}
        for lesson, name in sorted(how(_tasks(before))):
            by_lesson.setdefault(lesson, []).append(name)
        return by_lesson

    kept.change(kept.progress_file(), changed)
