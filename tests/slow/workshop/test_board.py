"""The board of a class: a real one, asked over HTTP, beside a stand-in for the hub that knows four tokens."""

import csv
import http.client
import io
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

pytest.importorskip("jupyterhub", reason="a workshop's packages are not installed: make workshop-check")

WORKSHOP = Path(__file__).parents[3] / "workshop"
PREFIX = "/services/board/"
ACCESS = ["access:services!service=board"]
TOKENS = {
    "of-anna": {"kind": "user", "name": "anna", "admin": False, "scopes": ACCESS},
    "of-ben": {"kind": "user", "name": "ben", "admin": False, "scopes": ACCESS},
    "of-carl": {"kind": "user", "name": "carl", "admin": False, "scopes": []},  # may not use the board
    "of-instructor": {"kind": "user", "name": "instructor", "admin": True, "scopes": ACCESS},
}


LOGGED_IN = [{"name": f"learner{number:03}", "admin": False} for number in range(250)]
LOGGED_IN += [{"name": name, "admin": name == "instructor"} for name in ("anna", "instructor")]


class Hub(BaseHTTPRequestHandler):
    """Answers who a token belongs to, and who has logged in, as the hub's API does."""

    def do_GET(self) -> None:
        token = self.headers.get("Authorization", "").removeprefix("token ")
        asked = urlsplit(self.path)
        told = TOKENS.get(token) if asked.path == "/hub/api/user" else None
        if asked.path == "/hub/api/users" and token == "of-the-board":
            part = {name: int(number) for name, number in parse_qsl(asked.query)}
            told = LOGGED_IN[part["offset"] :][: part["limit"]]
        self.send_response(500 if token == "of-a-sick-hub" else 403 if told is None else 200)
        self.end_headers()
        self.wfile.write(json.dumps({"message": "Forbidden"} if told is None else told).encode())

    def log_message(self, *_: object) -> None:
        pass


class Board:
    """A running board."""

    def __init__(self, port: int, file: Path):
        self.port, self.file = port, file

    def ask(
        self, method: str, what: str, who: str | None = None, body: object = None, **headers: str
    ) -> tuple[int, str, http.client.HTTPMessage]:
        if who:
            headers["Authorization"] = f"token of-{who}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = body if isinstance(body, str | bytes | None) else json.dumps(body)
        connection.request(method, PREFIX + what, sent, headers)
        answer = connection.getresponse()
        told = answer.read().decode("utf-8-sig")
        connection.close()
        return answer.status, told, answer.headers

    def get(self, what: str, who: str | None) -> tuple[int, str]:
        return self.ask("GET", what, who)[:2]

    def post(self, who: str | None, *events: object) -> tuple[int, str]:
        return self.ask("POST", "events", who, list(events))[:2]

    def table(self, name: str) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self.get(name, "instructor")[1])))

    def set_seed(self, **form: str) -> tuple[int, str]:
        """As the page's form does."""
        words = "&".join(f"{name}={value}" for name, value in form.items())
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.ask("POST", "seed", "instructor", words, **kind)[:2]


@contextmanager
def running(file: Path, **environment: str) -> Iterator[Board]:
    """A board on this file, and a hub."""
    hub = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "JUPYTERHUB_API_TOKEN": "of-the-board",
        "JUPYTERHUB_API_URL": f"http://127.0.0.1:{hub.server_port}/hub/api",
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_CLIENT_ID": "service-board",
        "JUPYTERHUB_SERVICE_NAME": "board",
        "JUPYTERHUB_SERVICE_PREFIX": PREFIX,
        "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}",
        "PYTHONPATH": str(WORKSHOP.parent),
        **environment,
    }
    process = subprocess.Popen([sys.executable, str(WORKSHOP / "board.py"), str(file)], env=os.environ | environment)
    try:
        wait_for(process, port)
        yield Board(port, file)
    finally:
        process.terminate()
        process.wait(20)
        hub.shutdown()
        hub.server_close()


def wait_for(process: subprocess.Popen, port: int) -> None:
    while process.poll() is None:
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("the board did not start")


@pytest.fixture(scope="module")
def one_board(tmp_path_factory) -> Iterator[Board]:
    with running(tmp_path_factory.mktemp("board") / "board.sqlite") as board:
        yield board


@pytest.fixture
def board(one_board: Board) -> Board:
    """A board that nobody has told anything."""
    with sqlite3.connect(one_board.file) as base:
        base.execute("DELETE FROM events")
        base.execute("DELETE FROM settings")
    base.close()
    return one_board


def event(task: str = "06/batch_like_single", state: str = "right", hint: str | None = None, **other: object) -> dict:
    return {"id": uuid.uuid4().hex, "task": task, "state": state, "hint": hint, "at": time.time(), **other}


def wrong(hint: str, task: str = "06/batch_like_single", **other: object) -> dict:
    return event(task, "not quite", hint, **other)


def text(html: str) -> str:
    """What a page says, without its tags."""
    return re.sub(r"\s+", " ", re.sub("<(script|style).*?</\\1>|<[^>]+>", " ", html, flags=re.DOTALL))


# Who may what


