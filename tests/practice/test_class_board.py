"""What a class's board hears of an answer, in a workshop and nowhere else, and that no word of a learner is in it."""

import copy
import json
import os
import pickle
import random
import re
import subprocess
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import pitfalls
from pitfalls.language import N_, Message, _, counted, nN_
from pitfalls.practice import class_board, kept, progress, tasks
from pitfalls.practice.feedback import Hint, exercise, run
from pitfalls.practice.final_exam import PROGRAM
from pitfalls.practice.prediction import Prediction, Question, questions
from tests.practice.exercises import EXERCISES, WRONG, answer, each, solution

SECRET = "zq7secret"
TASK = "06/batch_like_single"
KEYS = {"id", "task", "state", "hint", "at"}
HOME = "PITFALLS_BOARD", "JUPYTERHUB_API_TOKEN", "PITFALLS_PROGRESS"


class Board(ThreadingHTTPServer):
    """Stands in for the board of a hub; `status` is what it answers to events."""

    def __init__(self, port: int = 0):
        super().__init__(("127.0.0.1", port), Handler)
        self.bodies: list[str] = []
        self.events: list[dict] = []
        self.headers: list[dict] = []
        self.status, self.seed = 204, '{"seed": null}'
        self.heard = threading.Condition()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/services/board/"

    def wait(self, events: int) -> list[dict]:
        """So many events, once they have come."""
        with self.heard:
            assert self.heard.wait_for(lambda: len(self.events) >= events, timeout=60), self.events
            return list(self.events)

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Board

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with self.server.heard:
            self.server.bodies.append(body)
            self.server.headers.append({"path": self.path, **self.headers})
            if self.server.status == 204:
                self.server.events += json.loads(body)
            self.send_response(self.server.status)
            self.end_headers()
            self.server.heard.notify_all()

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/services/board/class" else 404)
        self.end_headers()
        self.wfile.write(self.server.seed.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """As a kernel that has just been started, of a learner who has done nothing yet."""
    for name in HOME:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PITFALLS_PROGRESS", str(tmp_path / "data" / "progress.json"))
    monkeypatch.setattr(tasks, "_here", set())
    _restart(monkeypatch)
    yield monkeypatch
    _end()


def _restart(monkeypatch) -> None:
    monkeypatch.setattr(class_board, "_here", {})
    monkeypatch.setattr(class_board, "_taken", set())
    monkeypatch.setattr(class_board, "_news", threading.Event())
    monkeypatch.setattr(class_board, "_refused", threading.Event())
    monkeypatch.setattr(class_board, "_sender", None)


def _end() -> None:
    """End the thread that sends."""
    class_board._refused.set()
    while class_board._sender and class_board._sender.is_alive():
        class_board._news.set()
        class_board._sender.join(0.05)


@pytest.fixture
def board(kernel):
    """A kernel in a workshop, and its class's board."""
    made = Board()
    _enter(kernel, made.address)
    yield made
    _end()
    made.close()


def _enter(monkeypatch, address: str) -> None:
    monkeypatch.setenv("PITFALLS_BOARD", address)
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "sesame")


def unsent() -> list[dict]:
    return kept.read(class_board._file()) or []


# --- sources of messages ---


def test_a_message_is_text_and_knows_its_source_without_the_values():
    rows = nN_("{n} row of {text!r}", "{n} rows of {text!r}")
    what = _("the text {text!r}", text=SECRET)
    said = _("Expected {what}: {given:>20}. Came: {{}}.", what=what, given=SECRET)
    assert said == f"Expected the text {SECRET!r}: {SECRET:>20}. Came: {{}}."
    assert said.source == "Expected the text {text!r}: …. Came: {}."
    assert counted(rows, 1, text=SECRET) == f"1 row of {SECRET!r}"
    assert counted(rows, 1, text=SECRET).source == counted(rows, 3, text=SECRET).source == "{n} rows of {text!r}"
    assert _("{text!r}", text=what).source == _("{text.__class__}", text=what).source == "…"
    assert _("Nothing to fill in: {}").source == "Nothing to fill in: {}" and _("").source == ""


def test_a_sum_keeps_the_sources_of_its_parts():
    told = _("It stopped with {error}, in the line", error=SECRET) + f"\n    {SECRET}" + "\n"
    told = SECRET + told + _("Look there.")
    assert told == f"{SECRET}It stopped with {SECRET}, in the line\n    {SECRET}\nLook there."
    assert told.source == "It stopped with {error}, in the line\nLook there." and told[:5].source == told.source
    with pytest.raises(TypeError, match="concatenate"):
        told + 1


