"""Kernels of the fork server, against a real one: it takes as long to start as all that it imports."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

import psutil
import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager

from pitfalls.model.fetch import cache_folder

WORKSHOP = Path(__file__).parents[3] / "workshop"
NOBODY = 65534
AS_NOBODY = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
LONG = 60  # seconds

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the fork server needs Linux")


def hidden() -> bool:
    """Whether another account can't run this Python, as where it lies in root's home."""
    return any(not folder.stat().st_mode & 1 for folder in Path(sys.executable).resolve().parents)


other_account = pytest.mark.skipif(
    os.geteuid() != 0 or hidden(), reason="needs root, and a Python that other accounts can run"
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that other accounts can look into, with a short name: a socket's path has at most 107 letters."""
    with tempfile.TemporaryDirectory(prefix="fork-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Path]:
    """The socket of a running fork server; its log stands beside it."""
    with server_at(folder / "forking.sock") as (path, _):
        yield path


@contextmanager
def server_at(
    path: Path, environment: Mapping[str, str] = MappingProxyType({}), **account: object
) -> Iterator[tuple[Path, subprocess.Popen]]:
    with open(path.with_suffix(".log"), "w") as log:
        process = subprocess.Popen(
            [sys.executable, str(WORKSHOP / "forking.py"), str(path)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env=os.environ | {"PYTHONPATH": str(WORKSHOP.parent)} | dict(environment), **account,
        )  # fmt: skip
    try:
        wait_until(lambda: path.exists() or process.poll() is not None, 120)
        assert process.poll() is None, path.with_suffix(".log").read_text()
        yield path, process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def kernel(
    path: Path, limits: Sequence[str] = (), **environment: str
) -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    """A kernel, as Jupyter starts it, with its client process in the way."""
    manager = KernelManager(transport="ipc")
    manager.kernel_spec.argv = [
        *limits, sys.executable, "-I", "-S", str(WORKSHOP / "forked.py"), str(path), "ipykernel_launcher",
        "-f", "{connection_file}",
    ]  # fmt: skip
    manager.kernel_spec.interrupt_mode = "message"
    manager.start_kernel(env=os.environ | environment)
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(LONG)
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def told(client: BlockingKernelClient, code: str) -> str:
    """What a cell writes, or the name of its error."""
    said: list[str] = []

    def note(message: dict) -> None:
        said.append(message["content"].get("text") or message["content"].get("ename") or "")

    client.execute_interactive(code, output_hook=note, timeout=LONG)
    return "".join(said).strip()


def wait_until(true: Callable[[], object], seconds: float = LONG) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def pid_of(client: BlockingKernelClient) -> int:
    return int(told(client, "import os; print(os.getpid())"))


def client_process(manager: KernelManager) -> psutil.Process:
    return psutil.Process(manager.provisioner.pid)


def asked(path: Path, said: dict | str) -> socket.socket:
    """A connection on which this was said; a dictionary is what differs from a request that makes sense."""
    if isinstance(said, dict):
        said = json.dumps(
            {"argv": ["ipykernel_launcher", "--version"], "env": dict(os.environ), "cwd": "/", "umask": 0o22} | said
        )
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(LONG)
    connection.connect(str(path))
    with suppress(ConnectionError):  # refused before it was said
        socket.send_fds(connection, [b"\n"], [0, 1, 2])
        connection.sendall(said.encode() + b"\n")
    return connection


def dismissed(connection: socket.socket) -> bool:
    """Whether the connection ends without a process that became what was asked for."""
    try:
        with connection.makefile() as lines:
            return "pid" not in lines.read()
    except ConnectionError:  # without having been heard
        return True


def test_the_server_has_nothing_to_complain_about(server: Path):
    with kernel(server):
        assert server.with_suffix(".log").read_text() == ""


def test_a_kernel_has_what_lessons_import_and_shares_it(server: Path):
    with kernel(server) as (manager, client):
        assert told(client, "import sys; print('transformers' in sys.modules, sys.argv[1:])").startswith("True ['-f', ")
        ours = "{'forking', 'request', 'warm'}"  # a learner may have files of these names
        assert told(client, f"print({ours} & {{*sys.modules}})") == "set()"
        assert psutil.Process(pid_of(client)).memory_full_info().uss < 200e6
        assert client_process(manager).memory_info().rss < 16e6


def test_environment_folder_and_mask_are_those_of_the_client(server: Path, tmp_path: Path, monkeypatch):
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)  # a pipeline of transformers sets it
    with kernel(server, HOME=str(tmp_path), MINE="yes") as (manager, client):
        code = "import huggingface_hub.constants as c; print(c.HF_HOME, os.environ['MINE'], os.getcwd(), os.umask(0))"
        mask = os.umask(0)
        os.umask(mask)
        assert told(client, f"import os; {code}") == f"{tmp_path}/.cache/huggingface yes {os.getcwd()} {mask}"
        assert told(client, "print('TOKENIZERS_PARALLELISM' in os.environ)") == "False"


@pytest.mark.parametrize("language", ["en", "ar"])
def test_a_kernel_speaks_the_language_of_its_client(server: Path, language: str):
    with kernel(server, PITFALLS_LANGUAGE=language) as (_, client):
        assert told(client, "from pitfalls.language import language; print(language())") == language


def test_no_two_kernels_draw_the_same_numbers(server: Path):
    draw = "import random, numpy, torch; print(random.random(), numpy.random.rand(), torch.rand(1).item())"
    with kernel(server) as (_, first), kernel(server) as (_, second):
        numbers = [told(client, draw).split() for client in (first, second)]
    assert len(set(sum(numbers, []))) == 6


def test_a_kernel_finds_nothing_of_what_others_have_said(server: Path):
    """Requests hold tokens; and whatever the fork server has ever had in memory, each kernel can read."""
    look = """
import re
found = set()
with open("/proc/self/mem", "rb", 0) as memory, open("/proc/self/maps") as maps:
    for place, rights, *_ in map(str.split, maps):
        start, end = (int(number, 16) for number in place.split("-"))
        if rights.startswith("rw"):
            memory.seek(start)
            found |= {*re.findall(rb"token-of-[0-9]{4}", memory.read(end - start))}
print(found)
"""
    with ExitStack() as others:
        for n in range(1000, 1020):  # of different lengths, so that they lie in different places
            said = {"env": os.environ | {"TOKEN": f"token-of-{n}", "LONG": "x" * 300 * (n - 1000)}}
            assert b"pid" in others.enter_context(closing(asked(server, said))).recv(100)
        with kernel(server, TOKEN="token-of-9999") as (_, client):
            assert told(client, look) == "{b'token-of-9999'}"


def test_interrupting_stops_the_cell_and_not_the_kernel(server: Path):
    with kernel(server) as (manager, client):
        client.execute("print('begun')\nimport time; time.sleep(600)")
        while client.get_iopub_msg(LONG)["content"].get("text") != "begun\n":
            pass
        manager.interrupt_kernel()
        assert client.get_shell_msg(LONG)["content"]["ename"] == "KeyboardInterrupt"
        assert told(client, "print(1 + 1)") == "2"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_kernel_and_what_it_started_end_with_the_client(server: Path, number: signal.Signals):
    with kernel(server) as (manager, client):
        started = told(client, "import subprocess; print(subprocess.Popen(['sleep', '600']).pid)")
        both = [psutil.Process(pid_of(client)), psutil.Process(int(started))]
        client_process(manager).send_signal(number)
        assert not psutil.wait_procs(both, LONG)[1]


def test_a_kernel_that_ignores_sigterm_is_killed(server: Path):
    with kernel(server) as (manager, client):
        told(client, "import signal; _ = signal.signal(signal.SIGTERM, signal.SIG_IGN)")
        process = psutil.Process(pid_of(client))
        client_process(manager).kill()
        process.wait(LONG)


@pytest.mark.parametrize(("end", "code"), [("os._exit(7)", 7), ("os.kill(os.getpid(), 9)", -9)])
def test_the_client_ends_as_the_kernel_did(server: Path, end: str, code: int):
    with kernel(server) as (manager, client):
        client.execute(f"import os; {end}")
        assert manager.provisioner.process.wait(LONG) == code


def test_a_full_memory_is_an_error_of_one_cell(server: Path):
    with kernel(server, ["prlimit", f"--data={15 * 10**8}"]) as (_, client):
        assert told(client, "kept = [bytearray(10**7) for _ in range(40)]; print(len(kept))") == "40"
        assert told(client, "more = [bytearray(10**7) for _ in range(100)]") == "MemoryError"
        assert told(client, "print(len(kept))") == "40"


def test_without_a_fork_server_it_is_an_ordinary_kernel(folder: Path):
    with kernel(folder / "nobody.sock") as (manager, client):
        assert pid_of(client) == client_process(manager).pid
        assert told(client, "import sys; print('torch' in sys.modules)") == "False"


@pytest.mark.parametrize("nonsense", [{"argv": 7}, {"env": []}, {"umask": "x"}, {"cwd": None}, "[" * 100_000, "7"])
def test_who_is_silent_or_talks_nonsense_stops_nobody(server: Path, nonsense: dict | str):
    with closing(socket.socket(socket.AF_UNIX)) as silent, closing(asked(server, nonsense)) as refused:
        silent.connect(str(server))
        assert dismissed(refused)
        with kernel(server) as (_, client):
            assert told(client, "print('here')") == "here"


def test_who_stays_silent_is_sent_away(server: Path):
    with closing(socket.socket(socket.AF_UNIX)) as silent:
        silent.settimeout(LONG)
        silent.connect(str(server))
        silent.sendall(b'{"argv": ')
        assert dismissed(silent)


def test_kernels_survive_the_fork_server(folder: Path):
    """The client then ends when the kernel does, and the kernel with the client."""
    with server_at(folder / "second.sock") as (path, process), kernel(path) as (manager, client):
        process.kill()
        process.wait()
        assert told(client, "print('here')") == "here"
        gone = psutil.Process(pid_of(client))
        client.execute("import os; os._exit(7)")
        gone.wait(LONG)
        assert manager.provisioner.process.wait(LONG) == 1


@other_account
def test_a_kernel_belongs_to_the_account_that_asks(server: Path, folder: Path):
    home = folder / "home"
    home.mkdir(exist_ok=True)
    os.chown(home, NOBODY, NOBODY)
    code = "import os; print(os.getresuid(), os.getresgid(), os.getgroups(), os.access('/etc/shadow', os.R_OK))"
    script = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_forking import *
with kernel(Path({str(server)!r})) as (_, client):
    print(told(client, {code!r}))
    print(told(client, "print(os.stat('/proc/self/fd').st_uid)"))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], **AS_NOBODY, cwd=home,
        env=os.environ | {"HOME": str(home)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    who = ", ".join([str(NOBODY)] * 3)
    assert ran.stdout.splitlines() == [f"({who}) ({who}) [{NOBODY}] False", str(NOBODY)], ran.stderr


@other_account
def test_a_server_without_root_serves_its_own_account_only(folder: Path):
    """The one that asks here is root: what a learner's own server must not run with a learner's rights, it refuses."""
    place = folder / "own"
    place.mkdir(exist_ok=True)
    os.chown(place, NOBODY, NOBODY)
    environment = {"HOME": str(place), "PITFALLS_CACHE": str(cache_folder())}
    with server_at(place / "own.sock", environment, **AS_NOBODY) as (path, _), closing(asked(path, {})) as refused:
        assert dismissed(refused)
