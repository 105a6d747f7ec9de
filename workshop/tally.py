"""What the class has answered: events as learners' kernels send them, kept in SQLite, counted, and as tables."""

import csv
import io
import json
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

STATES = ["not yet", "not quite", "right"]
BYTES, AT_ONCE, KEPT = 2**18, 200, 20_000  # of a message; events in it; events of one learner
HINT = 500  # letters
STUCK, IDLE = 3, 10  # wrong answers to one task; minutes without an answer
TABLES = """
    PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY, learner TEXT NOT NULL, task TEXT NOT NULL,
        state TEXT NOT NULL, hint TEXT, at REAL NOT NULL, received REAL NOT NULL) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS by_learner ON events (learner, task, state, at);
    CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
PER_TASK = """
    SELECT learner, task, max(state = 'right'), sum(state = 'not quite'), max(at) FROM events GROUP BY learner, task
"""
HINTS = "SELECT task, hint FROM events WHERE learner = ? AND hint IS NOT NULL ORDER BY at"
WRONG_ANSWERS = """
    SELECT task, hint, count(DISTINCT learner) AS learners, count(*) AS times FROM events WHERE hint IS NOT NULL
    GROUP BY task, hint ORDER BY learners DESC, times DESC, task LIMIT 20
"""
EVENTS = """
    SELECT learner, task, state, hint, strftime('%Y-%m-%dT%H:%M:%S+00:00', at, 'unixepoch') FROM events ORDER BY at
