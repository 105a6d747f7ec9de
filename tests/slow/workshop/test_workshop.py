"""A class in Chromium: two learners and their instructor at the same time, each in a browser of their own.

WORKSHOP_SHOTS=FOLDER keeps pictures of what they see.
"""

import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tools.lab import Lesson, chromium, missing
from tools.lessons import ROOT
from tools.workshop import Workshop, workshop

SECONDS = 90_000  # milliseconds that a page may take on a busy machine
WRONG = '{"load_in_4bit": True}'
RIGHT = 'dict(device_map="auto", quantization_config=dict(load_in_4bit=True, bnb_4bit_quant_type="nf4"))'
NOTICES = {"en": "This runs in a class", "ar": "يرى المدرّب"}


@pytest.fixture(scope="module")
def browser():
    if reason := missing():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    with chromium() as browser:
        yield browser


@pytest.fixture
def person(browser, running):
    """Opens a browser of someone's own, on the page where they log in."""
    contexts = []

    def person() -> Lesson:
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 900}))
        contexts[-1].set_default_timeout(SECONDS)
        lesson = Lesson(contexts[-1].new_page())
        lesson.page.goto(running.address)
        return lesson

    yield person
    for context in contexts:
        context.close()


def shot(lesson: Lesson, name: str) -> None:
    if folder := os.environ.get("WORKSHOP_SHOTS"):
        lesson.page.screenshot(path=Path(folder, f"{name}.png"))


def log_in(lesson: Lesson, name: str, password: str) -> None:
    lesson.page.fill("#username_input", name)
    lesson.page.fill("#password_input", password)
    lesson.page.click("#login_submit")


def refused(lesson: Lesson, name: str, password: str, why: str) -> None:
    log_in(lesson, name, password)
    lesson.page.wait_for_load_state()
    assert why in lesson.page.inner_text("body"), lesson.page.inner_text("body")


def choose(lesson: Lesson, language: str) -> None:
    """The language, and then the lesson is open, with a kernel."""
    lesson.page.check(f"input[name=language][value={language}]")
    shot(lesson, f"language-{language}")
    lesson.page.click("#spawn_form [type=submit]")
    opened(lesson)


def opened(lesson: Lesson) -> None:
    lesson.page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    lesson.page.wait_for_selector("#jp-main-statusbar :text('| Idle')")


def cell(lesson: Lesson, source: str):
    return lesson.page.locator(".jp-Notebook .jp-CodeCell", has_text=source).first


def run(lesson: Lesson, source: str, replaced: str | None = None) -> str:
    """Run the cell in which this stands, with other code in its place; what comes out."""
    it = cell(lesson, source)
    it.locator(".cm-content").click()
    if replaced:
        lesson.page.keyboard.press("Control+A")
        lesson.page.keyboard.insert_text(replaced)
        it = lesson.page.locator(".jp-Notebook .jp-Cell.jp-mod-active")
    name = "it-" + re.sub(r"\W", "", source)  # it will not be the active one any more
    it.evaluate("(cell, name) => cell.classList.add(name)", name)
    lesson.page.keyboard.press("Shift+Enter")
    it = lesson.page.locator(f".{name}")
    number = rf"/^\[\d+\]:$/.test(document.querySelector('.{name} .jp-InputPrompt').textContent)"
    idle = "document.querySelector('.jp-Notebook-ExecutionIndicator[data-status=idle]')"
    lesson.page.wait_for_function(f"{number} && {idle}")
    return it.locator(".jp-OutputArea").inner_text()


def test_a_class(person, running: Workshop):
    ada, noor, instructor = person(), person(), person()
    shot(ada, "login")
    refused(ada, "ada", "class-2025", "Invalid username or password")
    refused(ada, "root", running.password, "is an account of this machine itself")
    refused(ada, "daemon", running.password, "is an account of this machine itself")
    refused(ada, "ada lovelace", running.password, "small letters a–z, digits and hyphens")
    shot(ada, "refused")
    for lesson, name in ((ada, "ada"), (noor, "noor")):
        log_in(lesson, name, running.password)
    choose(ada, "en")
    choose(noor, "ar")
    assert ada.page.url.endswith("/user/ada/lab/tree/lessons/01_loading.ipynb")
    assert noor.page.url.endswith("/user/noor/lab/tree/lessons/ar/01_loading.ipynb")
    refused(person(), "ada", running.password, "ada has logged in from another browser")

    log_in(instructor, "instructor", running.instructor)
    instructor.page.wait_for_url("**/services/board/")
    instructor.page.get_by_text("Logged in, and no answer yet: ada, noor").wait_for()
    shot(instructor, "board-before")
    for lesson, language in ((ada, "en"), (noor, "ar")):
        assert NOTICES[language] in run(lesson, "MODEL = ")
    assert "✗" in run(ada, "pitfalls.practice.new_keyword", f"pitfalls.practice.new_keyword({WRONG})")
    shot(ada, "lesson-wrong")
    assert "✓" in run(ada, "pitfalls.practice.new_keyword", f"pitfalls.practice.new_keyword({RIGHT})")
    shot(ada, "lesson-right")
    run(noor, "fetch_model")
    run(noor, 'practice.predict("01")')
    noor.page.locator(".pitfalls-predict").get_by_role("button").first.click()
    noor.page.locator(".pitfalls-predict .said").wait_for()
    shot(noor, "lesson-ar")
    on_the_board(instructor)
    shot(instructor, "board-after")

    for path in ("services/board/", "hub/admin"):
        assert ada.page.request.get(f"{running.address}/{path}").status == 403

    ada.page.keyboard.press("Control+S")
    ada.page.wait_for_selector(".jp-Notebook")
    comes_again(ada, running)


