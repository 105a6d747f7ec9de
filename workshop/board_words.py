"""What the board's page says, in the board's language; its templates call these."""

import re
from urllib.parse import urlencode

from tally import IDLE, Cell, Learner, Tried, lesson_of

from pitfalls.language import _, ngettext


def words() -> dict[str, str]:
    """What the page says that does not depend on the class."""
    return {
        "title": _("The class at a glance"),
        "learner": _("Learner"),
        "everyone": _("The class"),
        "lesson": _("Lesson"),
        "task": _("Task"),
        "state": _("State"),
        "wrong": _("Wrong answers"),
        "hint": _("Last hint"),
        "ago": _("Last answer"),
        "times": _("Times"),
        "learners": _("Learners"),
        "said": _("The hint that it got"),
        "frequent": _("Frequent wrong answers"),
        "nobody": _("Nobody has answered anything yet. What instructors answer does not count."),
        "no_wrong": _("None so far."),
        "silent": _("Logged in, and no answer yet:"),
        "signs": _("2/4: two of four tasks done · ✓ all done · ○ begun and not done · ✗ wrong answers"),
        "stuck": _("A red cell with !: three or more wrong answers to one task. Who is stuck stands first."),
        "open": _("A name opens what its learner did, task by task."),
        "exam": _("The exam"),
        "seed": _("Seed"),
        "seed_why": _("With a seed, from 0 to 9999, exam() draws the same mistakes for the whole class."),
        "set": _("Set"),
        "clear": _("Clear"),
        "csv_class": _("Export the class"),
        "csv_events": _("Export all attempts"),
        "hub": _("The hub"),
        "updated": _("Last update"),
        "lost": _("The connection is lost; what you see is old. Trying again …"),
        "again": _("You are logged out; what you see is old. Load the page again."),
    }


signs = {"done": "✓", "stuck": "!", "begun": "", "untouched": ""}


def state_of(tried: Tried) -> str:
    if tried.done:
        return "✓ " + _("done")
    if tried.stuck:
        return "! " + _("stuck")
    return "✗ " + _("not quite") if tried.failed else "○ " + _("begun")


def cell_label(lesson: str, cell: Cell) -> str:
    """What a cell says to who does not see it."""
    return _(
        "Lesson {lesson}: {done} of {all} done, {open} begun, wrong answers: {failed}",
        lesson=int(lesson), done=cell.done, all=cell.all, open=cell.open, failed=cell.failed,
    )  # fmt: skip


def troubles(learner: Learner, titles: dict[str, str], now: float) -> list[str]:
    """Why a learner stands at the top, in words: the task that goes worst, and a long silence."""
    worst, idle = learner.stuck[:1], learner.idle(now)
    told = [f"! {int(lesson_of(one.task))} ✗{one.failed} · {titles[one.task]}" for one in worst]
    return told + ([_("… no answer for {time}", time=ago(idle))] if idle else [])


def ago(minutes: int) -> str:
    return _("{n} min", n=minutes) if minutes < 120 else _("{n} h", n=minutes // 60)


def summary(learners: list[Learner], now: float) -> str:
    """The class in one line."""
    stuck, idle = sum(bool(one.stuck) for one in learners), sum(bool(one.idle(now)) for one in learners)
    return " · ".join(
        [
            ngettext("{n} learner has answered", "{n} learners have answered", len(learners)),
            _("stuck: {n}", n=stuck),
            _("no answer for {time} or longer: {n}", time=ago(IDLE), n=idle),
            _("tasks done: {n}", n=sum(one.done for one in learners)),
        ]
    )


def percent_done(learners: list[Learner], lesson: str) -> int:
    return 100 * sum(one.cells[lesson].done for one in learners) // sum(one.cells[lesson].all for one in learners)


def toggled(opened: set[str], name: str) -> str:
    """The page's address with this learner's row opened, or closed."""
    return "?" + urlencode({"open": sorted(opened ^ {name})}, doseq=True)


def title_of(task: str, title: str) -> str:
    """What a task is called, in the board's language."""
    return _("Predict: {question}", question=_(title)) if task.endswith("/prediction") else _(title)


def hint_shown(hint: str) -> str:
    """A hint in the board's language, with … in place of what was a learner's own."""
    return re.sub(r"\{[^{}\s]*\}", "…", _(hint))
