"""One learner in one browser, as a hub sees them: pages and their forms, an open lesson, a kernel; and what it took.

No browser runs: of JupyterLab's page only the scripts that it names are fetched, and what it asks for by itself (POLL).
"""

import argparse
import asyncio
import json
import random
import re
import time
import uuid
from collections.abc import Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

import aiohttp
from nbformat import NotebookNode, from_dict
from nbformat.v4 import output_from_msg
from yarl import URL

from tools.lessons import LESSONS, code_cells, read

POLL = 10  # seconds between JupyterLab's own requests
SAVE = 120  # and between its saves
REQUEST, FOREVER = aiohttp.ClientTimeout(total=120), aiohttp.ClientTimeout(total=None)
SPAWN, CELL = 600, 300  # seconds that a learner has patience
ANSWERS = {
    "✗": 'pitfalls.practice.tokens_left({"nothing said": 20, "max_new_tokens=5": 5, "max_length=30": 30, "both": 5}, '
    "model, tokenizer)",
    "✓": 'pitfalls.practice.tokens_left({"nothing said": 20, "max_new_tokens=5": 5, "max_length=30": '
    '30 - len(tokenizer("Once upon a time")["input_ids"]), "both": 5}, model, tokenizer)',
}


class Fault(Exception):
    """What ends a learner's work."""


class Page(NamedTuple):
    status: int
    path: str
    headers: Any
    text: str


class Ran(NamedTuple):
    seconds: float
    first: float | None  # seconds to the first output
    outputs: list
    reply: dict