def test_a_message_is_as_any_other_text():
    said = _("{n} of {all}", n=1, all=2)
    assert json.dumps({said: said}) == '{"1 of 2": "1 of 2"}'
    assert f"{said:>8}" == "  1 of 2" and hash(said) == hash("1 of 2")
    for same in (pickle.loads(pickle.dumps(said)), copy.copy(said), copy.deepcopy(said)):
        assert same == said and type(same) is Message and same.source == "{n} of {all}"
    assert repr(said) == "'1 of 2'" and type(str(said)) is str


def test_in_arabic_the_source_is_english():
    pitfalls.language("ar")
    try:
        said = _("Expected {what}: {wanted}. Came: {given}.", what=_("these ids"), wanted=1, given=SECRET)
    finally:
        pitfalls.language("en")
    assert not re.search("[a-y]", said.replace(SECRET, "")) and said.source == "Expected these ids: …. Came: …."


# --- what is sent ---


def test_an_answer_is_sent_with_its_task_state_and_hint(board, names):
    name = TASK.split("/")[1]
    code, hint = WRONG[name][0]
    ((stub, solved),) = [(stub, solution(folded)) for _lesson, each, _card, stub, folded in EXERCISES if each == name]
    assert [answer(cell, names).state for cell in (stub, code, solved)] == ["not yet", "not quite", "right"]
    events = board.wait(3)
    assert [(event["task"], event["state"]) for event in events] == [
        (TASK, "not yet"), (TASK, "not quite"), (TASK, "right"),
    ]  # fmt: skip
    assert [bool(event["hint"]) for event in events] == [False, True, False] and hint in events[1]["hint"]
    assert all(set(event) == KEYS and re.fullmatch("[0-9a-f]{32}", event["id"]) for event in events)
    assert all(event["at"] > 1.7e9 for event in events) and len({event["id"] for event in events}) == 3
    assert board.headers[0]["Authorization"] == "token sesame"
    assert board.headers[0]["path"] == "/services/board/events"


def test_a_prediction_is_sent_with_what_was_said_of_the_choice(board):
    asked = questions["06"]
    question = Prediction(Question("06", asked.text, "answer", asked.choices), {"answer": 1})
    question.choose(2)
    question.choose(1)
    Prediction(Question("06", asked.text, "answer", asked.choices), {"answer": SECRET}).choose(1)
    Prediction(Question("06", asked.text, SECRET, asked.choices), {}).choose(1)
    events = board.wait(4)
    assert [event["state"] for event in events] == ["not quite", "right", "not quite", "not yet"]
    assert {event["task"] for event in events} == {"06/prediction"}
    assert events[0]["hint"] == asked.choices[2] and events[1]["hint"] is events[3]["hint"] is None
    assert events[2]["hint"].startswith("The code gives {answer!r} here") and SECRET not in "".join(board.bodies)


def test_an_exam_is_sent_with_how_many_mistakes_are_fixed(board):
    exam = pitfalls.practice.exam(seed=1)

    def load(name):
        raise ValueError(SECRET)

    assert exam.check(..., ..., ...).state == "not yet"
    assert exam.check(load, None, None).text.startswith("0 of 7 fixed. Still open:\n  - load stopped with ValueError")
    names: dict = {}
    exec(PROGRAM, names)
    assert exam.check(names["load"], lambda *_: [SECRET], names["story"]).state == "not quite"
    assert exam.check(names["load"], names["answer"], names["story"]).state == "right"
    events = board.wait(4)
    assert [(event["task"], event["state"]) for event in events] == [
        ("08/exam", "not yet"), ("08/exam", "not quite"), ("08/exam", "not quite"), ("08/exam", "right"),
    ]  # fmt: skip
    assert events[1]["hint"] == "0 of 7 fixed. Still open:" and SECRET not in "".join(board.bodies)


def marked_as_secret(code: str) -> str:
    """A cell in which the learner's own names are a secret: all but the call of the check."""
    *lines, check = code.splitlines()
    named = re.sub(r"\b(ids|mask|rows|text|texts|row|result|p|width)\b", rf"\1_{SECRET}", "\n".join(lines))
    return f"{named}\n{check}"


