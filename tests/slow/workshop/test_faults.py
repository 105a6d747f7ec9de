"""What goes wrong in a workshop, each tried for real: the others go on, nothing is lost, no one gets in."""

import asyncio
import json
import re
import sqlite3
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiohttp import ClientError

from tools.learner import Fault, Learner, Ran
from tools.lessons import ROOT
from tools.workshop import Workshop

WRONG = 'import pitfalls; pitfalls.practice.new_keyword({"load_in_4bit": True})'
COUNT = "import time\nfor number in range(12): print(number, end=' ', flush=True); time.sleep(0.5)"
COUNTED = "0 1 2 3 4 5 6 7 8 9 10 11"


@pytest.fixture(scope="module")
def ada(learner: Callable) -> Learner:
    return learner("ada")


@pytest.fixture(scope="module")
def ben(learner: Callable) -> Learner:
    return learner("ben")


@pytest.fixture(scope="module")
def mallory(learner: Callable) -> Learner:
    return learner("mallory")


def text(ran: Ran) -> str:
    """What a cell has printed, or the error that ended it."""
    printed = "".join(output["text"] for output in ran.outputs if output.get("name") == "stdout")
    return (printed + ran.reply.get("ename", "")).strip()


async def value(learner: Learner, code: str) -> Any:
    """What a line of Python gives in the learner's kernel."""
    ran = await learner.run(f"import json, os; print('value:', json.dumps({code}))")
    assert ran.reply["status"] == "ok", ran.reply
    return json.loads(re.search("value: (.*)", text(ran))[1])  # IPython says more where it can't write


async def until(true: Callable, what: str, seconds: float = 120) -> Any:
    """What `true` gives, as soon as it is something. Steps that fail meanwhile are tried again."""
    end = time.monotonic() + seconds
    while True:
        try:
            if found := await true():
                return found
            last = "it did not"
        except (Fault, ClientError, TimeoutError, ValueError, sqlite3.Error) as error:
            last = repr(error)
        assert time.monotonic() < end, f"{what}: {last}"
        await asyncio.sleep(0.5)


async def comes_back(learner: Learner) -> None:
    """A page whose websocket was closed opens it again, as JupyterLab does."""

    async def connected() -> bool:
        await learner.api("GET", "sessions")
        await learner.socket.close()
        await asyncio.sleep(0.1)
        learner.received = asyncio.Queue()  # the end of the old one stands in the old queue
        await learner.connect()
        return True

    await until(connected, f"{learner.name} gets to the kernel again")


# --- programs that end -------------------------------------------------------------------------------------------


def test_the_hub_is_killed(running, play, learner, ada, ben):
    late = learner("late", opened=False)

    async def story():
        await ada.run("kept = 41")
        cell = asyncio.create_task(ada.run(COUNT))
        await asyncio.sleep(1)
        await asyncio.to_thread(running.kill, "hub")
        assert text(await cell) == COUNTED
        assert text(await ada.run("print(kept + 1)")) == "42"
        assert text(await ben.run("print('here')")) == "here"
        await ada.save()
        await until(lambda: answers(late), "the hub comes back")
        await late.open()
        assert text(await late.run("print('in')")) == "in"
        assert (await ada.ask("GET", "hub/home")).path.endswith("/hub/home")  # still logged in
        assert text(await ada.run("print(kept)")) == "41"

    play(story())


async def answers(learner: Learner) -> bool:
    return (await learner.ask("GET", "hub/login")).status == 200


@pytest.mark.parametrize("name", ["proxy", "forking", "board", "culler"])
def test_another_program_is_killed(name, running, play, ada, ben):
    async def story():
        await ada.run(f"kept = '{name}'")
        cell = asyncio.create_task(ben.run(COUNT))
        await asyncio.sleep(1)
        await asyncio.to_thread(running.kill, name)
        if name == "proxy":  # every connection goes through it
            with pytest.raises(Fault):
                await cell
            for learner in (ada, ben):
                await comes_back(learner)
        else:
            assert text(await cell) == COUNTED
        assert text(await ada.run("print(kept)")) == name
        assert text(await ben.run("print(number)")) == "11"
        await ada.save()

    play(story())


