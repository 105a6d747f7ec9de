"""The board of a class, a service of its hub: who has done what, who is stuck, and which wrong answers are frequent.

    python workshop/board.py board.sqlite    # in the environment that a hub gives its service

Learners' kernels post what they answered, with the token of their own server; only the hub's admins, who are the
instructors, see the page. It holds tasks, states and hints, never code.
"""

import asyncio
import csv
import io
import json
import os
import re
import secrets
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from jupyterhub.services.auth import HubOAuthCallbackHandler, HubOAuthenticated, UserNotAllowed
from tornado.escape import json_encode
from tornado.web import Application, HTTPError, RedirectHandler, RequestHandler

from pitfalls.language import SOURCE, _, html_language, ngettext

STATES = ["not yet", "not quite", "right"]
BYTES, AT_ONCE, KEPT = 2**18, 200, 20_000  # of a message; events in it; events of one learner
HINT = 500  # letters
STUCK, IDLE = 3, 10  # wrong answers to one task; minutes without an answer
FREQUENT = 20  # wrong answers on the page
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
LAST_HINTS = "SELECT task, hint, max(at) FROM events WHERE learner = ? AND hint IS NOT NULL GROUP BY task"
WRONG_ANSWERS = """
    SELECT task, hint, count(DISTINCT learner) AS learners, count(*) AS times FROM events WHERE hint IS NOT NULL
    GROUP BY task, hint ORDER BY learners DESC, times DESC, task LIMIT ?
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
        self._base = sqlite3.connect(file, isolation_level=None)
        self._base.executescript(TABLES)

    def close(self) -> None:
        self._base.close()

    def rows(self, query: str, *values: object) -> list[tuple]:
        """What a query gives."""
        with closing(self._base.execute(query, values)) as found:
            return found.fetchall()

    def add(self, learner: str, events: list[Event]) -> None:
        """Keep the events of a learner: of those with the same id the first, and no more than `KEPT`."""
        room = KEPT - self.rows("SELECT count(*) FROM events WHERE learner = ?", learner)[0][0]
        now = time.time()
        rows = [(one.id, learner, one.task, one.state, one.hint, min(one.at, now), now) for one in events[:room]]
        self._base.execute("BEGIN IMMEDIATE")
        with self._base:
            self._base.executemany("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    @property
    def seed(self) -> int | None:
        """The exam's seed for the class."""
        found = self.rows("SELECT value FROM settings WHERE name = 'seed'")
        return int(found[0][0]) if found else None

    @seed.setter
    def seed(self, seed: int | None) -> None:
        if seed is None:
            self._base.execute("DELETE FROM settings WHERE name = 'seed'")
        else:
            self._base.execute("INSERT OR REPLACE INTO settings VALUES ('seed', ?)", (str(seed),))


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
    done: int = 0
    open: int = 0  # begun, and not done
    failed: int = 0  # wrong answers
    stuck: bool = False

    @property
    def kind(self) -> str:
        """What its colour says."""
        if self.stuck:
            return "stuck"
        return "done" if self.done == self.all else "begun" if self.done or self.open else "untouched"


@dataclass(frozen=True)
class Learner:
    """A row of the board."""

    name: str
    tried: list[Tried]  # in the course's order
    cells: dict[str, Cell] = field(repr=False)  # by lesson

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
    order = {task: place for place, task in enumerate(tasks)}
    all_tasks = Counter(map(lesson_of, tasks))
    by_learner: dict[str, list[Tried]] = {}
    for learner, task, done, failed, at in store.rows(PER_TASK):
        if task in order:  # else of a course that had other tasks
            by_learner.setdefault(learner, []).append(Tried(task, bool(done), failed, at))
    learners = [
        Learner(name, sorted(tried, key=lambda one: order[one.task]), cells_of(tried, all_tasks))
        for name, tried in by_learner.items()
    ]
    return sorted(
        learners, key=lambda one: (-max((task.failed for task in one.stuck), default=0), -one.idle(now), one.name)
    )


