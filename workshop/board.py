"""The board of a class, a service of its hub: who has done what, who is stuck, and which wrong answers are frequent.

    python workshop/board.py board.sqlite    # in the environment that a hub gives its service

Learners' kernels post what they answered, with the token of their own server; only the hub's admins, who are the
instructors, see the page. It holds tasks, states and hints, never code.
"""

import asyncio
import json
import os
import re
import secrets
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import board_words
import tally
from jupyterhub.services.auth import HubOAuthCallbackHandler, HubOAuthenticated, UserNotAllowed
from tornado.escape import json_encode
from tornado.httpclient import AsyncHTTPClient, HTTPClientError
from tornado.web import Application, HTTPError, RedirectHandler, RequestHandler

from pitfalls.language import SOURCE, _, html_language

AT_ONCE, AT_MOST = 200, 2000  # users: whom the hub tells in one answer, and whom it is asked about


class Handler(HubOAuthenticated, RequestHandler):
    """Asks the hub who this is; what it answers is kept for five minutes."""

    def initialize(self, store: tally.Store, tasks: dict[str, str]) -> None:
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
            events, wrong = tally.events_of(self.request.body, self.tasks)
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
                "board_refused.html",
                told=_("This page is for the instructors of this class."),
                back=_("Back to your lessons"),
            )
        else:
            super().write_error(status_code, **known)

    def get_template_namespace(self) -> dict[str, Any]:
        """What all templates ask for."""
        return super().get_template_namespace() | {
            "words": board_words.words(),
            "helpers": vars(tally) | vars(board_words),
            "attributes": html_language() or f' lang="{SOURCE}"',
            "nonce": self.nonce,
            "home": self.hub_auth.hub_prefix,
        }

    async def silent(self, learners: list[tally.Learner]) -> list[str]:
        """The names of those whom the hub knows beside these learners; of none where it doesn't answer."""
        names: list[str] = []
        headers = {"Authorization": f"token {self.hub_auth.api_token}"}
        for first in range(0, AT_MOST, AT_ONCE):
            asked = f"{self.hub_auth.api_url}/users?offset={first}&limit={AT_ONCE}"
            try:
                answer = await AsyncHTTPClient().fetch(asked, headers=headers, request_timeout=5)
            except (HTTPClientError, OSError):
                return []
            found = json.loads(answer.body)
            names += [user["name"] for user in found if not user["admin"]]
            if len(found) < AT_ONCE:
                break
        return sorted({*names} - {one.name for one in learners})

    async def overview(self) -> dict[str, Any]:
        """What the page shows of the class now."""
        now = time.time()
        learners = tally.class_of(self.store, self.tasks, now)
        opened = {*self.get_arguments("open")} & {one.name for one in learners}
        return {
            "learners": learners,
            "silent": await self.silent(learners),
            "lessons": tally.lessons_of(self.tasks),
            "titles": {task: board_words.title_of(task, title) for task, title in self.tasks.items()},
            "opened": opened,
            "hints": {name: dict(self.store.rows(tally.HINTS, name)) for name in opened},  # the last of each task
            "wrong_answers": self.store.rows(tally.WRONG_ANSWERS),
            "now": now,
        }


class Page(ForInstructors):
    async def get(self) -> None:
        said = json_encode({name: board_words.words()[name] for name in ("lost", "again")})
        self.render("board.html", seed=self.store.seed, words_of_script=said, **await self.overview())


class Overview(ForInstructors):
    """What changes of the page; it asks every few seconds."""

    logs_in = False

    async def get(self) -> None:
        self.render("board_overview.html", **await self.overview())


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

    async def get(self, name: str) -> None:
        if name == "events":
            rows = tally.events_table(self.store)
        else:
            learners = tally.class_of(self.store, self.tasks, time.time())
            lessons = tally.lessons_of(self.tasks)
            others = await self.silent(learners)
            learners += [tally.Learner(name, [], tally.cells_of([], lessons)) for name in others]
            rows = tally.class_table(learners, lessons)
        self.set_header("Content-Type", "text/csv; charset=UTF-8")
        self.set_header("Content-Disposition", f'attachment; filename="{name}.csv"')
        self.finish(tally.as_csv(rows))


TASKS = """
import json
from pitfalls.practice.tasks import in_order
print(json.dumps({f"{lesson}/{name}": title for (lesson, name), title in in_order()}))
"""


def tasks_of_the_course() -> dict[str, str]:
    """The titles of all tasks, in the course's order. Another process reads them, as exercises need torch."""
    done = subprocess.run([sys.executable, "-c", TASKS], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit("The board can't read the course's tasks: is the package with its `course` extra installed here?")
    return json.loads(done.stdout.splitlines()[-1])


def application(store: tally.Store, tasks: dict[str, str], prefix: str, token: str) -> Application:
    """The service, below its prefix. Its cookies are good as long as its token is."""
    given, here = {"store": store, "tasks": tasks}, re.escape(prefix)
    return Application(
        [
            (re.escape(prefix[:-1]), RedirectHandler, {"url": prefix}),
            (here, Page, given),
            (f"{here}overview", Overview, given),
            (f"{here}events", Events, given),
            (f"{here}class", Class, given),
            (f"{here}seed", Seed, given),
            (f"{here}(events|class)\\.csv", Table, given),
            (f"{here}oauth_callback", HubOAuthCallbackHandler),
        ],
        cookie_secret=sha256(f"the board's cookies {token}".encode()).hexdigest(),
        template_path=str(Path(__file__).parent),
        compress_response=True,
    )


async def serve(store: tally.Store, tasks: dict[str, str]) -> None:
    """Answer where the hub says, until SIGTERM."""
    address = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
    service = application(store, tasks, os.environ["JUPYTERHUB_SERVICE_PREFIX"], os.environ["JUPYTERHUB_API_TOKEN"])
    service.listen(address.port, address.hostname, max_body_size=4 * tally.BYTES, xheaders=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()


def main() -> None:
    if len(sys.argv) != 2 or "JUPYTERHUB_SERVICE_URL" not in os.environ:
        sys.exit("A hub starts the board, as its service: python workshop/board.py FILE.sqlite")
    with closing(tally.Store(sys.argv[1])) as store:
        asyncio.run(serve(store, tasks_of_the_course()))


if __name__ == "__main__":
    main()
