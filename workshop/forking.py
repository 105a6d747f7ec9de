"""The fork server: one process that has imported what lessons import; kernels and learners' servers are forked from it.

    python forking.py SOCKET

What is forked shares with all others the memory that those imports take, and starts in a fraction of the time. Whose
it becomes, the operating system says (SO_PEERCRED), never the request: run by root, the fork server forks for every
account, otherwise for its own alone. `forked.py` is the client; what was forked lives no longer than its connection,
and within the client's own limits.

Its environment and all that it holds in memory can be read from every kernel: it must know no secrets.
"""

import ctypes
import gc
import json
import logging
import os
import pwd
import random
import resource
import selectors
import signal
import socket
import struct
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path, PosixPath
from types import ModuleType
from typing import Any

SILENCE = 5.0  # seconds in which a client must have said what it wants
GRACE = 3.0  # seconds between SIGTERM and SIGKILL
LONGEST = 1 << 20  # bytes of a request
MOST = 50  # connections of one account
IMPORTED = (
    "ipykernel.zmqshell",  # first: by it tqdm knows a notebook
    "ipykernel.debugger",
    "ipywidgets", "IPython.core.completerlib", "jedi", "accelerate", "anywidget", "bitsandbytes", "fastapi",
    "ipykernel_launcher", "matplotlib.pyplot", "matplotlib_inline.backend_inline", "openai", "transformers",
    "jupyterhub.singleuser.extension", "jupyterlab.labapp", "jupyter_lsp", "jupyter_server_terminals", "notebook_shim",
)  # fmt: skip
INHERITED = (resource.RLIMIT_DATA, resource.RLIMIT_NPROC)

# --- what kernels find imported ----------------------------------------------------------------------------------


@dataclass
class Warm:
    """What a forked kernel has to put right: things that libraries learn when they are imported."""

    home: str
    paths: list[tuple[ModuleType, str, str | Path]] = field(default_factory=list)
    handlers: list[logging.StreamHandler] = field(default_factory=list)


def warmed() -> Warm:
    """Import what lessons import, and use it once: no thread runs and no warning counts as given afterwards."""
    from pitfalls.model.fetch import cache_folder

    os.environ["PITFALLS_CACHE"] = str(cache_folder())
    with tempfile.TemporaryDirectory(prefix="forking-home-") as home:  # known by its name wherever it was noted down
        os.environ |= {
            "HOME": home,
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # the debugger's word on how this very process was started
            "TOKENIZERS_PARALLELISM": "false",
        }
        for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "HF_HOME", "MPLCONFIGDIR", "IPYTHONDIR"):
            os.environ.pop(name, None)
        imported()
        rehearsed()
    for number in range(3):
        gc.collect(number)
    gc.freeze()
    if len(os.listdir("/proc/self/task")) > 1:
        print("A library has started threads, which forked kernels will miss.", file=sys.stderr)
    return Warm(home, list(paths_in(home)), [*handlers_of(sys.stderr), *handlers_of(sys.stdout)])


def imported() -> None:
    import torch

    torch.set_num_threads(1)  # a pool of threads would be missing in the forked process
    for name in IMPORTED:
        import_module(name)
    import pitfalls

    for name in pitfalls.__all__:
        getattr(pitfalls, name)


def rehearsed() -> None:
    """A model, loaded and used as in a lesson, so that all that is imported late is there."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as said

    import pitfalls
    from pitfalls.silence import silenced

    with silenced(), warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        folder = pitfalls.fetch_model()
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(folder, device_map="auto")
        inputs = tokenizer("1, 2, 3", return_tensors="pt")
        model.generate(**inputs, max_new_tokens=2)
        model.generate(**inputs, max_new_tokens=2, do_sample=True, top_k=5, top_p=0.9)
        call = pitfalls.record(model, tokenizer, inputs, max_new_tokens=2)
        repr(pitfalls.check(model, tokenizer, inputs))
        for picture in (pitfalls.pictures.padding(inputs, tokenizer), call):
            picture._repr_html_() if hasattr(picture, "_repr_html_") else repr(picture)
    said.warning_once.cache_clear()


def paths_in(home: str) -> Iterator[tuple[ModuleType, str, str | Path]]:
    """Where modules noted a path inside of this home folder."""
    for module in list(sys.modules.values()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if type(value) in (str, PosixPath) and str(value).startswith(home):
                yield module, name, value


def handlers_of(stream: Any) -> list[logging.StreamHandler]:
    known = (reference() for reference in logging._handlerList)
    return [handler for handler in known if getattr(handler, "stream", None) is stream]


# --- who asks for a kernel ---------------------------------------------------------------------------------------


@dataclass(eq=False)
class Client:
    """A connection: at first its request is still to come, then it is as good as the kernel."""

    socket: socket.socket
    process: int
    uid: int
    gid: int
    until: float
    data: bytes = b""
    files: list[int] = field(default_factory=list)
    pid: int = 0
    pidfd: int = -1

    def release(self) -> None:
        """Close the files that came with the request: the kernel has them."""
        while self.files:
            os.close(self.files.pop())

    def close(self) -> None:
        self.release()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        self.socket.close()


@dataclass
class Request:
    """A kernel to become: all but the account is as the client says."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    umask: int
    peer: int
    uid: int
    gid: int
    files: list[int]