@each
def test_nothing_that_a_learner_wrote_is_sent(board, names, monkeypatch, lesson, name, card, stub, folded):
    told: list[str] = []
    monkeypatch.setattr(class_board, "tell", lambda task, state, hint: told.append(json.dumps([task, state, hint])))
    check = getattr(pitfalls.practice, name)
    context = [names[part] for part in stub.splitlines()[-1].removesuffix(")").split(", ")[1:]]

    def stopped(*args, **keywords):
        raise ValueError(SECRET)

    def texts(*args, **keywords):
        return [SECRET, SECRET]

    def pair(*args, **keywords):
        return SECRET, SECRET

    class Zq7Secret:
        def __repr__(self):
            return SECRET

        def __call__(self, *args, **keywords):
            return self

    odd = [SECRET, [SECRET], [SECRET, SECRET], (SECRET, SECRET), {SECRET: SECRET}, Zq7Secret(), lambda *a, **k: SECRET]
    odd += [stopped, texts, pair, lambda *a, **k: {SECRET: SECRET}, lambda *a, **k: Zq7Secret()]
    for wrong in odd:
        assert check(wrong, *context).state == "not quite"
    keys = re.findall(r'^ *("[^"]+"|\w+): ', stub, flags=re.MULTILINE)  # a dict whose keys are right, as in the stub
    odd_values = [SECRET, [SECRET], (SECRET, SECRET), Zq7Secret()]
    with suppress(NameError):
        for value in odd_values if keys else []:
            assert check({eval(key): value for key in keys}, *context).state == "not quite"
    assert len(told) >= len(odd)
    assert SECRET not in "".join(told).lower()
    assert all(json.loads(event)[2] for event in told if '"not quite"' in event), "each has a hint"


@each
def test_each_typical_wrong_answer_is_sent_with_a_hint(board, names, lesson, name, card, stub, folded):
    for code, _fragment in WRONG[name][:2]:
        said = answer(marked_as_secret(code) if "answer(" in code else code, names)
        assert said.state == "not quite"
    events = board.wait(len(WRONG[name][:2]))
    assert all(event["hint"] and event["task"] == f"{lesson}/{name}" for event in events)
    assert SECRET not in "".join(board.bodies)


def test_what_a_function_raised_stays_with_the_learner():
    def zq7secret(number):
        return number.zq7secret()

    with pytest.raises(Hint) as hint:
        run(zq7secret, 5)
    assert SECRET in str(hint.value) and hint.value.args[0].source == "Your function stopped with {error}, in the line"


def test_an_arabic_learner_gets_arabic_and_the_class_english(board, names):
    name = TASK.split("/")[1]
    code, hint = WRONG[name][0]
    pitfalls.language("ar")
    try:
        assert hint not in answer(code, names).text
    finally:
        pitfalls.language("en")
    assert hint in board.wait(1)[0]["hint"]


# --- where and when ---


@pytest.fixture
def probe():
    """A checker of our own: an answer of 1 is right."""

    @exercise("99", N_("A probe"))
    def probe(answer) -> str:
        """a number."""
        if answer != 1:
            raise Hint(_("Not {answer!r}.", answer=answer))
        return _("It is one.")

    yield probe
    del tasks.tasks["99", "probe"]


@pytest.mark.parametrize("missing", HOME[:2])
def test_outside_of_a_workshop_nothing_is_sent_started_or_said(kernel, probe, capsys, missing):
    other = Board()
    _enter(kernel, other.address)
    shown = repr(progress())
    kernel.delenv(missing)
    probe(2), probe(1)
    pitfalls.choose_model()
    assert class_board._sender is None and not class_board._file().exists() and not other.bodies
    assert class_board.seed() is None and len(capsys.readouterr().out.splitlines()) == 1
    assert "instructor" in shown and "instructor" not in repr(progress()) + repr(progress("99"))
    other.close()


def test_importing_starts_no_thread():
    code = "import pitfalls.practice, threading; print([t.name for t in threading.enumerate()])"
    env = os.environ | {"PITFALLS_BOARD": "http://127.0.0.1:9/", "JUPYTERHUB_API_TOKEN": "sesame"}
    shown = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert "class board" not in shown.stdout and "MainThread" in shown.stdout, shown.stderr


def test_the_learner_is_told(board, capsys):
    pitfalls.choose_model()
    told, setup = capsys.readouterr().out.splitlines()
    assert "instructor sees" in told and "hints" in told and "not sent" in told and "torch" in setup
    assert repr(progress()).splitlines()[-1] == repr(progress("06")).splitlines()[-1] == told
    pitfalls.language("ar")
    try:
        pitfalls.choose_model()
        assert "المدرّب" in capsys.readouterr().out and "المدرّب" in repr(progress()).splitlines()[-1]
    finally:
        pitfalls.language("en")
    assert not board.bodies and class_board._sender is None, "nothing has been answered yet"


