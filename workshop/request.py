"""In the forked process: what its client wants, and how it takes the client's place.

A request holds the tokens of whoever sends it. It is read here alone, so that the fork server never knows it and
nothing that is forked later finds it in its memory.
"""

import ctypes
import json
import os
import pwd
import resource
import signal
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from warm import RUNS

SILENCE = 5  # seconds in which a client must have said what it wants
LONGEST = 1 << 20  # bytes of it
INHERITED = (resource.RLIMIT_DATA, resource.RLIMIT_NPROC)


class Peer(NamedTuple):
    """A process that has connected, its account and its group."""

    pid: int
    uid: int
    gid: int


@dataclass
class Request:
    """What to become: all but the account is as the client says."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    umask: int
    files: list[int]
    peer: Peer


def peer_of(connection: socket.socket) -> Peer:
    """Who has connected, as the operating system knows it."""
    return Peer(*struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)))


def heard(connection: socket.socket) -> Request:
    """The client's request, once the whole of it has come. Silence and nonsense end this process."""
    signal.alarm(SILENCE)
    try:
        _, files, _, _ = socket.recv_fds(connection, 1, 3)
        with connection.makefile("rb") as lines:
            said = json.loads(lines.readline(LONGEST))
        argv, env, cwd, umask = (said[name] for name in ("argv", "env", "cwd", "umask"))
        texts = [cwd, *argv, *env, *env.values()]
        if argv[0] not in RUNS or len(files) != 3 or not all(type(text) is str for text in texts):
            raise ValueError(said)
        request = Request(list(argv), dict(env), cwd, int(umask) & 0o777, files, peer_of(connection))
        connection.sendall(json.dumps({"pid": os.getpid()}).encode() + b"\n")
    except Exception:  # whatever somebody sends
        os._exit(1)
    signal.alarm(0)
    connection.close()
    return request


def become(request: Request) -> None:
    """The account, the limits, the environment and the files of who asked."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    for target, file in enumerate(request.files):
        os.dup2(file, target)
        os.close(file)
    if os.geteuid() == 0:
        Path("/proc/self/oom_score_adj").write_text(Path(f"/proc/{request.peer.pid}/oom_score_adj").read_text())
        join_groups_of(request.peer.pid)
        take_account(request.peer)
    for limit in INHERITED:
        resource.setrlimit(limit, resource.prlimit(request.peer.pid, limit))
    os.environ.clear()
    os.environ |= request.env
    os.umask(request.umask)
    os.chdir(request.cwd)
    module, *arguments = request.argv
    sys.argv = [sys.modules[module].__file__ or module, *arguments]
    del sys.path[0], sys.modules["request"], sys.modules["warm"]  # learners may have files of these names
    sys.path[:0] = [folder for folder in os.environ.get("PYTHONPATH", "").split(":") if folder not in sys.path]


def join_groups_of(pid: int) -> None:
    """The control groups of a process, whose limits hold for the kernel too."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            with suppress(OSError):
                group = Path("/sys/fs/cgroup", controllers.removeprefix("name="), path.lstrip("/"))
                (group / "cgroup.procs").write_text(str(os.getpid()))


def take_account(peer: Peer) -> None:
    gid = peer.gid
    try:
        account = pwd.getpwuid(peer.uid)
        os.initgroups(account.pw_name, account.pw_gid)
        gid = account.pw_gid
    except KeyError:  # the system's list has no name for it
        os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(peer.uid, peer.uid, peer.uid)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: its files in /proc are its own again
