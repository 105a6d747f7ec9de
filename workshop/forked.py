"""A small process that has a kernel or a server forked, stands for it, and lives exactly as long as it.

    python -I -S forked.py SOCKET ipykernel_launcher -f CONNECTION_FILE

Where no fork server listens at SOCKET, it becomes that kernel or server itself: slower to start, and all the same.
"""

import json
import os
import signal
import socket
import sys
import time

PATIENCE = 1.0  # seconds in which a fork server that was just started again begins to listen
BUSY = 30.0  # seconds in which one that listens answers: when a class begins at once it has much to do
WATCH = 2.0  # seconds between two looks at whether Jupyter is still there


def main() -> int:
    path, *command = sys.argv[1:]
    # a kernel ends with Jupyter, which alone can reach it; a server outlives the hub
    parent = os.getppid() if command[0] == "ipykernel_launcher" else None
    server = connected(path)
    pid = asked(server, command) if server else None
    if server is None or pid is None:
        os.execv(sys.executable, [sys.executable, "-m", *command])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: signalled(pid, number))
    return waited(server, pid, parent)


def connected(path: str) -> socket.socket | None:
    """The fork server, or None where nobody listens."""
    end = time.monotonic() + PATIENCE
    while True:
        server = socket.socket(socket.AF_UNIX)
        server.settimeout(BUSY)
        try:
            server.connect(path)
            return server
        except OSError:
            server.close()
        if time.monotonic() > end:
            return None
        time.sleep(0.1)


def asked(server: socket.socket, command: list[str]) -> int | None:
    """The process that the server has forked for us, or None where it did not."""
    umask = os.umask(0o077)
    os.umask(umask)
    request = {"argv": command, "env": dict(os.environ), "cwd": os.getcwd(), "umask": umask}
    try:
        # a message of its own, as the files go with the first byte of a message
        socket.send_fds(server, [b"\n"], [0, 1, 2])
        server.sendall(json.dumps(request).encode() + b"\n")
        return answer(server).get("pid")
    except OSError:
        return None


def waited(server: socket.socket, pid: int, parent: int | None) -> int:
    """The exit code, as soon as there is one."""
    server.settimeout(WATCH)
    while parent in (None, os.getppid()):
        try:
            code = answer(server).get("code")
        except TimeoutError:
            continue
        except OSError:
            code = None
        return until_gone(pid, parent) if code is None else code
    return 1


def answer(server: socket.socket) -> dict[str, int]:
    """The server's next line; empty where it has ended."""
    line = b""
    while not line.endswith(b"\n"):
        byte = server.recv(1)  # no more than the line: the next one may have come already
        if not byte:
            return {}
        line += byte
    return json.loads(line)


def until_gone(pid: int, parent: int | None) -> int:
    """The fork server has ended and what it forked goes on: nobody can tell its exit code any more."""
    while parent in (None, os.getppid()) and signalled(pid, 0):
        time.sleep(WATCH)
    signalled(pid, signal.SIGKILL)
    return 1


def signalled(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    code = main()
    if code < 0:  # it was killed, and so are we
        signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
        os.kill(os.getpid(), -code)
    sys.exit(code)