def test_a_board_that_was_away_hears_of_everything_once(kernel, probe):
    first = Board()
    port = first.server_port
    _enter(kernel, first.address)
    kernel.setattr(class_board, "PAUSE", 0.1)
    probe(2)
    first.wait(1)
    first.close()
    for wrong in (3, 4):
        probe(wrong)
    assert len(unsent()) == 2
    busy = Board(port)
    busy.status = 503
    probe(1)
    with busy.heard:
        assert busy.heard.wait_for(lambda: busy.bodies, timeout=60)
    busy.close()
    again = Board(port)
    events = again.wait(3)
    assert [event["state"] for event in events] == ["not quite", "not quite", "right"]
    assert len({event["id"] for event in [*first.events, *events]}) == 4
    probe(1)
    assert len(again.wait(4)) == 4
    _end()
    assert not unsent() and not class_board._here
    again.close()


def test_what_a_killed_kernel_left_is_sent_by_the_next_one(kernel, probe):
    _enter(kernel, "http://127.0.0.1:9/")  # where none listens
    probe(2), probe(1)
    _end()
    left = unsent()
    assert [event["state"] for event in left] == ["not quite", "right"]
    board = Board()
    _enter(kernel, board.address)
    _restart(kernel)
    class_board.join()
    assert board.wait(2) == left
    _end()
    assert not unsent()
    board.close()


def test_what_is_left_at_the_end_is_tried_once_more(kernel, probe):
    _enter(kernel, "http://127.0.0.1:9/")
    probe(1)
    _end()
    class_board._refused.clear()
    board = Board()
    _enter(kernel, board.address)
    class_board._send_last()
    assert len(board.events) == 1 and not unsent()
    board.close()


@pytest.mark.parametrize("status", [401, 403])
def test_a_board_that_refuses_is_left_alone(board, probe, capfd, status):
    board.status = status
    probe(2)
    class_board._sender.join()
    probe(1)
    class_board._send_last()
    assert len(board.bodies) == 1 and len(unsent()) == 2 and not any(capfd.readouterr())


def test_where_nothing_can_be_written_the_kernel_sends_what_it_remembers(board, kernel, probe):
    kernel.setenv("PITFALLS_PROGRESS", "/proc/none/progress.json")
    probe(2), probe(1)
    assert [event["state"] for event in board.wait(2)] == ["not quite", "right"]
    probe(1)
    assert len(board.wait(3)) == 3, "each was sent once"


@pytest.mark.parametrize("content", ["", "{", '{"a": 1}', "[1, null, {}]", '[{"id": 7}]'])
def test_a_file_that_is_not_ours_is_no_obstacle(board, probe, content):
    class_board._file().parent.mkdir()
    class_board._file().write_text(content)
    probe(1)
    assert [event["state"] for event in board.wait(1)] == ["right"]


def test_no_proxy_comes_between(board, kernel, probe):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        kernel.setenv(name, "http://127.0.0.1:9/")
    probe(1)
    board.wait(1)


def test_kernels_of_one_learner_lose_nothing(board):
    code = "from pitfalls.practice.class_board import tell\nfor n in range(20): tell(f'{n}', 'right', None)"
    others = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [other.wait() for other in others] == [0, 0]
    assert len({event["id"] for event in [*board.events, *unsent()]}) == 40


# --- the exam's seed ---


def test_an_exam_without_a_seed_is_that_of_the_class(board):
    board.seed = '{"seed": 7}'
    assert pitfalls.practice.exam() == pitfalls.practice.exam(seed=7) and pitfalls.practice.exam(3).seed == 3


@pytest.mark.parametrize("said", ['{"seed": null}', '{"seed": "7"}', '{"seed": true}', "[]", "<html>", "{}"])
def test_where_the_class_has_no_seed_it_is_any(board, monkeypatch, said):
    board.seed = said
    monkeypatch.setattr(random, "randrange", lambda most: 4321)
    assert pitfalls.practice.exam().seed == 4321


def test_where_no_board_answers_the_seed_is_any(kernel):
    _enter(kernel, "http://127.0.0.1:9/")
    kernel.setattr(random, "randrange", lambda most: 4321)
    assert pitfalls.practice.exam().seed == 4321