"""


# What learners' kernels send


@dataclass(frozen=True)
class Event:
    """An answer to a task."""

    id: str
    task: str
    state: str
    hint: str | None
    at: float


def event_of(said: Any, tasks: dict[str, str]) -> Event:
    """An event as JSON holds it. Raises `ValueError`, with a sentence, for anything else."""
    if not isinstance(said, dict):
        raise ValueError("An event is an object with id, task, state, hint and at.")
    id, task, state, hint, at = (said.get(name) for name in ("id", "task", "state", "hint", "at"))
    if not (isinstance(id, str) and re.fullmatch("[0-9a-f]{32}", id)):
        raise ValueError("An event's id has 32 hexadecimal digits, as uuid4().hex has.")
    if not (isinstance(task, str) and task in tasks):
        raise ValueError(f"There is no task {str(task)[:80]!r}; a name is written as in '06/batch_like_single'.")
    if state not in STATES:
        raise ValueError(f"A state is one of {', '.join(STATES)}; this is {str(state)[:80]!r}.")
    if not (hint is None or isinstance(hint, str)):
        raise ValueError("A hint is a text, or null.")
    if type(at) not in (int, float) or not 0 <= at < 1e11:
        raise ValueError("`at` is a time, in seconds since 1970.")
    told = hint[:HINT].encode("utf-8", "replace").decode() if hint and state == "not quite" else None
    return Event(id, task, state, told, at)


def events_of(body: bytes, tasks: dict[str, str]) -> tuple[list[Event], str | None]:
    """The events in a message, and a sentence about the first that is none: the others of its message count.

    Raises `ValueError` for what is no list of events at all.
    """
    if len(body) > BYTES:
        raise ValueError(f"This is {len(body):,} bytes; a message has {BYTES:,} at most.")
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("This is no JSON; a list of events is.") from None
    if not isinstance(said, list) or len(said) > AT_ONCE:
        raise ValueError(f"Events come as a list, {AT_ONCE} at most.")
    events, wrong = [], None
    for one in said:
        try:
            events.append(event_of(one, tasks))
        except ValueError as error:
            wrong = wrong or str(error)
    return events, wrong


class Store:
    """What the class has answered, and its exam's seed, in a file."""

    def __init__(self, file: str | Path):
        self._base = sqlite3.connect(file, isolation_level="IMMEDIATE")
        self._base.executescript(TABLES)

    def close(self) -> None:
        self._base.close()

    def rows(self, query: str, *values: object) -> list[tuple]:
        """What a query gives."""
        return self._base.execute(query, values).fetchall()

    def add(self, learner: str, events: list[Event]) -> None:
        """Keep the events of a learner: of those with the same id the first, and no more than `KEPT`."""
        room = KEPT - self.rows("SELECT count(*) FROM events WHERE learner = ?", learner)[0][0]
        now = time.time()
        rows = [(one.id, learner, one.task, one.state, one.hint, min(one.at, now), now) for one in events[:room]]
        with self._base:
            self._base.executemany("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    @property
    def seed(self) -> int | None:
        """The exam's seed for the class."""
        found = self.rows("SELECT value FROM settings WHERE name = 'seed'")
        return json.loads(found[0][0]) if found else None

    @seed.setter
    def seed(self, seed: int | None) -> None:
        with self._base:
            self._base.execute("INSERT OR REPLACE INTO settings VALUES ('seed', ?)", (json.dumps(seed),))


# What the instructor sees of it


@dataclass(frozen=True)
class Tried:
    """How a learner stands with one task."""

    task: str
    done: bool
    failed: int
    at: float

    @property
    def stuck(self) -> bool:
        return self.failed >= STUCK and not self.done


@dataclass(frozen=True)
class Cell:
    """How a learner stands with a lesson."""

    all: int
    tried: list[Tried]

    @property
    def done(self) -> int:
        return sum(one.done for one in self.tried)

    @property
    def open(self) -> int:
        """Tasks that are begun, and not done."""
        return len(self.tried) - self.done

    @property
    def failed(self) -> int:
        """Wrong answers."""
        return sum(one.failed for one in self.tried)

    @property
    def kind(self) -> str:
        """What its colour says."""
        if any(one.stuck for one in self.tried):
            return "stuck"
        return "done" if self.done == self.all else "begun" if self.tried else "untouched"


@dataclass(frozen=True)
class Learner:
    """A row of the board."""

    name: str
    tried: list[Tried]  # in the course's order
    cells: dict[str, Cell]  # by lesson

    @property
    def stuck(self) -> list[Tried]:
        """The tasks that don't go, the worst first."""
        return sorted((one for one in self.tried if one.stuck), key=lambda one: -one.failed)

    @property
    def done(self) -> int:
        return sum(cell.done for cell in self.cells.values())

    def idle(self, now: float) -> int:
        """Minutes without an answer, once they are too many; 0 for who is at work, or has done all."""
        minutes = minutes_since(max(one.at for one in self.tried), now)
        finished = self.done == sum(cell.all for cell in self.cells.values())
        return minutes if minutes >= IDLE and not finished else 0


def minutes_since(at: float, now: float) -> int:
    return int(max(0, now - at) // 60)


def class_of(store: Store, tasks: dict[str, str], now: float) -> list[Learner]:
    """All who have answered anything: first who is stuck, then who has not answered for long, then by name."""
    answered: dict[str, dict[str, Tried]] = {}
    for learner, task, done, failed, at in store.rows(PER_TASK):
        if task in tasks:  # else of a course that had other tasks
            answered.setdefault(learner, {})[task] = Tried(task, bool(done), failed, at)
    in_order = {name: [tried[task] for task in tasks if task in tried] for name, tried in answered.items()}
    learners = [Learner(name, tried, cells_of(tried, lessons_of(tasks))) for name, tried in in_order.items()]
    return sorted(
        learners, key=lambda one: (-max((task.failed for task in one.stuck), default=0), -one.idle(now), one.name)
    )


def cells_of(tried: list[Tried], lessons: Mapping[str, int]) -> dict[str, Cell]:
    """A learner's row, from what they have tried, in the course's order."""
    begun = {lesson: [*here] for lesson, here in groupby(tried, key=lambda one: lesson_of(one.task))}
    return {lesson: Cell(number, begun.get(lesson, [])) for lesson, number in lessons.items()}


def lesson_of(task: str) -> str:
    return task.partition("/")[0]


def lessons_of(tasks: Iterable[str]) -> Mapping[str, int]:
    """The lessons in the course's order, and how many tasks each has."""
    return Counter(map(lesson_of, tasks))


# Tables for others


def events_table(store: Store) -> list[list]:
    """All events as they came, for CSV."""
    return [["learner", "task", "state", "hint", "time"], *store.rows(EVENTS)]


def class_table(learners: list[Learner], lessons: Iterable[str]) -> list[list]:
    """Of each learner and lesson how many tasks are done, and how many answers were wrong, for CSV, by name."""
    head = ["learner", *(f"{lesson} {what}" for lesson in lessons for what in ("done", "wrong answers"))]
    rows = [
        [one.name, *(count for lesson in lessons for count in (one.cells[lesson].done, one.cells[lesson].failed))]
        for one in sorted(learners, key=lambda one: one.name)
    ]
    return [head, *rows]


def as_csv(rows: list[list]) -> str:
    """Rows for a spreadsheet, which would run a text that begins like a formula."""
    written = io.StringIO()
    csv.writer(written).writerows(
        [f"'{cell}" if isinstance(cell, str) and cell[:1] in {*"=+-@\t\r\n"} else cell for cell in row] for row in rows
    )
    return "\ufeff" + written.getvalue()  # so that Excel reads UTF-8