class Learner:
    """One learner in one browser: cookies, an open lesson, a kernel, and what was measured and went wrong."""

    def __init__(self, name: str, asked: argparse.Namespace):
        self.name, self.asked = name, asked
        self.address = URL(asked.address.rstrip("/") + "/")
        lesson = next(path for path in LESSONS if path.name.startswith(asked.lesson))
        self.path = f"{asked.folder}/{lesson.name}".strip("/")
        self.expected = {cell.id: cell.outputs for cell in code_cells(read(lesson))}
        self.random = random.Random(f"{asked.seed} {name}")
        self.session, self.received = uuid.uuid4().hex, asyncio.Queue()
        self.errors: list[str] = []
        self.lost: list[str] = []
        self.seconds: dict[str, float] = {}  # until the server and the kernel answered
        self.cells: dict[str, tuple[float, float | None]] = {}  # by id: seconds, and to the first output
        self.memory: tuple[float, float] | None = None
        self.finished, self.kernel, self.pid = False, None, None
        self.tasks: list[asyncio.Task] = []
        jar = aiohttp.CookieJar(unsafe=True)  # the address may be a number
        self.http = aiohttp.ClientSession(cookie_jar=jar, timeout=REQUEST)

    async def attempt(self, step: Coroutine) -> bool:
        """Whether it went well; what goes wrong is counted, and the others go on."""
        try:
            await step
            return True
        except (Fault, aiohttp.ClientError, TimeoutError, ValueError) as error:
            self.errors.append(f"{step.__name__}: {str(error) or type(error).__name__}")
            return False

    # over HTTP
    async def ask(self, method: str, path: str, **sent: Any) -> Page:
        sent["headers"] = {"X-XSRFToken": self.token(path)}
        async with self.http.request(method, self.address.join(URL(path)), max_redirects=20, **sent) as answer:
            text = await answer.text(errors="replace")
            return Page(answer.status, answer.url.path, answer.headers, text)

    def token(self, path: str) -> str:
        """What says that a request comes from a page of this site; hub and server each have their own."""
        cookie = self.http.cookie_jar.filter_cookies(self.address.join(URL(path))).get("_xsrf")
        return cookie.value if cookie else ""

    async def api(self, method: str, path: str, **sent: Any) -> Any:
        page = await self.ask(method, f"user/{self.name}/api/{path}", **sent)
        if page.status >= 400:
            raise Fault(f"{method} {path} gave {page.status}: {_told(page)}")
        return json.loads(page.text) if page.text else None

    async def open(self) -> None:
        """From the login page to a lesson whose kernel answers."""
        await self.log_in()
        await self.load_lab()
        self.notebook = await self.load()
        start = time.perf_counter()
        asked = {"name": self.path, "path": self.path, "type": "notebook", "kernel": {"name": "python3"}}
        self.kernel = await self.api("POST", "sessions", json=asked)
        await self.connect()
        self.seconds["kernel"] = time.perf_counter() - start
        self.tasks.append(asyncio.create_task(self.stay()))

    async def log_in(self) -> None:
        page = await self.ask("GET", "hub/login")
        if page.status != 200:
            raise Fault(f"{page.path} gave {page.status}: {_told(page)}")
        start = time.perf_counter()
        page = await self.form("hub/login", username=self.name, password=self.asked.password)
        if page.path.endswith("/hub/login"):
            raise Fault(f"{page.status} on logging in: {_told(page)}")
        own = f"{self.address.path}user/{self.name}/"
        async with asyncio.timeout(SPAWN):
            while not (page.path.startswith(own) and page.status == 200):
                page = await self.follow(page)
        self.seconds["spawn"] = time.perf_counter() - start
        self.lab = page

    async def follow(self, page: Page) -> Page:
        """The next page on the way to the server, as a person goes it."""
        if page.status == 429:  # too many at once: it says when to try again
            await asyncio.sleep(int(page.headers.get("Retry-After", 10)))
        elif page.status in (424, 503):  # not there yet, or no more
            await asyncio.sleep(1)
        elif page.status >= 400:
            raise Fault(f"{page.path} gave {page.status}: {_told(page)}")
        elif "/hub/spawn-pending/" in page.path:
            await self.progress()
            return await self.ask("GET", f"user/{self.name}/")
        elif re.search(r"/hub/spawn(/|$)", page.path):
            return await self.form(page.path, language="en")
        return await self.ask("GET", "hub/spawn")

    async def form(self, path: str, **fields: str) -> Page:
        return await self.ask("POST", path, data={"_xsrf": self.token(path), **fields})

    async def progress(self) -> None:
        """Wait as the page does, which listens to events."""
        path = f"hub/api/users/{self.name}/server/progress"
        headers = {"X-XSRFToken": self.token(path)}
        async with self.http.get(self.address.join(URL(path)), headers=headers, timeout=FOREVER) as answer:
            async for line in answer.content:
                event = json.loads(line.removeprefix(b"data:")) if line.startswith(b"data:") else {}
                if event.get("failed"):
                    raise Fault(f"the server did not start: {event.get('message')}")
                if event.get("ready"):
                    return

    async def load_lab(self) -> None:
        for script in re.findall(r'<script[^>]+src="([^"]+)"', self.lab.text):
            await self.ask("GET", script)
        await self.ask("GET", f"user/{self.name}/lab/api/settings")
        for path in ("kernelspecs", "sessions", "contents"):
            await self.api("GET", path)

    async def stay(self) -> None:
        """What an open JupyterLab does by itself."""
        saved = time.monotonic()
        while True:
            await asyncio.sleep(POLL)
            for path in ("sessions", "kernels", f"contents/{self.asked.folder}"):
                await self.attempt(self.api("GET", path))
            if time.monotonic() - saved > SAVE:
                await self.attempt(self.save())
                saved = time.monotonic()

    async def load(self) -> NotebookNode:
        found = await self.api("GET", f"contents/{self.path}", params={"type": "notebook", "content": "1"})
        return from_dict(found["content"])

    async def save(self) -> None:
        sent = {"type": "notebook", "format": "json", "content": self.notebook}
        await self.api("PUT", f"contents/{self.path}", json=sent)

    # over the websocket
    async def connect(self) -> None:
        path = f"user/{self.name}/api/kernels/{self.kernel['kernel']['id']}/channels"
        where = self.address.join(URL(path)).with_query(session_id=self.session)
        self.socket = await self.http.ws_connect(where, max_msg_size=0)
        self.tasks.append(asyncio.create_task(self.listen()))
        await self.collect(await self.send("kernel_info_request", {}), {"kernel_info_reply"})

    async def listen(self) -> None:
        """All the time, since the server closes what does not answer its pings. None is the end."""
        async for message in self.socket:
            if message.type is aiohttp.WSMsgType.TEXT:  # those with buffers belong to widgets
                self.received.put_nowait(json.loads(message.data))
        self.received.put_nowait(None)

    async def send(self, kind: str, content: dict) -> str:
        header = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "session": self.session, "username": self.name}
        header |= {"version": "5.3", "date": datetime.now(UTC).isoformat()}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        await self.socket.send_json(message)
        return header["msg_id"]

    async def collect(self, asked: str, wanted: set[str]) -> Ran:
        """Everything that answers a message, until all `wanted` kinds have come."""
        start, first, outputs, reply = time.perf_counter(), None, [], {}
        async with asyncio.timeout(CELL):
            while wanted:
                message = await self.received.get()
                if message is None:
                    raise Fault(f"the websocket was closed: {self.socket.close_code}")
                kind, content = message["header"]["msg_type"], message["content"]
                state = content.get("execution_state") if kind == "status" else None
                if state in ("restarting", "dead"):
                    raise Fault(f"the kernel is {state}")
                if message["parent_header"].get("msg_id") != asked:
                    continue
                wanted = wanted - {kind, state}
                if kind.endswith("_reply"):
                    reply = content
                elif kind in ("stream", "execute_result", "display_data", "error"):
                    first = first or time.perf_counter() - start
                    outputs.append(output_from_msg(message))
        return Ran(time.perf_counter() - start, first, outputs, reply)

    async def run(self, code: str, **more: Any) -> Ran:
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False, **more}
        ran = await self.collect(await self.send("execute_request", content), {"execute_reply", "idle"})
        if ran.reply["status"] != "ok":
            self.errors.append(f"{code.splitlines()[0][:60]}: {ran.reply.get('ename')} {ran.reply.get('evalue')}")
        return ran

    # in the lesson
    async def study(self, cells: slice, answer: bool = False, thinking: bool = True) -> None:
        """Run these cells of the lesson, and at its end answer an exercise and save."""
        for cell in code_cells(self.notebook)[cells]:
            if thinking and self.cells:
                await self.think()
            ran = await self.run("".join(cell["source"]))
            cell["outputs"], self.cells[cell["id"]] = ran.outputs, (ran.seconds, ran.first)
            if not whole(self.expected.get(cell["id"], []), ran.outputs, setup=len(self.cells) == 1):
                self.lost.append(cell["id"])
        if answer:
            await self.end()

    async def think(self) -> None:
        await asyncio.sleep(self.asked.thinking * self.random.uniform(0.5, 1.5))

    async def end(self) -> None:
        for sign, code in ANSWERS.items():
            await self.think()
            ran = await self.run(code)
            if not any(output.get("data", {}).get("text/plain", "").startswith(sign) for output in ran.outputs):
                self.lost.append(f"answer {sign}")
        pid = (await self.run("", user_expressions={"pid": "__import__('os').getpid()"})).reply["user_expressions"]
        self.pid = int(pid["pid"]["data"]["text/plain"])
        await self.save()
        here, there = code_cells(self.notebook), code_cells(await self.load())
        self.lost += [f"saved {mine['id']}" for mine, its in zip(here, there, strict=True) if _differ(mine, its)]
        self.finished = True

    async def close(self) -> None:
        """End the kernel and the server, and log out, so that the next run finds the machine as it was."""
        for task in self.tasks:
            task.cancel()
        with suppress(AttributeError):
            await self.socket.close()
        if self.kernel:
            await self.attempt(self.api("DELETE", f"sessions/{self.kernel['id']}"))
        if "spawn" in self.seconds:
            await self.attempt(self.ask("DELETE", f"hub/api/users/{self.name}/server"))
            await self.attempt(self.ask("GET", "hub/logout"))
        await self.http.close()


def _told(page: Page) -> str:
    """What an error page tells a person, in one line."""
    found = re.search(r'(?s)class="login_error">(.*?)</p>|<div class="error">(.*?)</div>', page.text)
    text = next(filter(None, found.groups())) if found else page.text
    return " ".join(re.sub("<[^>]*>", " ", text).split())[:200]


def whole(expected: list, came: list, setup: bool = False) -> bool:
    """Whether a cell has shown the text that its saved outputs have, and as many pictures and tables.

    The setup cell's text names the machine, so it only has to be there. Warnings are left out: some come once.
    """
    text, shown = _text(expected), _shown(expected)
    same = bool(_text(came)) >= bool(text) if setup else _text(came) == text
    return same and _shown(came) >= shown


def _text(outputs: list) -> str:
    streams = (output["text"] for output in outputs if output.get("name") == "stdout")
    return "".join(map("".join, streams))  # a file has a list of lines


def _shown(outputs: list) -> int:
    return sum("data" in output for output in outputs)


def _differ(mine: dict, its: dict) -> bool:
    return (_text(mine["outputs"]), _shown(mine["outputs"])) != (_text(its["outputs"]), _shown(its["outputs"]))