def on_the_board(instructor: Lesson) -> None:
    """Both learners with their wrong answers, and what is done, without a reload."""
    for name, shown in (("ada", "1/3"), ("noor", "0/3")):
        instructor.page.get_by_role("row", name=name).filter(has_text=shown).first.wait_for()
    instructor.page.get_by_text("load_in_4bit is no longer a keyword of from_pretrained").wait_for()


def comes_again(ada: Lesson, running: Workshop) -> None:
    """What was saved is there after logging out and in, with its outputs."""
    file = running.homes / "ada" / "lessons" / "01_loading.ipynb"
    ada.page.wait_for_function("!document.querySelector('.jp-mod-dirty')")
    ada.page.goto(f"{running.address}/hub/logout")
    assert any("load_in_4bit=True, bnb" in "".join(cell["source"]) for cell in json.loads(file.read_text())["cells"])
    ada.page.goto(running.address)
    log_in(ada, "ada", running.password)
    opened(ada)
    solved = cell(ada, "pitfalls.practice.new_keyword")
    solved.scroll_into_view_if_needed()  # it is drawn then, and not before
    solved.get_by_text("✓").wait_for()


def test_a_class_is_played_without_an_error_or_a_lost_output(running: Workshop, tmp_path: Path):
    rows = tmp_path / "rows.json"
    few = ["--learners=3", "--cells=6", "--thinking=0.5", "--arrive=1", "--burst", "--name=played", f"--json={rows}"]
    command = [sys.executable, "-m", "tools.load", running.address, f"--password={running.password}", *few]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)  # in here the browser's loop is running
    assert done.returncode == 0, done.stdout + done.stderr
    row = json.loads(rows.read_text())["row"]
    assert (row["learners"], row["errors"], row["lost"]) == (3, 0, 0) and row["begin"] and row["total"] > 0
    expected = {(f"played0{n}", state) for n in (1, 2, 3) for state in ("not quite", "right")}
    end = time.monotonic() + 60  # kernels send what they have to tell in a thread of their own
    while not expected <= answers(running) and time.monotonic() < end:
        time.sleep(0.5)
    assert expected <= answers(running)


def answers(running: Workshop) -> set[tuple[str, str]]:
    """Of each learner the states that the board was told of."""
    with closing(sqlite3.connect(running.folder / "data" / "board.sqlite")) as board:
        return set(board.execute("SELECT learner, state FROM events"))


def test_without_root_with_a_certificate_in_arabic(browser):
    """The second best: the same, under the account that has started it; and other options."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as last:
        key, certificate = certificate_in(Path(folder))
        options = ["--learners=2", "--language=ar", "--first=03", f"--ssl-key={key}", f"--ssl-cert={certificate}"]
        running = last.enter_context(workshop(*options, root=False))
        assert running.address.startswith("https://")
        page = browser.new_context(ignore_https_errors=True).new_page()
        last.callback(page.context.close)
        page.set_default_timeout(SECONDS)
        lesson = Lesson(page)
        page.goto(running.address)
        told = page.inner_text("body")
        assert "اسم المستخدم" in told and "Log in with a name of your own" in told and "Username" not in told
        shot(lesson, "login-ar")
        log_in(lesson, "ada", running.password)
        choose(lesson, "en")
        assert page.url == f"{running.address}/user/ada/lab/tree/lessons/03_generating.ipynb"
        assert NOTICES["en"] in run(lesson, "MODEL = ")
        assert (running.homes / "ada" / "lessons" / "01_loading.ipynb").exists()
        cookies = {one["name"]: one["secure"] for one in page.context.cookies()}
        assert cookies["workshop-ada"] and cookies["jupyterhub-session-id"]


def certificate_in(folder: Path) -> tuple[Path, Path]:
    """A key that whoever starts the workshop may read, and its certificate."""
    folder.chmod(0o755)
    files = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    subprocess.run([*command, "-keyout", files[0], "-out", files[1]], check=True, capture_output=True)
    files[0].chmod(0o644)
    return files
