"""The fork server: one process that has imported what lessons import; kernels and learners' servers are forked from it.

    python forking.py SOCKET

What is forked shares with all others the memory that those imports take, and starts in a fraction of the time. Whose
it becomes, the operating system says (SO_PEERCRED), never the request: run by root, the fork server forks for every
account, otherwise for its own alone. `forked.py` is the client; what was forked lives no longer than its connection,
and within the client's own limits.

Its environment and all that it holds in memory can be read from every kernel: it must know no secrets. So it
leaves what a client says to the process that it forks for it.
"""

import json
import os
import resource
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from request import become, heard, peer_of
from warm import RUNS, warmed

GRACE = 3.0  # seconds between SIGTERM and SIGKILL
MOST = 50  # connections of one account


@dataclass(eq=False)
class Client:
    """A connection, and the process that was forked for it."""

    socket: socket.socket
    uid: int
    pid: int
    pidfd: int
    until: float = float("inf")  # when it is killed

    def close(self) -> None:
        self.socket.close()
        os.close(self.pidfd)


class ForkServer:
    """Answers all clients in one thread, and never waits for what one of them says."""

    def __init__(self, path: Path):
        self.limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (self.limit[1], self.limit[1]))  # two files for each client
        self.listener = socket.socket(socket.AF_UNIX)
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        self.listener.bind(str(fresh))
        fresh.chmod(0o666)
        self.listener.listen(1024)
        self.listener.setblocking(False)
        self.epoll = select.epoll()
        self.epoll.register(self.listener, select.EPOLLIN)
        self.clients: dict[int, Client] = {}  # by each of their two files
        fresh.rename(path)  # where it is, somebody answers

    def next_client(self) -> socket.socket:
        """Fork for ever; returns in each forked process, with the connection to whoever it is for."""
        while True:
            for file, _ in self.epoll.poll(1.0 if self.clients else None):
                client = self.clients.get(file)
                if client and file == client.pidfd:
                    self.ended(client)
                elif client:
                    self.left(client)
            self.lose_patience()
            if connection := self.accepted():  # last, as it may get the number of a file that was just closed
                return connection

    def accepted(self) -> socket.socket | None:
        """Fork for who comes next, if anyone does. Only the new process gets the connection."""
        try:
            connection, _ = self.listener.accept()
        except BlockingIOError:
            return None
        except OSError:  # it has gone already, or there are too many
            time.sleep(0.01)
            return None
        uid, own = peer_of(connection).uid, os.geteuid()
        of_account = sum(client.uid == uid for client in {*self.clients.values()})
        if own not in (0, uid) or of_account >= MOST and uid != own:
            connection.close()
            return None
        return self.forked(connection, uid)

    def forked(self, connection: socket.socket, uid: int) -> socket.socket | None:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = 0
        try:
            pid = os.fork()
            pidfd = os.pidfd_open(pid) if pid else -1
        except OSError as error:
            print(f"No kernel could be forked: {error}", file=sys.stderr)
            connection.close()
            if pid:
                killed(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            return None
        if pid == 0:
            self.close()
            return connection
        client = Client(connection, uid, pid, pidfd)
        self.clients |= {connection.fileno(): client, pidfd: client}
        self.epoll.register(connection, select.EPOLLRDHUP)  # what it says is for the forked process
        self.epoll.register(pidfd, select.EPOLLIN)
        return None

    def ended(self, client: Client) -> None:
        """The forked process has ended: with it goes what it left behind, and the client learns the exit code."""
        killed(client.pid, signal.SIGKILL)
        _, status = os.waitpid(client.pid, 0)
        said = json.dumps({"code": os.waitstatus_to_exitcode(status)}).encode() + b"\n"
        with suppress(OSError):  # it has gone, or does not listen
            client.socket.send(said, socket.MSG_DONTWAIT)
        for file in (client.socket.fileno(), client.pidfd):
            del self.clients[file]
            with suppress(FileNotFoundError):
                self.epoll.unregister(file)
        client.close()

    def left(self, client: Client) -> None:
        """The client has ended, so what was forked for it must."""
        self.epoll.unregister(client.socket)
        killed(client.pid, signal.SIGTERM)
        client.until = time.monotonic() + GRACE

    def lose_patience(self) -> None:
        now = time.monotonic()
        for client in {*self.clients.values()}:
            if client.until < now:
                killed(client.pid, signal.SIGKILL)
                client.until = float("inf")

    def close(self) -> None:
        """In a forked process: nothing of this is its own."""
        resource.setrlimit(resource.RLIMIT_NOFILE, self.limit)
        self.epoll.close()
        self.listener.close()
        for client in {*self.clients.values()}:
            client.close()


def killed(pid: int, number: int) -> None:
    """A kernel and all that it has started in its own session. It is our child, so the number is still its own."""
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):
            kill(pid, number)
            return


def client_command(path: Path) -> list[str]:
    """The command that has something forked at this socket; what follows is a module of RUNS, and its arguments."""
    return [sys.executable, "-I", "-S", str(Path(__file__).with_name("forked.py").resolve()), str(path.absolute())]


def kernelspec(folder: Path, path: Path) -> None:
    """Write a kernelspec `python3` into `folder/kernels` (for JUPYTER_PATH): its kernels are forked at this socket."""
    from ipykernel.kernelspec import get_kernel_dict

    spec = get_kernel_dict() | {
        "argv": [*client_command(path), "ipykernel_launcher", "-f", "{connection_file}"],
        "interrupt_mode": "message",
    }
    target = folder / "kernels" / "python3"
    target.mkdir(parents=True, exist_ok=True)
    (target / "kernel.json").write_text(json.dumps(spec, indent=1) + "\n")


def main() -> None:
    path = Path(sys.argv[1])
    warm = warmed()
    request = heard(ForkServer(path).next_client())
    become(request)
    warm.put_right()
    RUNS[request.argv[0]](warm)


if __name__ == "__main__":
    main()