def test_a_learner_tells_and_hears_the_seed_but_sees_nothing(board):
    assert board.post("anna", event()) == (204, "")
    assert board.get("class", "anna") == (200, '{"seed": null}')
    for what in ("", "overview", "events.csv", "class.csv"):
        status, told = board.get(what, "anna")
        assert status == 403 and "for the instructors of this class" in told and "anna" not in told, what
    assert 'href="/hub/home"' in board.get("", "anna")[1]
    assert board.ask("POST", "seed", "anna", "seed=7")[0] == 403


def test_an_instructor_sees_all(board):
    board.post("anna", event())
    for what in ("", "overview", "events.csv", "class.csv"):
        status, told = board.get(what, "instructor")
        assert status == 200 and "anna" in told, what


def test_who_has_logged_in_and_not_answered_is_named(board):
    others = ", ".join(user["name"] for user in LOGGED_IN[:250])
    for told, answered in ((f"anna, {others}", event()), (others, event())):
        for what in ("", "overview"):
            page = text(board.get(what, "instructor")[1])
            assert f"Logged in, and no answer yet: {told} " in page, what
        board.post("anna", answered)
    rows = {row["learner"]: row["06 done"] for row in board.table("class.csv")}
    assert rows == {"anna": "1"} | {user["name"]: "0" for user in LOGGED_IN[:250]}


def test_who_has_no_account_is_sent_to_the_hub_from_a_page_and_refused_elsewhere(board):
    status, _told, headers = board.ask("GET", "")
    assert status == 302 and headers["Location"].startswith("/hub/api/oauth2/authorize?client_id=service-board")
    for method, what in (("GET", "overview"), ("GET", "class"), ("POST", "events"), ("POST", "seed")):
        assert board.ask(method, what, body="[]" if method == "POST" else None)[0] == 403, what
    assert board.ask("POST", "events", body="[]", Authorization="token unknown")[0] == 403


def test_a_token_without_access_to_this_service_is_refused(board):
    assert board.post("carl", event())[0] == 403
    assert board.table("events.csv") == []


def test_while_the_hub_does_not_know_a_kernel_is_to_try_again(board):
    status, told = board.post("a-sick-hub", event())
    assert status == 503 and "Try again" in told


def test_a_body_does_not_say_whose_it_is(board):
    board.post("anna", event(learner="ben", name="ben", user="ben"))
    assert [row["learner"] for row in board.table("events.csv")] == ["anna"]


def test_what_an_instructor_answers_is_not_the_class(board):
    assert board.post("instructor", event())[0] == 204
    assert board.table("events.csv") == []


def test_a_cookie_alone_sets_no_seed(board):
    """Only a token, or the page's own form: pages of others could make a browser send its cookie."""
    status, page, headers = board.ask("GET", "", "instructor")
    assert status == 200 and re.search(r'name="_xsrf" value="[^"]{20,}"', page)
    cookie = headers["Set-Cookie"].split(";")[0]
    assert board.ask("POST", "seed", body="seed=7", Cookie=cookie)[0] == 403
    assert board.get("class", "anna") == (200, '{"seed": null}')


def test_nothing_of_another_page_is_let_in(board):
    _status, page, headers = board.ask("GET", "", "instructor")
    policy = headers["Content-Security-Policy"]
    assert (
        re.search("script-src '(nonce-.{16,}?)'", policy)[1] == "nonce-" + re.search('<script nonce="(.+?)"', page)[1]
    )
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"


# What is taken


def test_what_is_sent_twice_counts_once(board):
    said = [wrong("Look again."), event()]
    assert board.post("anna", *said)[0] == board.post("anna", *said)[0] == 204
    assert board.post("ben", *said)[0] == 204  # nor can another take it over
    assert [row["learner"] for row in board.table("events.csv")] == ["anna", "anna"]


@pytest.mark.parametrize(
    "body, told",
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('{"id": 1}', "a list, 200 at most"),
        (json.dumps([event()] * 201), "a list, 200 at most"),
        ("[" + " " * 2**18 + "]", "262,144 at most"),
        ("[7]", "An event is an object"),
        (json.dumps([event(id="7")]), "32 hexadecimal digits"),
        (json.dumps([event("06/nothing%d")]), "no task '06/nothing%d'"),
        (json.dumps([event(state="done")]), "not yet, not quite, right"),
        (json.dumps([event(hint=7)]), "A hint is a text"),
        (json.dumps([event(at="now")]), "seconds since 1970"),
        (json.dumps([event(at=float("nan"))]), "seconds since 1970"),
        (json.dumps([event(at=10**400)]), "seconds since 1970"),
    ],
)
def test_what_is_wrong_is_refused_in_words(board, body, told):
    status, said, _headers = board.ask("POST", "events", "anna", body)
    assert status == 400 and told in said
    assert board.table("events.csv") == []


def test_beside_a_wrong_event_the_others_count(board):
    """A kernel that is told 400 sends none of them again."""
    assert board.post("anna", event(), event("99/nothing"), event("01/prediction"))[0] == 400
    assert [row["task"] for row in board.table("events.csv")] == ["06/batch_like_single", "01/prediction"]