def test_a_kernel_starts_while_there_is_no_fork_server(running, play, learner):
    early = learner("early", opened=False)

    async def story():
        await early.log_in()
        await asyncio.to_thread(running.kill, "forking")
        early.notebook = await early.load()
        asked = {"name": early.path, "path": early.path, "type": "notebook", "kernel": {"name": "python3"}}
        early.kernel = await early.api("POST", "sessions", json=asked)
        await early.connect()
        assert text(await early.run("import pitfalls; print('runs')")) == "runs"

    play(story())


def test_answers_given_while_the_hub_and_the_board_are_away_arrive_once(running, play, ada):
    async def story():
        before = len(told(running, "ada"))
        for name in ("board", "hub"):
            running.program(name).suspend()  # they answer nobody, and then are gone
        try:
            assert text(await ada.run(WRONG)) == ""
            assert text(await ada.run(WRONG)) == ""
        finally:
            for name in ("board", "hub"):
                await asyncio.to_thread(running.kill, name)

        async def arrived() -> bool:
            return len(told(running, "ada")) >= before + 2

        await until(arrived, "the board hears of it")
        await asyncio.sleep(5)  # in which none comes twice
        assert len(told(running, "ada")) == before + 2

    play(story())


def told(running: Workshop, name: str) -> list[tuple]:
    """The ids, tasks and states that the board has been told by a learner."""
    with closing(sqlite3.connect(running.folder / "data" / "board.sqlite")) as board:
        return board.execute("SELECT id, task, state FROM events WHERE learner = ?", [name]).fetchall()


# --- kernels that end --------------------------------------------------------------------------------------------


def test_a_kernel_is_killed(running, play, ada, ben):
    async def story():
        await ada.save()
        file = running.homes / "ada" / ada.path
        before, pid = json.loads(file.read_text()), await value(ada, "os.getpid()")
        await ben.run("kept = 'of ben'")
        cell = asyncio.create_task(ben.run(COUNT))
        dead = asyncio.create_task(ada.run("import time; time.sleep(300)"))
        await asyncio.sleep(1)
        await asyncio.to_thread(lambda: running.inside("kill", "-KILL", str(pid)))
        with pytest.raises(Fault, match="restarting"):
            await dead
        await comes_back(ada)  # asked at once, a kernel answers before anyone listens
        assert await value(ada, "os.getpid()") != pid
        assert text(await ada.run("print('again')")) == "again"
        assert json.loads(file.read_text()) == before
        await ada.save()
        assert text(await cell) == COUNTED
        assert text(await ben.run("print(kept)")) == "of ben"

    play(story())


# --- a full disk, a full memory ----------------------------------------------------------------------------------


def test_a_disk_is_full(running, play, learner, ben):
    full = learner("full", opened=False)
    home, lesson = running.homes / "full", running.homes / "full" / full.path
    running.inside("useradd", "--create-home", f"--base-dir={running.homes}", "--gid=pitfalls-workshop", "full")
    uid = running.inside("id", "--user", "full").stdout.strip()
    running.inside("mount", "-t", "tmpfs", "-o", f"size=128k,mode=700,uid={uid}", "tmpfs", str(home))

    async def story():
        await full.log_in()  # with not all lessons, but in
        running.inside("mount", "-o", "remount,size=8m", str(home))
        await full.ask("DELETE", "hub/api/users/full/server")

        async def ended() -> bool:
            return json.loads((await full.ask("GET", "hub/api/users/full")).text)["servers"] == {}

        await until(ended, "the server ends")
        await full.open()
        assert await value(full, f"len(os.listdir({str(lesson.parent)!r}))") == 13

        full.notebook.cells[0]["source"] = "before"
        await full.save()
        fill = f"with open({str(home / 'much')!r}, 'wb', 0) as file:\n    while True: file.write(bytes(4096))"
        assert text(await full.run(fill)) == "OSError"
        full.notebook.cells[0]["source"] = "after " * 10_000
        with pytest.raises(Fault, match="No space left"):
            await full.save()
        assert await value(full, f"json.load(open({str(lesson)!r}))['cells'][0]['source']") == ["before"]
        assert text(await ben.run("print('not disturbed')")) == "not disturbed"
        assert (await full.run(WRONG)).reply["status"] == "ok"  # can't be noted down, and is no error
        await full.run(f"os.remove({str(home / 'much')!r})")
        await full.save()
        assert (await full.load()).cells[0]["source"] == full.notebook.cells[0]["source"]

    play(story())


