"""A process, or a test, that reaches no index, no Hub and no cache of whoever runs the tests."""

import os
import shutil
import ssl
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pitfalls import ModelError, fetch_model

READER = dict(os.environ)  # pip's settings and the cache of whoever runs the tests
OURS = ("PIP_", "HF_", "HUGGING", "TRANSFORMERS_", "PITFALLS_", "REQUESTS_CA", "CURL_CA")  # set by the tests alone
FETCH = "from pitfalls import fetch_model; print(fetch_model())"
WEIGHTS = "model.safetensors"


def settings(cache: Path, wheels: Path) -> dict[str, str]:
    """An environment that reaches no index, no Hub and no cache of the user."""
    kept = {name: value for name, value in READER.items() if not name.startswith(OURS)}
    return kept | {
        "PITFALLS_CACHE": str(cache),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_CACHE_DIR": str(cache.parent / "pip-cache"),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_RETRIES": "0",
        "HF_HOME": str(cache.parent / "hf-home"),
        "HF_HUB_OFFLINE": "1",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache and an empty package index, unless a test sets up others."""
    (tmp_path / "no-wheels").mkdir()
    wanted = settings(tmp_path / "cache", tmp_path / "no-wheels")
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
    for name, value in wanted.items():
        monkeypatch.setenv(name, value)
    yield tmp_path / "cache"
    for folder in ("cache", "pip-cache", "no-wheels"):  # pytest keeps tmp_path, and a model takes half a GB
        shutil.rmtree(tmp_path / folder, ignore_errors=True)


@pytest.fixture(scope="session")
def intact():
    """A model that is whole, only to read: the reader's own."""
    return Path(fetch_model())


def start(code: str, environment=None) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    environment = (environment or os.environ) | {"PYTHONIOENCODING": "utf-8"}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes)


def run(code: str) -> tuple[str, str]:
    """What a process prints, and the message of the ModelError that ends it, if one does."""
    process = start(code)
    try:
        out, err = process.communicate(timeout=400)
    finally:
        process.kill()
    return out, err.rpartition("\npitfalls.model.fetch.ModelError: ")[2] if process.returncode else ""


def refusal(*name) -> str:
    with pytest.raises(ModelError) as caught:
        fetch_model(*name)
    return str(caught.value)


def content(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


@contextmanager
def server(answer, certificate: ssl.SSLContext | None = None):
    """A server on this machine; `answer(path)` gives status, headers and body.

    A body shorter than the Content-Length among the headers is a download that is cut.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers, body = answer(self.path)
            self.send_response(status)
            for name, value in {"Content-Length": len(body), **headers}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        if certificate:
            httpd.socket = certificate.wrap_socket(httpd.socket, server_side=True)
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        try:
            yield f"{'https' if certificate else 'http'}://127.0.0.1:{httpd.server_port}"
        finally:
            httpd.shutdown()