def test_long_and_odd_hints_are_taken(board):
    board.post("anna", wrong("x" * 600), wrong("\ud800 half a letter"), event(hint="a right answer has none"))
    assert [row["hint"] for row in board.table("events.csv")] == ["x" * 500, "? half a letter", ""]


# What is counted


def test_done_open_and_wrong_are_counted(board):
    board.post("anna", wrong("No."), wrong("No."), event(), wrong("No."))  # done once is done
    board.post("anna", event("06/prediction", "not yet"))
    page = text(board.get("overview", "instructor")[1])
    assert "1 learner has answered · stuck: 0 · no answer for 10 min or longer: 0 · tasks done: 1" in page
    assert "Lesson 6: 1 of 3 done, 1 begun, wrong answers: 3" in page
    assert "Lesson 8: 0 of 4 done, 0 begun, wrong answers: 0" in page
    assert "1/3 ○1 ✗3" in page
    row = board.table("class.csv")[0]
    assert (row["learner"], row["06 done"], row["06 wrong answers"], row["08 done"]) == ("anna", "1", "3", "0")
    assert len(row) == 1 + 2 * 13


def test_who_is_stuck_or_silent_stands_first(board):
    now = time.time()
    board.post("anna", event())
    board.post("ben", *[wrong("No.", at=now - 60 * minutes) for minutes in (14, 13, 12)])
    page = text(board.get("overview", "instructor")[1])
    assert page.index("ben") < page.index("anna")
    assert "! 6 ✗3 · A batch whose rows equal the single runs" in page
    assert "… no answer for 12 min" in page
    assert "2 learners have answered · stuck: 1 · no answer for 10 min or longer: 1 · tasks done: 1" in page


def test_a_row_opens_task_by_task(board):
    board.post("anna", wrong("First."), wrong("Expected {wanted}, not {given!r}."), event("06/prediction"))
    page = text(board.get("overview?open=anna&open=nobody", "instructor")[1])
    assert "6 A batch whose rows equal the single runs ✗ not quite 2 Expected …, not …. 0 min" in page
    assert "6 Predict: How many of the two rows are continued as they should be? ✓ done" in page
    assert "Predict:" not in text(board.get("overview", "instructor")[1])


def test_frequent_wrong_answers_are_those_of_many(board):
    board.post("anna", *[wrong("Only hers.") for _ in range(5)])
    board.post("anna", wrong("Of both."))
    board.post("ben", wrong("Of both."))
    page = text(board.get("overview", "instructor")[1])
    rows = page[page.index("Frequent wrong answers") :]
    assert "2 2 6 · A batch whose rows equal the single runs Of both." in rows
    assert "1 5 6 · A batch whose rows equal the single runs Only hers." in rows
    assert rows.index("Of both.") < rows.index("Only hers.")


def test_a_hint_is_text_and_no_page(board):
    board.post("anna", wrong("<script>alert(1)</script>"))
    for what in ("overview?open=anna", '?open=<script>"'):
        assert "<script>alert" not in board.get(what, "instructor")[1]


# The seed, CSV, restarts


def test_the_seed_is_set_and_cleared(board):
    assert board.set_seed(seed="7")[0] == 303
    assert board.get("class", "anna") == (200, '{"seed": 7}')
    assert 'value="7"' in board.get("", "instructor")[1]
    for bad in ("10000", "-1", "seven", ""):
        assert board.set_seed(seed=bad) == (400, "A seed is a whole number from 0 to 9999.")
    assert board.get("class", "anna") == (200, '{"seed": 7}')
    assert board.set_seed(seed="7", clear="1")[0] == 303
    assert board.get("class", "anna") == (200, '{"seed": null}')


def test_csv_holds_all_answers_and_no_formula(board):
    board.post("anna", wrong("=HYPERLINK(1)", at=1_800_000_000), event("01/prediction", at=1_700_000_000.5))
    first, second = board.table("events.csv")
    assert list(first.values()) == ["anna", "01/prediction", "right", "", "2023-11-14T22:13:20+00:00"]
    assert second["hint"] == "'=HYPERLINK(1)" and second["time"] < "2027-01-15"  # not later than it came


def test_a_restart_forgets_nothing(tmp_path):
    file, said = tmp_path / "board.sqlite", event()
    with running(file) as board:
        board.post("anna", said)
        board.set_seed(seed="42")
    with running(file, PITFALLS_LANGUAGE="ar") as board:
        assert board.post("anna", said)[0] == 204
        assert len(board.table("events.csv")) == 1
        assert board.get("class", "anna") == (200, '{"seed": 42}')
        assert '<html lang="ar" dir="rtl">' in board.get("", "instructor")[1]


def test_a_board_that_cannot_write_asks_to_be_told_later(board):
    base = sqlite3.connect(board.file, isolation_level=None)
    base.execute("BEGIN IMMEDIATE")  # for the board it is as with a full disk: nothing can be written
    try:
        status, told = board.post("anna", event())
        assert status == 503 and "Try again later" in told
    finally:
        base.close()
    assert board.post("anna", event())[0] == 204