MUCH = {
    "at once": "x = bytearray(10**10)",
    "by and by": "x = []\nwhile True: x.append(bytearray(10**7))",
}


@pytest.mark.parametrize("how", MUCH)
def test_a_cell_fills_memory(how, play, ada, ben):
    async def story():
        await ada.run("kept = 'of ada'")
        cell = asyncio.create_task(ada.run(MUCH[how]))
        assert text(await ben.run(COUNT)) == COUNTED
        assert text(await cell) == "MemoryError"
        await ada.run("x = None")
        assert text(await ada.run("print(kept)")) == "of ada"

    play(story())


def test_another_process_fills_memory(play, ada):
    async def story():
        child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'bytearray(10**10)'], check=True)"
        assert text(await ada.run(child)) == "CalledProcessError"
        terminal = await ada.api("POST", "terminals")
        where = ada.address.join(ada.address / f"user/ada/terminals/websocket/{terminal['name']}")
        said = ""
        async with ada.http.ws_connect(where) as socket, asyncio.timeout(60):
            await socket.send_json(["stdin", "python3 -c 'bytearray(10**10)' 2>&1 | tail -n 1\r"])
            async for message in socket:
                said += json.loads(message.data)[-1] if "stdout" in message.data else ""
                if "MemoryError" in said.replace("'bytearray", ""):
                    return

    play(story())


SPAWN = """
import subprocess
started = []
try:
    while len(started) < 5000:
        started.append(subprocess.Popen(["sleep", "60"]))
except BlockingIOError:
    print("no more")
finally:
    for one in started:
        one.kill()
    print(all(one.wait() for one in started))
"""


def test_a_cell_starts_processes_without_end(play, ada, ben):
    async def story():
        cell = asyncio.create_task(ada.run(SPAWN))
        assert text(await ben.run(COUNT)) == COUNTED
        assert text(await ben.run("import subprocess; print(subprocess.run(['echo'], check=True).returncode)")) == "0"
        assert text(await cell).split("\n") == ["no more", "True"]
        assert await value(ada, "len(started)") < 500

    play(story())


# --- one who wants in --------------------------------------------------------------------------------------------

# What runs in mallory's kernel. `victim` is ada: pid, home, runtime, socket, server; `folder` the workshop's.
FILES = {
    "list a home": "os.listdir(victim['home'])",
    "open a lesson": "open(victim['home'] + '/lessons/01_loading.ipynb')",
    "a kernel's environment": "open(f\"/proc/{victim['pid']}/environ\").read()",
    "a kernel's memory": "open(f\"/proc/{victim['pid']}/mem\", 'rb')",
    "a kernel's files": "os.listdir(f\"/proc/{victim['pid']}/fd\")",
    "end a kernel": "os.kill(victim['pid'], 9)",
    "attach to a kernel": "attach(victim['pid'])",
    "a kernel's connection file": "os.listdir(victim['runtime'])",
    "a kernel's socket": "socket.socket(socket.AF_UNIX).connect(victim['socket'])",
    "the hub's environment": "open(f'/proc/{hub}/environ').read()",
    "the fork server's environment": "open(f'/proc/{forking}/environ').read()",
    "attach to the fork server": "attach(forking)",
    "passwords": "open(folder + '/data/secrets.json')",
    "what keys the hub's cookies": "open(folder + '/data/cookie_secret')",
    "the hub's data": "open(folder + '/data/hub.sqlite')",
    "the board's data": "open(folder + '/data/board.sqlite')",
    "the workshop's own": "os.listdir(folder + '/data')",
    "logs": "os.listdir(folder + '/log')",
    "take the fork server's place": "os.remove(folder + '/run/forking.sock')",
    "another account": "os.setuid(0)",
}
HELPERS = """
import ctypes, json, os, socket, subprocess, sys
def attach(pid):
    c = ctypes.CDLL(None, use_errno=True)
    if c.ptrace(16, pid, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), 'ptrace')
"""


