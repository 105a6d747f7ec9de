"""A server in a process of its own: on a free port, waited for, and ended with the notebook, whatever happens to it.

    with pitfalls.serve(["transformers", "serve", "--port", "{port}"]) as server:
        client = OpenAI(base_url=server.url, api_key="none")

    server = pitfalls.serve(…)  # over several cells
    server.stop()

Between us and the server stands a small process, the guard: this very file, run as a program. It ends the server as
soon as its input is closed, which the operating system does for us where we are killed. Interrupting a cell reaches
neither of them.
"""

import atexit
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

if __name__ != "__main__":  # the guard runs without the package
    from pitfalls.language import _

PATIENCE = 8  # seconds that a server has to end before it is killed
HERE = "127.0.0.1"


class ServerError(RuntimeError):
    """The server did not start; the message says why, and what it wrote last."""


class Server:
    """A running server; what `serve` returns."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]):
        self.port = _free_port()
        program, *words = (str(word).replace("{port}", str(self.port)) for word in command)
        handle, log = tempfile.mkstemp(prefix="pitfalls-server-", suffix=".log")
        self._file, self._log = Path(log), ""
        alone: dict[str, Any] = {"start_new_session": True}
        if os.name == "nt":
            alone = {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
        try:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", __file__, _found(program), *words],
                stdin=subprocess.PIPE, stdout=handle, stderr=subprocess.STDOUT, env=os.environ | environment, **alone,
            )  # fmt: skip
        except BaseException:
            self._file.unlink()
            raise
        finally:
            os.close(handle)
        atexit.register(self.stop)

    @property
    def url(self) -> str:
        """What a client takes as its `base_url`."""
        return f"http://{HERE}:{self.port}/v1"

    @property
    def running(self) -> bool:
        return self._guard.poll() is None

    def log(self) -> str:
        """All that the server has written so far."""
        with suppress(OSError):  # it has ended, and so has its file
            self._log = self._file.read_text(encoding="utf-8", errors="replace")
        return self._log

    def memory(self) -> int:
        """The bytes that the server's processes hold in memory."""
        import psutil

        total = 0
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self._guard.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    total += process.memory_info().rss
        return total

    def stop(self) -> None:
        """End the server, and all processes that it has started. A second call does nothing."""
        with suppress(OSError):
            self._guard.stdin.close()
        try:
            self._guard.wait(2 * PATIENCE)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        self.log()
        with suppress(OSError):
            self._file.unlink()
        atexit.unregister(self.stop)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        if self.running:
            return _("Server at {url}, running", url=self.url)
        return _("Server at {url}, ended", url=self.url)


def serve(command: Sequence[str], seconds: float = 180, **environment: str) -> Server:
    """Start a server and return it as soon as it answers.

    `command` is what you would type, as a list of words, with "{port}" where the port belongs; a program that pip
    installed is found without its folder. Keywords are environment variables, as HF_HUB_OFFLINE="1".

    Raises `ServerError`, with the end of the log, where it ends by itself or does not answer in time.
    """
    if isinstance(command, str) or not any("{port}" in str(word) for word in command):
        raise ValueError(_('`command` is a list of words, with "{port}" where the port belongs.'))
    _no_proxy_to_here()
    server = Server(command, environment)
    try:
        end = time.monotonic() + seconds
        while server.running and time.monotonic() < end:
            if _answers(server.port):
                return server
            time.sleep(0.1)
        late = server.running
    except BaseException:  # an interrupted cell, too
        server.stop()
        raise
    server.stop()
    last = "\n".join(f"    {line}" for line in server.log().strip().splitlines()[-12:])
    said = {"command": " ".join(map(str, command))[:200], "log": last}
    if late:
        raise ServerError(
            _(
                "The server did not answer within {seconds:g} seconds: {command}\nThe end of its log:\n{log}",
                seconds=seconds,
                **said,
            )
        )
    raise ServerError(_("The server ended by itself: {command}\nThe end of its log:\n{log}", **said))


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((HERE, 0))  # 0: any that is free
        return int(free.getsockname()[1])


def _found(program: str) -> str:
    """The program's file: also of one that stands beside this Python, which a kernel's PATH need not hold."""
    beside = [os.path.dirname(sys.executable), sysconfig.get_path("scripts")]
    found = shutil.which(program, path=os.pathsep.join([*beside, os.environ.get("PATH", "")]))
    if found is None:
        raise ServerError(_("There is no program {program!r} here: is its package installed?", program=program))
    return found


def _answers(port: int) -> bool:
    """Whether something at this port speaks HTTP and has its model: until then llama.cpp says 503."""
    connection = http.client.HTTPConnection(HERE, port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status != 503
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _no_proxy_to_here() -> None:
    """Where a proxy is set, clients would ask it for this machine's own servers."""
    from urllib.request import getproxies

    if getproxies():
        for name in ("NO_PROXY", "no_proxy"):
            kept = os.environ.get(name, "")
            if HERE not in kept:
                os.environ[name] = ",".join(filter(None, [kept, HERE]))


def _guard(command: list[str]) -> int:
    """Run the server until it ends, or until our input is closed: by `stop`, or because whoever started us is gone."""
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    if os.name == "posix":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # is sent below to our whole group

    def end_with_the_input() -> None:
        sys.stdin.buffer.read()
        if os.name == "nt":
            subprocess.run(["taskkill", "/T", "/F", "/PID", str(server.pid)], capture_output=True)
            return
        os.killpg(0, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            server.wait(PATIENCE)
        os.killpg(0, signal.SIGKILL)  # what is left of what the server started, and ourselves

    threading.Thread(target=end_with_the_input, daemon=True).start()
    return server.wait()


if __name__ == "__main__":
    sys.exit(_guard(sys.argv[1:]))