def cells_of(tried: list[Tried], all_tasks: Mapping[str, int]) -> dict[str, Cell]:
    """A learner's row, from the number of tasks of each lesson."""
    by_lesson: dict[str, list[Tried]] = {lesson: [] for lesson in all_tasks}
    for one in tried:
        by_lesson[lesson_of(one.task)].append(one)
    return {
        lesson: Cell(
            all=all_tasks[lesson],
            done=sum(one.done for one in here),
            open=sum(not one.done for one in here),
            failed=sum(one.failed for one in here),
            stuck=any(one.stuck for one in here),
        )
        for lesson, here in by_lesson.items()
    }


def lesson_of(task: str) -> str:
    return task.partition("/")[0]


def hint_shown(hint: str) -> str:
    """A hint in the board's language, with … in place of what was a learner's own."""
    return re.sub(r"\{[^{}\s]*\}", "…", _(hint))


# Tables for others


def events_table(store: Store) -> list[list]:
    """All events as they came, for CSV."""
    rows = store.rows("SELECT learner, task, state, hint, at FROM events ORDER BY at")
    return [["learner", "task", "state", "hint", "time"], *([*row, iso(at)] for *row, at in rows)]


def class_table(learners: list[Learner], lessons: list[str]) -> list[list]:
    """Of each learner and lesson how many tasks are done, and how many answers were wrong, for CSV."""
    head = ["learner", *(f"{lesson} {what}" for lesson in lessons for what in ("done", "wrong answers"))]
    rows = [
        [one.name, *(count for lesson in lessons for count in (one.cells[lesson].done, one.cells[lesson].failed))]
        for one in sorted(learners, key=lambda one: one.name)
    ]
    return [head, *rows]


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="seconds")


def as_csv(rows: list[list]) -> str:
    """Rows for a spreadsheet, which would run a text that begins like a formula."""
    written = io.StringIO()
    csv.writer(written).writerows(
        [f"'{cell}" if isinstance(cell, str) and cell[:1] in {*"=+-@\t\r\n"} else cell for cell in row] for row in rows
    )
    return "\ufeff" + written.getvalue()  # so that Excel reads UTF-8


# The page


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
        "signs": _("2/4: two of four tasks done · ✓ all done · ○ begun and not done · ✗ wrong answers"),
        "stuck": _("A red cell with !: three or more wrong answers to one task. Who is stuck stands first."),
        "open": _("A name opens what its learner did, task by task."),
        "exam": _("The exam"),
        "seed": _("Seed"),
        "seed_why": _("With a seed, from 0 to 9999, exam() draws the same mistakes for the whole class."),
        "set": _("Set"),
        "clear": _("Clear"),
        "csv_class": _("Export the class"),
        "csv_events": _("Export all answers"),
        "hub": _("The hub"),
        "updated": _("Last update"),
        "lost": _("The connection is lost; what you see is old. Trying again …"),
        "again": _("You are logged out; what you see is old. Load the page again."),
    }


SIGNS = {"done": "✓", "stuck": "!", "begun": "", "untouched": ""}


def state_of(tried: Tried) -> str:
    if tried.done:
        return f"✓ {_('done')}"
    return f"! {_('stuck')}" if tried.stuck else f"✗ {_('not quite')}" if tried.failed else f"○ {_('begun')}"


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
            ngettext("{n} learner", "{n} learners", len(learners)),
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


# The service


