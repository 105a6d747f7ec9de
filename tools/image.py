"""The steps of workshop/Dockerfile without Docker, in a folder: does the image come out, and would it serve a learner?

    python -m tools.image FOLDER

Steps are run as this account, which needs no rights; what only a system's administrator can do is left out, and named.
The paths that the image has at its root lie in the folder instead, and a virtual environment stands for its Python. As
root, give another account with --user, since JupyterLab won't start as root.
"""

import argparse
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pitfalls.model.server import _free_port
from tools.fork import ROOT

DOCKERFILE = ROOT / "workshop" / "Dockerfile"
FOR_ROOT = ("useradd", "apt-get")


def steps(text: str) -> list[tuple[str, str]]:
    """Each instruction with its arguments: lines joined, comments left out."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


@dataclass
class Image:
    """A folder that fills as an image does."""

    folder: Path
    python: str = sys.executable
    account: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    where: str = "/"
    command: list[str] = field(default_factory=list)

    def inside(self, text: str) -> str:
        """The paths of the image as they are in the folder."""
        return re.sub(r"(?<![\w./-])/(opt|home|usr/local)(?=/|$)", rf"{self.folder}/\1", text)

    def run(self, text: str) -> None:
        """Raises `CalledProcessError` where the step fails."""
        if any(word in text for word in FOR_ROOT):
            print(f"left out, for root only: {text[:60]} …", flush=True)
            return
        print(f"RUN {text[:100]}", flush=True)
        environment = self.environment | {"PATH": f"{self.folder}/usr/local/bin:{os.defpath}"}
        place = self.inside(self.where)
        subprocess.run(["sh", "-c", self.inside(text)], cwd=place, env=environment, check=True, **self.account)

    def copy(self, arguments: str) -> None:
        *sources, target = arguments.split()
        for source in sources:
            found, place = ROOT / source, Path(self.inside(os.path.join(self.where, target)))
            if found.is_dir():
                shutil.copytree(found, place, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
            else:
                shutil.copy(found, place)

    def take(self, kind: str, text: str) -> None:
        """One step of the Dockerfile. Raises `ValueError` for a kind that it has not had so far."""
        if kind == "FROM":
            environment = self.folder / "usr" / "local"
            subprocess.run([self.python, "-m", "venv", environment], check=True, **self.account)
        elif kind in ("ENV", "ARG"):
            for name, value in (pair.split("=", 1) for pair in text.split() if "=" in pair):
                self.environment[name] = self.inside(value)
        elif kind == "RUN":
            self.run(text)
        elif kind == "COPY":
            self.copy(text)
        elif kind == "WORKDIR":
            self.where = text
            self.make(self.inside(text))
        elif kind == "CMD":
            self.command = [self.inside(word) for word in json.loads(text)]
        elif kind not in ("EXPOSE", "USER"):
            raise ValueError(f"tools/image.py does not know {kind} yet: teach it, or leave it out of the Dockerfile")

    def make(self, folder: str) -> None:
        subprocess.run(["mkdir", "-p", folder], check=True, **self.account)


def build(folder: Path, user: str | None = None, python: str = sys.executable) -> Image:
    """Take every step, in a new folder."""
    folder.mkdir(parents=True)
    image = Image(folder.resolve(), python)
    if user:
        account = pwd.getpwnam(user)
        os.chown(folder, account.pw_uid, account.pw_gid)
        image.account = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    kept = ("LANG", "TMPDIR", "http_proxy", "https_proxy", "no_proxy")  # and pip's own settings
    image.environment = {name: os.environ[name] for name in os.environ if name in kept or name.startswith("PIP_")}
    image.environment["HOME"] = f"{image.folder}/home/jovyan"
    for name in ("opt", "home/jovyan"):
        image.make(f"{image.folder}/{name}")
    for kind, text in steps(DOCKERFILE.read_text()):
        image.take(kind, text)
    return image


class Hub(BaseHTTPRequestHandler):
    """As much of a hub as a server asks for when it starts."""

    version = ""

    def do_GET(self) -> None:
        self.answer({"version": self.version})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer({})

    def answer(self, what: dict[str, str]) -> None:
        body = json.dumps(what).encode()
        self.send_response(200)
        self.send_header("X-JupyterHub-Version", self.version)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *said: Any) -> None:
        pass


def serve(image: Image, language: str = "en", seconds: float = 120) -> dict[str, Any]:
    """Start what the image starts, with a stand-in for the hub, until it answers: what it says of itself.

    Raises `RuntimeError` with what it printed where it ends or is silent for so long.
    """
    Hub.version = image.environment["JUPYTERHUB"]
    hub, port = ThreadingHTTPServer(("127.0.0.1", 0), Hub), _free_port()
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{port}/user/ada/"
    environment = image.environment | {
        "PATH": f"{image.folder}/usr/local/bin:{os.defpath}",
        "PITFALLS_LANGUAGE": language,
        "JUPYTERHUB_API_TOKEN": "token",
        "JUPYTERHUB_API_URL": f"http://127.0.0.1:{hub.server_port}/hub/api",
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_CLIENT_ID": "jupyterhub-user-ada",
        "JUPYTERHUB_HOST": "",
        "JUPYTERHUB_OAUTH_CALLBACK_URL": "/user/ada/oauth_callback",
        "JUPYTERHUB_SERVICE_PREFIX": "/user/ada/",
        "JUPYTERHUB_SERVICE_URL": address,
        "JUPYTERHUB_USER": "ada",
    }
    said = image.folder / "server.log"
    with open(said, "w") as log:
        place = image.inside(image.where)
        server = subprocess.Popen(image.command, cwd=place, env=environment, stdout=log, stderr=log, **image.account)
    try:
        end = time.monotonic() + seconds
        while server.poll() is None and time.monotonic() < end:
            try:
                with urllib.request.urlopen(f"{address}api", timeout=5) as answer:
                    return json.load(answer)
            except OSError:
                time.sleep(0.2)
        raise RuntimeError(f"{' '.join(image.command)} does not answer at {address}api:\n{said.read_text()}")
    finally:
        server.terminate()
        server.wait(30)
        hub.shutdown()
        hub.server_close()


def main() -> None:
    asked = argparse.ArgumentParser(prog="python -m tools.image", description=__doc__.splitlines()[0])
    asked.add_argument("folder", type=Path, help="a new folder; the image takes 3 GB")
    asked.add_argument("--user", help="the account that takes the steps; only root can give another than its own")
    asked.add_argument("--python", default=sys.executable, help="the Python to begin with, which that account can run")
    given = asked.parse_args()
    if given.folder.exists():
        asked.error(f"{given.folder} is there already: name a new folder")
    image = build(given.folder, given.user, given.python)
    for language in ("en", "ar"):
        print(f"Jupyter server {serve(image, language)['version']} answers; lessons in {language}:")
        print("  ", *sorted(image.folder.glob("home/**/01_*.ipynb")))


if __name__ == "__main__":
    main()