class ForkServer:
    """Answers all clients in one thread; whoever is silent or talks nonsense is waited for by nobody."""

    def __init__(self, path: Path):
        self.listener = socket.socket(socket.AF_UNIX)
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        self.listener.bind(str(fresh))
        fresh.chmod(0o666)
        self.listener.listen(1024)
        self.listener.setblocking(False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.clients: set[Client] = set()
        fresh.rename(path)  # where it is, somebody answers

    def next_kernel(self) -> Request:
        """Fork kernels for ever; returns in each forked process, with what it is to become."""
        while True:
            for key, _ in self.selector.select(1.0 if self.clients else None):
                client = key.data
                if client is None:
                    self.accept()
                elif client.socket.fileno() < 0:
                    continue  # ended in this very round
                elif key.fileobj != client.socket:
                    self.ended(client)
                elif client.pid:
                    self.left(client)
                elif (request := self.heard(client)) and self.forked(client, request):
                    return request
            self.lose_patience()

    def accept(self) -> None:
        try:
            connection, _ = self.listener.accept()
        except OSError:  # it has gone already, or there are too many
            time.sleep(0.01)
            return
        connection.setblocking(False)
        client = Client(connection, *credentials(connection), until=time.monotonic() + SILENCE)
        of_account = sum(other.uid == client.uid for other in self.clients)
        if os.geteuid() not in (0, client.uid) or of_account >= MOST and client.uid != os.geteuid():
            client.close()
            return
        self.clients.add(client)
        self.selector.register(connection, selectors.EVENT_READ, client)

    def heard(self, client: Client) -> Request | None:
        """The client's request, once the whole of it has come. Nonsense ends the connection."""
        try:
            data, files, _, _ = socket.recv_fds(client.socket, 1 << 16, 3)
            client.files += files
            client.data += data
            if not data or len(client.data) > LONGEST or len(client.files) > 3:
                raise ValueError
            if not client.data.endswith(b"\n") or not client.data.strip():
                return None
            return checked(client)
        except BlockingIOError:
            return None
        except Exception:  # whatever somebody sends, the others' kernels are not to suffer for it
            self.forget(client)
            return None

    def forked(self, client: Client, request: Request) -> bool:
        """Whether this is the new process. The old one tells the client about it."""
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            client.pid = os.fork()
        except OSError as error:
            return self.given_up(client, error)
        if client.pid == 0:
            client.files = []  # they are the request's now
            self.close()
            return True
        try:
            client.pidfd = os.pidfd_open(client.pid)
        except OSError as error:
            return self.given_up(client, error)
        client.until = float("inf")
        client.release()
        self.selector.register(client.pidfd, selectors.EVENT_READ, client)
        tell(client, {"pid": client.pid})
        return False

    def given_up(self, client: Client, error: OSError) -> bool:
        print(f"No kernel could be forked: {error}", file=sys.stderr)
        if client.pid:
            killed(client.pid, signal.SIGKILL)
            os.waitpid(client.pid, 0)
        self.forget(client)
        return False

    def ended(self, client: Client) -> None:
        """The kernel has ended: with it goes what it left behind, and the client learns the exit code."""
        killed(client.pid, signal.SIGKILL)
        _, status = os.waitpid(client.pid, 0)
        tell(client, {"code": os.waitstatus_to_exitcode(status)})
        self.forget(client)

    def left(self, client: Client) -> None:
        """The client has ended, so its kernel must. What it says meanwhile is not for us."""
        with suppress(BlockingIOError):
            try:
                if client.socket.recv(1 << 16):
                    return
            except ConnectionError:
                pass
            self.selector.unregister(client.socket)
            killed(client.pid, signal.SIGTERM)
            client.until = time.monotonic() + GRACE

    def lose_patience(self) -> None:
        now = time.monotonic()
        for client in [client for client in self.clients if client.until < now]:
            if client.pid:
                killed(client.pid, signal.SIGKILL)
                client.until = float("inf")
            else:
                self.forget(client)

    def forget(self, client: Client) -> None:
        for file in (client.socket, client.pidfd):
            with suppress(KeyError, ValueError):
                self.selector.unregister(file)
        self.clients.discard(client)
        client.close()

    def close(self) -> None:
        """In a forked process: nothing of this is its own."""
        self.selector.close()
        self.listener.close()
        for client in self.clients:
            client.close()


def credentials(connection: socket.socket) -> tuple[int, int, int]:
    """The process, the account and the group that have connected, as the operating system knows them."""
    process, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return process, uid, gid


def checked(client: Client) -> Request:
    """Raises an exception for what is no request."""
    said = json.loads(client.data)
    argv, env, cwd, umask = (said[name] for name in ("argv", "env", "cwd", "umask"))
    texts = [cwd, *argv, *env, *env.values()]
    if argv[0] not in RUNS or len(client.files) != 3 or not all(type(text) is str for text in texts):
        raise ValueError(said)
    return Request(
        list(argv), dict(env), cwd, int(umask) & 0o777, client.process, client.uid, client.gid, [*client.files]
    )


def tell(client: Client, said: dict[str, int]) -> None:
    with suppress(OSError):  # it has gone: its end will be noticed
        client.socket.send(json.dumps(said).encode() + b"\n")


def killed(pid: int, number: int) -> None:
    """A kernel and all that it has started in its own session. It is our child, so the number is still its own."""
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):
            kill(pid, number)
            return