class Handler(HubOAuthenticated, RequestHandler):
    """Asks the hub who this is; what it answers is kept for five minutes."""

    def initialize(self, store: Store, tasks: dict[str, str]) -> None:
        self.store, self.tasks = store, tasks

    def set_default_headers(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "same-origin")

    async def prepare(self) -> None:
        try:
            user = await asyncio.wait_for(self.hub_auth.get_user(self, sync=False), 10)
            self.current_user = self.check_hub_user(user) if user else None
        except UserNotAllowed:
            raise HTTPError(403, _("Your account may not use the board of this class.")) from None
        except (HTTPError, asyncio.TimeoutError):
            raise HTTPError(503, _("The hub does not answer. Try again in a moment.")) from None

    def write_error(self, status_code: int, **known: Any) -> None:
        """Say what was wrong, in a sentence."""
        error = known.get("exc_info", (None, None))[1]
        full = isinstance(error, sqlite3.OperationalError)
        if full:  # a full disk, mostly: whoever sent something keeps it, and tries again
            self.set_status(503)
        told = error.log_message % error.args if isinstance(error, HTTPError) and error.log_message else self._reason
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        self.finish(_("The board can't write to its file. Try again later.") if full else told)


class FromLearners(Handler):
    """For kernels, by the token of their learner's server."""

    async def prepare(self) -> None:
        await super().prepare()
        if not self.current_user or self.current_user.get("kind") != "user":
            raise HTTPError(403, "Whose answers these are is told by the token of a learner's server.")


class Events(FromLearners):
    """Takes what a learner has answered."""

    def post(self) -> None:
        try:
            events, wrong = events_of(self.request.body, self.tasks)
        except ValueError as error:
            raise HTTPError(400, str(error)) from None
        if not self.current_user.get("admin"):
            self.store.add(self.current_user["name"], events)
        if wrong:
            raise HTTPError(400, wrong)
        self.set_status(204)


class Class(FromLearners):
    """Tells a learner's kernel the exam's seed."""

    def get(self) -> None:
        self.write({"seed": self.store.seed})


