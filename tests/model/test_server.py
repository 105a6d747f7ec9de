"""A server is there when `serve` returns, and gone when its notebook is: stopped, interrupted or killed."""

import os
import signal
import subprocess
import sys
import time
from urllib.request import urlopen

import psutil
import pytest

import pitfalls
from pitfalls.model import server as module

# One that takes a moment, says 503 while it loads, and starts a process of its own.
SLOW = """
import http.server, os, subprocess, sys, time
begun = time.monotonic()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if time.monotonic() - begun > 1 else 503)
        self.end_headers()
        self.wfile.write(os.environ.get("GREETING", "").encode())
print("child", child.pid, flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
COMMAND = [sys.executable, "-c", SLOW, "{port}"]


def processes(server) -> list[psutil.Process]:
    return psutil.Process(server._guard.pid).children(recursive=True)


def gone(those) -> bool:
    _, alive = psutil.wait_procs(those, timeout=15)
    return not alive


def test_it_answers_when_it_is_returned_and_has_gone_with_all_it_started_afterwards():
    with pitfalls.serve(COMMAND, GREETING="hello") as server:
        assert urlopen(server.url.replace("/v1", "/"), timeout=5).read() == b"hello"
        those = processes(server)
        assert len(those) == 2 and server.memory() > 10e6
        assert "child" in server.log() and repr(server).endswith("running")
        log = server._file
    assert gone(those) and not server.running and not log.exists()
    assert "child" in server.log() and server.memory() == 0
    server.stop()


def test_one_that_ends_by_itself_shows_the_end_of_its_log():
    code = "print('before'); raise SystemExit('no such model')"
    with pytest.raises(pitfalls.ServerError, match=r"ended by itself(.|\n)*before\n(.|\n)*no such model"):
        pitfalls.serve([sys.executable, "-c", code, "{port}"])


def test_one_that_never_answers_is_given_up_and_ended():
    code = "import time; print('loading', flush=True); time.sleep(600)"
    began = time.monotonic()
    with pytest.raises(pitfalls.ServerError, match=r"within 2 seconds(.|\n)*loading"):
        pitfalls.serve([sys.executable, "-c", code, "{port}"], seconds=2)
    assert time.monotonic() - began < 20


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(pitfalls.ServerError, match="no program 'llama-serverr'"):
        pitfalls.serve(["llama-serverr", "{port}"])


@pytest.mark.parametrize("command", ["transformers serve --port {port}", ["transformers", "serve"], []])
def test_what_is_no_command_is_refused(command):
    with pytest.raises(ValueError, match="list of words"):
        pitfalls.serve(command)


def test_an_interrupt_while_waiting_leaves_nothing(monkeypatch):
    started = []

    def interrupt(port):
        started.extend(psutil.Process().children(recursive=True))
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_answers", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pitfalls.serve(COMMAND)
    assert started and gone(started)


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize("ending", ["killed", "ended"])
def test_it_ends_with_whoever_started_it(ending):
    code = f"import pitfalls, sys; s = pitfalls.serve({COMMAND!r}); print(s._guard.pid, flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    notebook = subprocess.Popen([sys.executable, "-c", code], **pipes)
    guard = psutil.Process(int(notebook.stdout.readline()))
    those = [guard, *guard.children(recursive=True)]
    assert len(those) == 3
    if ending == "killed":
        notebook.kill()
    notebook.stdin.close()
    notebook.stdout.close()
    notebook.wait(30)
    assert gone(those)


@pytest.mark.skipif(os.name != "posix", reason="needs process groups")
def test_an_interrupted_cell_does_not_reach_it():
    with pitfalls.serve(COMMAND) as server:
        assert os.getpgid(server._guard.pid) != os.getpgid(0)
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            signal.signal(signal.SIGINT, before)
        assert server.running


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "intranet")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pitfalls.serve(COMMAND) as server:
        assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == "intranet,127.0.0.1"
        assert urlopen(server.url, timeout=5).status == 200