# --- in the forked process ---------------------------------------------------------------------------------------


def become(request: Request, warm: Warm, files: tuple[int, int]) -> None:
    """The account, the limits, the environment and the files of who asked."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN if number == signal.SIGPIPE else signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for target, file in enumerate(request.files):
        os.dup2(file, target)
    for file in request.files:
        if file > 2:
            os.close(file)
    resource.setrlimit(resource.RLIMIT_NOFILE, files)
    if os.geteuid() == 0:
        Path("/proc/self/oom_score_adj").write_text(Path(f"/proc/{request.peer}/oom_score_adj").read_text())
        join_groups_of(request.peer)
        take_account(request.uid, request.gid)
    for limit in INHERITED:
        resource.setrlimit(limit, resource.prlimit(request.peer, limit))
    os.environ.clear()
    os.environ |= request.env
    os.umask(request.umask)
    os.chdir(request.cwd)
    module, *arguments = request.argv
    sys.argv = [sys.modules[module].__file__ or module, *arguments]
    del sys.path[0]  # the folder of this file
    sys.path[:0] = [folder for folder in os.environ.get("PYTHONPATH", "").split(":") if folder not in sys.path]
    home = os.path.expanduser("~")
    for module, name, value in warm.paths:
        setattr(module, name, type(value)(str(value).replace(warm.home, home, 1)))
    compute_alone()


def join_groups_of(peer: int) -> None:
    """The control groups of a process, whose limits hold for the kernel too."""
    with suppress(OSError):
        for line in Path(f"/proc/{peer}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            with suppress(OSError):
                group = Path("/sys/fs/cgroup", controllers.removeprefix("name="), path.lstrip("/"))
                (group / "cgroup.procs").write_text(str(os.getpid()))


def take_account(uid: int, gid: int) -> None:
    try:
        account = pwd.getpwuid(uid)
        os.initgroups(account.pw_name, account.pw_gid)
        gid = account.pw_gid
    except KeyError:  # the system's list has no name for it
        os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: its files in /proc are its own again


def compute_alone() -> None:
    """Random numbers of its own, and as many threads as the environment says."""
    import numpy
    import torch

    random.seed()
    numpy.random.seed()
    torch.seed()
    threads = os.environ.get("OMP_NUM_THREADS", "")
    torch.set_num_threads(int(threads) if threads.isdecimal() else len(os.sched_getaffinity(0)))


def run_server(warm: Warm) -> None:
    """A learner's JupyterLab, its whole life."""
    from jupyterhub.singleuser import main

    main()


def run_kernel(warm: Warm) -> None:
    """The kernel's whole life."""
    import ipywidgets
    from ipykernel.kernelapp import IPKernelApp
    from IPython import get_ipython

    kernel = IPKernelApp.instance()
    kernel.parent_handle = 1  # somebody else sees to it that it does not outlive Jupyter
    kernel.initialize(sys.argv[1:])
    for handler in warm.handlers:  # as if they had been made in the kernel
        vars(handler).pop("flush", None)
        handler.setStream(sys.stderr)
    # what these two do where they are imported in a kernel
    ipywidgets.load_ipython_extension(get_ipython())
    get_ipython().enable_matplotlib("inline")
    kernel.start()


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


RUNS = {"ipykernel_launcher": run_kernel, "jupyterhub.singleuser": run_server}


def main() -> None:
    path = Path(sys.argv[1])
    warm = warmed()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files[1], files[1]))  # two for each kernel
    request = ForkServer(path).next_kernel()
    become(request, warm, files)
    RUNS[request.argv[0]](warm)


if __name__ == "__main__":
    main()
