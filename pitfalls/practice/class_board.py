"""The board of a class: in a workshop it hears of each answer, and the learner is told so.

What is sent of an answer: its task, "not yet", "not quite" or "right", the hint as it is in English, without what the
learner wrote, and the time. Nothing is sent, and no thread started, unless the workshop's hub has set both
$PITFALLS_BOARD, an address, and $JUPYTERHUB_API_TOKEN, which says whose answers these are.

Answers are sent in the background. Until the board has taken them they lie in a file beside `progress.json`, so that
neither a killed kernel nor a board that is away for a while loses one; each has an id, so that none counts twice.
"""

import atexit
import json
import os
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pitfalls.language import _, directed
from pitfalls.practice import kept

Event = dict[str, Any]

SECONDS = 10  # that the board has to answer
PAUSE = 30  # seconds between two tries, at most
AT_ONCE, KEPT = 100, 2000  # events
_here: dict[str, Event] = {}  # those that the file could not take: there is no room, or no place to write to
_taken: set[str] = set()
_news = threading.Event()
_refused = threading.Event()  # the board doesn't know us, or not any more
_sender: threading.Thread | None = None


def active() -> bool:
    """Whether this is a workshop."""
    return bool(os.environ.get("PITFALLS_BOARD") and os.environ.get("JUPYTERHUB_API_TOKEN"))


def notice() -> list[str]:
    """What a learner must know: a line in a workshop, and none elsewhere."""
    told = _(
        "This runs in a class: the instructor sees which tasks you have tried and solved, and which hints you got. "
        "Your code and what you write are not sent."
    )
    return [told] if active() else []


def join() -> None:
    """Tell the learner what the class sees, and the board what an earlier kernel could not."""
    for line in notice():
        print(directed(line))
        if _unsent():
            _start()


def tell(task: str, state: str, hint: str | None) -> None:
    """Let the board know of an answer, without waiting for it."""
    if not active():
        return
    event = {"id": uuid.uuid4().hex, "task": task, "state": state, "hint": hint, "at": time.time()}
    if not _keep(lambda events: [*events, event]):
        _here[event["id"]] = event
    _start()


def seed() -> int | None:
    """The exam's seed for the class, if this is one and its instructor has set a seed."""
    if not active():
        return None
    status, body = _ask("GET", "class", seconds=2)
    try:
        chosen = json.loads(body)["seed"] if status == 200 else None
    except (ValueError, LookupError, TypeError):
        return None
    return chosen if type(chosen) is int else None


def _start() -> None:
    """Wake the thread that sends. It is started here, as a kernel may be forked from a process that has imported us."""
    global _sender
    _news.set()
    if _refused.is_set() or (_sender and _sender.is_alive()):
        return
    _sender = threading.Thread(target=_send_for_ever, name="class board", daemon=True)
    with suppress(RuntimeError):  # no thread is to be had: the next answer, or the next kernel, tries again
        _sender.start()
        atexit.unregister(_send_last)
        atexit.register(_send_last)


def _send_for_ever() -> None:
    pause = 1.0
    while not _refused.is_set():
        _news.clear()
        sent = _send()
        if not _refused.is_set():
            _news.wait(None if sent else pause)
        pause = 1.0 if sent else min(2 * pause, PAUSE)


def _send_last() -> None:
    if not _refused.is_set():
        _send(seconds=1)


def _send(seconds: float = SECONDS) -> bool:
    """Send what is unsent; whether nothing is left to be tried again."""
    while events := _unsent()[:AT_ONCE]:
        status, _body = _ask("POST", "events", json.dumps(events), seconds)
        if status in (401, 403):
            _refused.set()
            return True
        if status not in (204, 400):  # 400: nor would it be taken another time
            return False
        _forget({event["id"] for event in events})
    return True


def _forget(done: set[str]) -> None:
    _taken.update(done)
    for name in done:
        _here.pop(name, None)
    _keep(lambda events: [event for event in events if event["id"] not in done])


def _unsent() -> list[Event]:
    events: list[Event] = []
    with suppress(RuntimeError):
        events = _events(kept.read(_file()))
    by_id = {event["id"]: event for event in [*events, *list(_here.values())]}
    return [event for name, event in by_id.items() if name not in _taken]


def _keep(how: Callable[[list[Event]], list[Event]]) -> bool:
    """Change the file; whether that could be done."""
    with suppress(OSError, RuntimeError):
        kept.change(_file(), lambda found: how(_events(found))[-KEPT:])
        return True
    return False


def _events(found: Any) -> list[Event]:
    """Those in the file, which may not be ours."""
    events = found if isinstance(found, list) else []
    return [event for event in events if isinstance(event, dict) and isinstance(event.get("id"), str)]


def _file() -> Path:
    return kept.progress_file().with_suffix(".unsent.json")


def _ask(method: str, what: str, body: str | None = None, seconds: float = SECONDS) -> tuple[int, bytes]:
    """What the board answers, without a proxy or a detour between; status 0 where it doesn't."""
    board = urlsplit(os.environ["PITFALLS_BOARD"])
    headers = {"Authorization": f"token {os.environ['JUPYTERHUB_API_TOKEN']}", "Content-Type": "application/json"}
    connection = (HTTPSConnection if board.scheme == "https" else HTTPConnection)(board.netloc, timeout=seconds)
    try:
        connection.request(method, f"{board.path}{what}", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, HTTPException, ValueError):
        return 0, b""
    finally:
        connection.close()