@pytest.fixture(scope="module")
def facts(running, play, ada, mallory) -> dict[str, Any]:
    """What mallory knows: more than there is to be known."""
    code = (
        "{'pid': os.getpid(), 'home': os.environ['HOME'], 'runtime': os.environ['JUPYTER_RUNTIME_DIR'],"
        "'server': os.environ['JUPYTERHUB_SERVICE_URL'], 'token': os.environ['JUPYTERHUB_API_TOKEN'],"
        "'file': get_ipython().kernel.parent.connection_file}"
    )
    victim = play(value(ada, code))
    ip = json.loads(Path(victim["file"]).read_text())["ip"]
    port = json.loads(Path(victim["file"]).read_text())["shell_port"]
    victim["socket"] = f"{ip}-{port}"
    assert Path(victim["socket"]).is_socket()
    known = {"victim": {name: victim[name] for name in victim if name != "token"}, "folder": str(running.folder)}
    for name in ("hub", "forking"):
        known[name] = int(re.search(r"^NSpid:.*\s(\d+)$", status(running.program(name).pid), re.MULTILINE)[1])
    play(mallory.run(f"{HELPERS}\nglobals().update(json.loads({json.dumps(known)!r}))"))
    return known | {"token": victim["token"], "mine": play(value(mallory, "os.environ['JUPYTERHUB_API_TOKEN']"))}