class ForInstructors(Handler):
    """For the hub's admins alone. Others are told so; who has not logged in to the hub is sent there from a page."""

    logs_in = True

    async def prepare(self) -> None:
        await super().prepare()
        if not self.current_user and self.logs_in:
            self.redirect(self.get_login_url())
        elif not (self.current_user or {}).get("admin"):
            raise HTTPError(403, _("This page is for the instructors of this class."))

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.nonce = own = secrets.token_urlsafe(16)
        self.set_header(
            "Content-Security-Policy",
            f"default-src 'none'; script-src 'nonce-{own}'; style-src 'nonce-{own}'; connect-src 'self'; "
            "img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        )

    def write_error(self, status_code: int, **known: Any) -> None:
        if status_code == 403 and self.logs_in:
            self.render(
                "board_refused.html", told=_("This page is for the instructors of this class."), **self.common(),
                back=_("Back to your lessons"),
            )  # fmt: skip
        else:
            super().write_error(status_code, **known)

    def common(self) -> dict[str, Any]:
        """What all templates ask for."""
        attributes = html_language() or f' lang="{SOURCE}"'
        return {"words": words(), "attributes": attributes, "nonce": self.nonce, "home": self.hub_auth.hub_prefix}

    def overview(self) -> dict[str, Any]:
        """What the page shows of the class now."""
        now = time.time()
        learners = class_of(self.store, self.tasks, now)
        opened = {*self.get_arguments("open")} & {one.name for one in learners}
        return {
            "learners": learners,
            "lessons": list(dict.fromkeys(map(lesson_of, self.tasks))),
            "titles": {task: title_of(task, title) for task, title in self.tasks.items()},
            "opened": opened,
            "hints": {name: {task: hint for task, hint, _at in self.store.rows(LAST_HINTS, name)} for name in opened},
            "wrong_answers": self.store.rows(WRONG_ANSWERS, FREQUENT),
            "now": now,
            "words": words(),
            "helpers": HELPERS,
        }


class Page(ForInstructors):
    def get(self) -> None:
        said = json_encode({name: words()[name] for name in ("lost", "again")})
        self.render("board.html", seed=self.store.seed, words_of_script=said, **self.overview() | self.common())


class Overview(ForInstructors):
    """What changes of the page; it asks every few seconds."""

    logs_in = False

    def get(self) -> None:
        self.render("board_overview.html", **self.overview())


class Seed(ForInstructors):
    """Sets the exam's seed, or clears it. A cookie alone is not enough: HubOAuth wants the page's token with it."""

    logs_in = False

    def post(self) -> None:
        said = self.get_argument("seed", "")
        if self.get_argument("clear", None):
            self.store.seed = None
        elif re.fullmatch("[0-9]{1,4}", said):
            self.store.seed = int(said)
        else:
            raise HTTPError(400, _("A seed is a whole number from 0 to 9999."))
        self.redirect(self.hub_auth.base_url, status=303)


class Table(ForInstructors):
    """A table as CSV."""

    def get(self, name: str) -> None:
        if name == "events":
            rows = events_table(self.store)
        else:
            lessons = list(dict.fromkeys(map(lesson_of, self.tasks)))
            rows = class_table(class_of(self.store, self.tasks, time.time()), lessons)
        self.set_header("Content-Type", "text/csv; charset=UTF-8")
        self.set_header("Content-Disposition", f'attachment; filename="{name}.csv"')
        self.finish(as_csv(rows))


# What the templates call
_CALLED = [
    ago, cell_label, hint_shown, lesson_of, minutes_since, percent_done, state_of, summary, toggled, troubles,
]  # fmt: skip
HELPERS = {one.__name__: one for one in _CALLED} | {"signs": SIGNS}

TASKS = """
import json
from pitfalls.practice.tasks import tasks
print(json.dumps({f"{lesson}/{name}": title for (lesson, name), title in tasks.items()}))
"""


def tasks_of_the_course() -> dict[str, str]:
    """The titles of all tasks, in the course's order. Another process reads them, as exercises need torch."""
    done = subprocess.run([sys.executable, "-c", TASKS], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit("The board can't read the course's tasks: is the package with its `course` extra installed here?")
    found = json.loads(done.stdout.splitlines()[-1])
    return dict(sorted(found.items(), key=lambda it: (it[0][:2], "/prediction" not in it[0], "/exam" in it[0])))


def application(store: Store, tasks: dict[str, str], prefix: str, token: str) -> Application:
    """The service, below its prefix. Its cookies are good as long as its token is."""
    given = {"store": store, "tasks": tasks}
    return Application(
        [
            (re.escape(prefix[:-1]), RedirectHandler, {"url": prefix}),
            (re.escape(prefix), Page, given),
            (f"{re.escape(prefix)}overview", Overview, given),
            (f"{re.escape(prefix)}events", Events, given),
            (f"{re.escape(prefix)}class", Class, given),
            (f"{re.escape(prefix)}seed", Seed, given),
            (f"{re.escape(prefix)}(events|class)\\.csv", Table, given),
            (f"{re.escape(prefix)}oauth_callback", HubOAuthCallbackHandler),
        ],
        cookie_secret=sha256(f"the board's cookies {token}".encode()).hexdigest(),
        template_path=str(Path(__file__).parent),
        compress_response=True,
    )


async def serve(store: Store, tasks: dict[str, str]) -> None:
    """Answer where the hub says, until SIGTERM."""
    address = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
    service = application(store, tasks, os.environ["JUPYTERHUB_SERVICE_PREFIX"], os.environ["JUPYTERHUB_API_TOKEN"])
    service.listen(address.port, address.hostname, max_body_size=4 * BYTES, xheaders=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()


def main() -> None:
    if len(sys.argv) != 2 or "JUPYTERHUB_SERVICE_URL" not in os.environ:
        sys.exit("A hub starts the board, as its service: python workshop/board.py FILE.sqlite")
    with closing(Store(sys.argv[1])) as store:
        asyncio.run(serve(store, tasks_of_the_course()))


if __name__ == "__main__":
    main()