def status(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


@pytest.mark.parametrize("what", FILES)
def test_what_is_another_s_is_not_reached(what, play, mallory, facts):
    assert text(play(mallory.run(FILES[what]))) == "PermissionError"


def test_what_all_share_can_t_be_written(running, play, mallory, facts):
    shared = [str(running.folder), str(ROOT / "workshop"), str(ROOT / "pitfalls"), str(ROOT / "notebooks")]
    code = (
        "[f'{here}/{name}' for top in shared for here, folders, files in os.walk(top)"
        " for name in ['.', *folders, *files] if os.access(f'{here}/{name}', os.W_OK)]"
    )
    play(mallory.run(f"shared = {shared}"))
    assert play(value(mallory, code)) == [f"{running.folder}/run/forking.sock"]  # to which all talk


ASKED = {  # of the hub, with the token of mallory's own server and with the cookies of mallory's browser
    "all users": ("GET", "hub/api/users"),
    "another's account": ("GET", "hub/api/users/ada"),
    "a token for another": ("POST", "hub/api/users/ada/tokens"),
    "another's tokens": ("GET", "hub/api/users/ada/tokens"),
    "another's server": ("POST", "hub/api/users/ada/server"),
    "the end of another's server": ("DELETE", "hub/api/users/ada/server"),
    "another's progress": ("GET", "hub/api/users/ada/server/progress"),
    "to become admin": ("PATCH", "hub/api/users/mallory"),
    "a new user": ("POST", "hub/api/users/eve"),
    "routes": ("GET", "hub/api/proxy"),
    "services": ("GET", "hub/api/services"),
    "the end of the hub": ("POST", "hub/api/shutdown"),
    "another's files": ("GET", "user/ada/api/contents"),
    "another's kernels": ("GET", "user/ada/api/kernels"),
    "another's lab": ("GET", "user/ada/lab"),
    "the hub's admin page": ("GET", "hub/admin"),
    "another's start page": ("GET", "hub/spawn/ada"),
    "the board": ("GET", "services/board/"),
    "what is new on the board": ("GET", "services/board/overview"),
    "the class as a table": ("GET", "services/board/class.csv"),
    "all answers as a table": ("GET", "services/board/events.csv"),
    "another exam": ("POST", "services/board/seed"),
}
REFUSED = {401, 403, 404}


@pytest.mark.parametrize("what", ASKED)
def test_what_is_not_theirs_is_refused(what, play, mallory, facts):
    method, path = ASKED[what]
    sent = {"json": {"admin": True}} if method in ("POST", "PATCH") else {}

    async def with_token() -> int:
        headers = {"Authorization": f"token {facts['mine']}"}
        where = mallory.address.join(mallory.address / path)
        async with mallory.http.__class__() as http, http.request(method, where, headers=headers, **sent) as answer:
            return 401 if answer.url.path.endswith("/hub/login") else answer.status

    async def with_cookies() -> int:
        page = await mallory.ask(method, path, **sent)
        return 403 if "services" in path and page.path.endswith("hub/home") else page.status

    expected = REFUSED | ({200} if what == "services" else set())
    assert play(with_token()) in expected
    assert play(with_cookies()) in expected


def test_another_s_server_is_closed_at_its_own_port_too(play, running, mallory, facts):
    async def asked(address: str, token: str) -> int:
        headers = {"Authorization": f"token {token}"}
        async with mallory.http.__class__() as http, http.get(address, headers=headers) as answer:
            return answer.status

    server = facts["victim"]["server"]
    assert play(asked(f"{server}api/contents", facts["token"])) == 200
    assert play(asked(f"{server}api/contents", facts["mine"])) == 403
    for path in ("routes", "routes/user/ada"):
        assert play(asked(f"http://127.0.0.1:{running.port + 2}/api/{path}", facts["mine"])) == 403


def test_nobody_answers_for_another(play, running, mallory, facts):
    """Whatever an event says: it is of whoever has the token."""
    event = {"id": uuid.uuid4().hex, "task": "01/new_keyword", "state": "not quite", "hint": "mine", "at": time.time()}
    sent = [event | {"learner": "ada", "name": "ada", "user": "ada"}]
    address = f"http://127.0.0.1:{running.port + 3}/services/board/events"

    async def posted(token: str) -> int:
        headers = {"Authorization": f"token {token}"}
        async with mallory.http.__class__() as http, http.post(address, headers=headers, json=sent) as answer:
            return answer.status

    assert play(posted("not-a-token")) == 403
    assert event["id"] not in [id for id, *_ in told(running, "mallory")]
    assert play(posted(facts["mine"])) == 204
    assert event["id"] in [id for id, *_ in told(running, "mallory")]
    assert event["id"] not in [id for id, *_ in told(running, "ada")]


def test_a_forked_kernel_is_theirs_who_ask(running, play, mallory, facts):
    """Whatever the request says, and with the limit of memory that whoever asks has."""
    client = """
env = {name: value for name, value in os.environ.items() if not name.startswith("WORKSHOP")}
said = {"argv": ["ipykernel_launcher", "-f", os.environ["HOME"] + "/new.json"], "env": env | {"USER": "root"},
        "cwd": "/", "umask": 0, "uid": 0, "gid": 0, "peer": 1}
server = socket.socket(socket.AF_UNIX)
server.connect(folder + "/run/forking.sock")
socket.send_fds(server, [b"\\n"], [0, 1, 2])
server.sendall(json.dumps(said).encode() + b"\\n")
pid = json.loads(server.recv(100))["pid"]
import time
time.sleep(10)
"""
    assert text(play(mallory.run(client))) == ""
    uids = play(value(mallory, "open(f'/proc/{pid}/status').read().split('Uid:')[1].split()[:4]"))
    assert uids == [str(play(value(mallory, "os.getuid()")))] * 4
    limits = "[line.split()[3] for line in open(f'/proc/{%s}/limits') if line.startswith('Max data size')][0]"
    assert play(value(mallory, limits % "pid")) == play(value(mallory, limits % "os.getpid()")) != "unlimited"
    play(mallory.run("server.close()"))


def test_no_secret_is_where_a_learner_can_read(running, play, mallory, facts):
    """In no memory, environment or command that is theirs, and in no file."""
    known = json.loads((running.folder / "data" / "secrets.json").read_text())
    secrets = [secret for name, secret in known.items() if name != "WORKSHOP_PASSWORD"]
    secrets += [(running.folder / "data" / "cookie_secret").read_text().strip(), facts["token"]]
    secrets.append("of-whoever-" + "started-it")  # see conftest.py
    mine = int(running.inside("id", "--user", "mallory").stdout)
    looked_at = 0
    for process in psutil.Process(running.room.pid).children(recursive=True):
        assert not [secret for secret in secrets if secret in " ".join(process.cmdline())], process
        if process.uids().real == mine:
            looked_at += 1
            assert not found_in_memory(process.pid, [secret.encode() for secret in secrets]), process
    assert looked_at >= 2  # the server and the kernel
    folders = [running.folder, running.homes, "/etc", ROOT / "workshop", "/var/log"]
    folders.append(facts["victim"]["runtime"])
    needles = running.folder / "data" / "needles"
    needles.write_text("\n".join(secrets))
    command = f"setpriv --reuid=mallory --regid=pitfalls-workshop --init-groups grep -rslF -f - $* < {needles}"
    assert running.inside("sh", "-c", f"{command} || true", "grep", *map(str, folders)).stdout == ""


def found_in_memory(pid: int, wanted: list[bytes]) -> list[bytes]:
    found = []
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            words = line.split()
            if words[1].startswith("rw") or words[-1] == "[stack]":
                start, end = (int(number, 16) for number in words[0].split("-"))
                try:
                    memory.seek(start)
                    held = memory.read(end - start)
                except OSError:
                    continue
                found += [secret for secret in wanted if secret in held]
    return found


async def logged_in(browser: Learner, name: str, password: str) -> bool:
    await browser.ask("GET", "hub/login")
    page = await browser.form("hub/login", username=name, password=password)
    assert page.status in (200, 403), page
    return page.path != "/hub/login"


def test_the_class_s_password_lets_in_learners_only(running, play, learner):
    eve = learner("eve", opened=False)

    taken = ["instructor", "Instructor", " instructor", "root", "daemon", "nobody", "ada", "Ada"]
    for name in [*taken, "../ada", "ada/", "élan", "", "a" * 40, "-r"]:
        assert not play(logged_in(eve, name, running.password)), name
    for password in ("", "class-2025", "كلمة السر", running.instructor):
        assert not play(logged_in(eve, "eve", password)), password
    assert play(logged_in(eve, "eve", running.password))


def test_of_two_who_come_with_a_new_name_at_once_one_gets_it(running, play, learner):
    browsers = [learner("twin", opened=False) for _ in range(2)]

    async def come() -> list[bool]:
        for one in browsers:
            await one.ask("GET", "hub/login")
        sent = [one.form("hub/login", username="twin", password=running.password) for one in browsers]
        return [page.path != "/hub/login" for page in await asyncio.gather(*sent)]

    assert sorted(play(come())) == [False, True]


def test_a_name_that_was_freed_is_not_that_of_its_old_browser(running, play, learner):
    old, new, instructor = (learner("moved", opened=False) for _ in range(3))

    async def lets_in(browser: Learner) -> bool:
        return await logged_in(browser, "moved", running.password)

    async def story():
        assert await lets_in(old) and not await lets_in(new)
        await asyncio.sleep(11)  # cookies from the last ten seconds before a user was made are its own
        assert await logged_in(instructor, "instructor", running.instructor)
        assert (await instructor.ask("DELETE", "hub/api/users/moved")).status == 204
        assert await lets_in(new) and not await lets_in(old) and await lets_in(new)

    play(story())
