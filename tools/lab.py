"""A real JupyterLab in a real Chromium, for the tests here and for `make bench`: no pytest needed.

with jupyterlab(ROOT / "notebooks", folder) as server, chromium() as browser:
    with server.open(browser, "05_decoding_mode.ipynb") as lesson:
        lesson.run_all()
        play = lesson.plays.first
        before = text(play)
        slider(play, "temperature").press("ArrowRight")
        after = wait_for_change(play, before)
"""

import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

CHROMIUM = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome",
            "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"]  # fmt: skip
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run"]  # fmt: skip
# JupyterLab that ends itself, with its kernels, when its input ends: also when the test run is killed.
START = """
import os, signal, sys, threading
from jupyterlab.labapp import main

threading.Thread(target=lambda: (sys.stdin.read(), os.kill(os.getpid(), signal.SIGTERM)), daemon=True).start()
sys.exit(main())
"""
OUTSIDE = re.compile(r"^https?://(?!127\.0\.0\.1:)")
# Blocked like everything outside, and no fault: the badge above each lesson.
WELCOME_OUTSIDE = ["https://colab.research.google.com/assets/colab-badge.svg"]
# Windowed rendering would keep the cells out of sight out of the page.
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


def missing() -> str | None:
    """What keeps a browser from starting here and how to get it, or None."""
    if find_spec("playwright") is None:
        return "no Playwright: pip install -r requirements.txt"
    if not any(map(shutil.which, CHROMIUM)):
        return "no Chromium: apt-get install chromium (Debian, Ubuntu), or install Google Chrome"
    return None


@contextmanager
def chromium() -> "Iterator[Browser]":
    """A headless browser. While it is open this thread has a running event loop: close it before asyncio is used."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        executable = next(filter(None, map(shutil.which, CHROMIUM)))
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def jupyterlab(notebooks: Path, folder: Path) -> "Iterator[Server]":
    """JupyterLab on a copy of `notebooks`, with all that it reads and writes in the empty `folder`.

    Raises RuntimeError, with its log, where it does not start within a minute.
    """
    shutil.copytree(notebooks, folder / "notebooks", ignore=shutil.ignore_patterns(".*"))
    homes = ["JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR",
             "JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR"]  # fmt: skip
    with socket.socket() as free:  # two servers that start together would find the same port free
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
             f"--notebook-dir={folder / 'notebooks'}"]  # fmt: skip
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", START, *flags],
            env=os.environ | {name: str(folder / name) for name in homes},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
        )
    try:
        yield Server(process, folder)
    finally:
        process.stdin.close()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()


class Server:
    """A running JupyterLab."""

    def __init__(self, process: subprocess.Popen, folder: Path):
        self.folder = folder
        self.settings(SETTINGS)
        deadline = time.monotonic() + 60
        while not self._answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("JupyterLab did not start:\n" + (folder / "log").read_text()[-2000:])
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            self.info = json.loads(next((self.folder / "JUPYTER_RUNTIME_DIR").glob("jpserver-*.json")).read_text())
            return bool(self.api("status"))
        except (StopIteration, ValueError, OSError):
            return False

    def api(self, path: str, method: str = "GET"):
        headers = {"Authorization": f"token {self.info['token']}"}
        request = urllib.request.Request(f"{self.info['url']}api/{path}", headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or "null")

    def settings(self, plugins: dict[str, dict]):
        """Write JupyterLab settings; pages that are opened later follow them."""
        for plugin, values in plugins.items():
            path = self.folder / "JUPYTERLAB_SETTINGS_DIR/@jupyterlab" / f"{plugin}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values))

    @contextmanager
    def open(self, browser: "Browser", name: str, theme: str = "light", size=(1280, 900)) -> "Iterator[Lesson]":
        """A notebook of the copy in a page of its own, as `make lab` shows it; closed with its kernel afterwards."""
        self.settings({"apputils-extension/themes": {"theme": f"JupyterLab {theme.title()}"}})
        context = browser.new_context(viewport={"width": size[0], "height": size[1]})
        try:
            lesson = Lesson(context.new_page())
            lesson.page.goto(f"{self.info['url']}lab/tree/{name}?reset&token={self.info['token']}")
            lesson.page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
            lesson.page.wait_for_selector("#jp-main-statusbar :text('| Idle')", timeout=60_000)  # the kernel is there
            yield lesson
        finally:
            context.close()
            for session in self.api("sessions"):
                self.api(f"sessions/{session['id']}", "DELETE")


class Lesson:
    """A notebook in a page of JupyterLab.

    page     Playwright's page
    errors   what the page complained of: uncaught exceptions, and errors in the console
    outside  what it asked of the network, and did not get
    """

    def __init__(self, page: "Page"):
        self.page, self.errors, self.outside = page, [], []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._listen)
        block_outside(page, self.outside)

    def _listen(self, message):
        if message.type == "error" and not OUTSIDE.match(message.location["url"]):
            self.errors.append(message.text)

    @property
    def plays(self) -> "Locator":
        """The widgets of the course, one element each: each is drawn in its own shadow."""
        return self.page.locator(".jp-OutputArea-output .pitfalls-play")

    def menu(self, *names: str):
        """Click through the menus, as in `menu("Run", "Run All Cells")`."""
        for name in names:
            self.page.get_by_role("menuitem", name=name, exact=True).click()

    def run_all(self, seconds: float = 600):
        """Clear all outputs, run all cells, wait until the kernel has no more to do; TimeoutError if it still has."""
        from playwright.sync_api import TimeoutError as StillRunning

        self.menu("Edit", "Clear Outputs of All Cells")
        self.page.wait_for_function(f"!/\\d/.test({PROMPTS})")
        self.menu("Run", "Run All Cells")
        try:
            done = f"/\\d/.test({PROMPTS}) && !{PROMPTS}.includes('*') && {IDLE}"
            self.page.wait_for_function(done, timeout=seconds * 1000)
        except StillRunning:
            raise TimeoutError(f"after {seconds} s the cells are at {self.page.evaluate(PROMPTS)}") from None
        self.page.wait_for_function("[...document.images].every(image => image.complete)")

    def cells(self) -> list[dict]:
        """Each code cell: its `prompt`, as "[3]:", and `outputs`: the `type`, `text`, … of each."""
        return self.page.evaluate(CELLS)

    def screenshot(self, path: Path, of: "Locator | None" = None):
        """A PNG file of one element, or of the whole notebook from top to bottom."""
        if of is not None:
            return of.screenshot(path=path)
        size = self.page.viewport_size
        self.page.set_viewport_size({"width": size["width"], "height": self.page.evaluate(HEIGHT)})
        self.page.screenshot(path=path)
        self.page.set_viewport_size(size)


PROMPTS = "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(e => e.textContent).join()"
IDLE = "!!document.querySelector('.jp-Notebook-ExecutionIndicator[data-status=idle]')"
# Of a window that shows the whole notebook, in pixels.
HEIGHT = """() => {
    document.querySelector('.jp-WindowedPanel-outer').scrollTop = 0;
    const last = [...document.querySelectorAll('.jp-Notebook .jp-Cell')].at(-1);
    return Math.ceil(last.getBoundingClientRect().bottom) + 60;
}"""
CELLS = """() => [...document.querySelectorAll('.jp-Notebook .jp-CodeCell')].map(cell => ({
    prompt: cell.querySelector('.jp-InputArea .jp-InputPrompt, .jp-OutputPrompt')?.textContent ?? '',
    outputs: [...cell.querySelectorAll('.jp-OutputArea-output')].map(output => ({
        type: output.dataset.mimeType,
        text: output.innerText.trim(),
        pictures: output.querySelectorAll('img').length,
        widgets: output.querySelectorAll('.pitfalls-play').length,
        blank: !output.offsetHeight || !(output.innerText.trim() ||
            output.querySelector('img, svg, canvas, .pitfalls-play, .pitfalls-predict')),
    })),
}))"""
# A picture is whole if nothing between it and the window cuts it at the left or right.
BAD_PICTURES = """pictures => pictures.flatMap((picture, index) => {
    const box = picture.getBoundingClientRect();
    if (!picture.naturalWidth) return [`picture ${index} is broken`];
    if (!box.width || !box.height || !picture.checkVisibility()) return [`picture ${index} is hidden`];
    for (let frame = picture.parentElement; frame; frame = frame.parentElement) {
        const {left, right} = frame.getBoundingClientRect();
        const cuts = frame.tagName === 'HTML' || getComputedStyle(frame).overflowX !== 'visible';
        if (cuts && (box.left < left - 1 || box.right > right + 1))
            return [`picture ${index} is cut: ${box.left} to ${box.right} px in ${left} to ${right}`];
    }
    return [];
})"""


def block_outside(page: "Page", asked: list[str]):
    """Let a page reach this machine only, and list the other addresses that it asks for."""

    def refuse(route):
        if route.request.url not in WELCOME_OUTSIDE:
            asked.append(route.request.url)
        route.abort()

    page.context.route(OUTSIDE, refuse)


def bad_pictures(pictures: "Locator") -> list[str]:
    """What is wrong with any of these `img` elements: broken, hidden, or cut at the left or right."""
    return pictures.evaluate_all(BAD_PICTURES)


def slider(root: "Locator", label: str) -> "Locator":
    """The handle of a slider: `.press("ArrowRight")` is one step, "Home" and "End" the ends."""
    return root.get_by_role("slider", name=label, exact=True)


def set_slider(root: "Locator", label: str, value: float):
    """Move a slider to a number."""
    slider(root, label).fill(str(value))


def toggle(root: "Locator", label: str):
    """Click a checkbox, or one of several radio buttons."""
    field(root, label).click()


def click(root: "Locator", name: str):
    """Click a button."""
    root.get_by_role("button", name=name, exact=True).click()


def field(root: "Locator", label: str) -> "Locator":
    """A text field, text area or dropdown: `.fill("text")`, `.press_sequentially("text")`, `.select_option("name")`."""
    return root.get_by_label(label, exact=True)


TEXT = """root => {
    const parts = [];
    const hash = source => [...source].reduce((sum, letter) => (31 * sum + letter.codePointAt(0)) >>> 0, 7);
    const seen = node => node.checkVisibility() || getComputedStyle(node).display === 'contents';
    const walk = node => {
        if (node.nodeType === Node.TEXT_NODE) parts.push(node.data);
        else if (node.tagName === 'IMG') parts.push(`[picture ${hash(node.src).toString(16)}]`);
        else if (node.nodeType === Node.ELEMENT_NODE && seen(node) && !node.matches('output, style'))
            (node.shadowRoot ?? node).childNodes.forEach(walk);
    };
    walk(root);
    return parts.join(' ').replace(/\\s+/g, ' ').trim();
}"""
# When the widget's content last changed after the next key press, in milliseconds; the slider itself does not count.
ANSWER = """root => {
    let pressed;
    window.answered = undefined;
    window.listening?.disconnect();
    addEventListener('keydown', event => { pressed = event.timeStamp; }, {capture: true, once: true});
    window.listening = new MutationObserver(changes => {
        const content = ({target}) => !(target.closest ? target : target.parentElement).closest('.controls');
        if (pressed && changes.some(content)) window.answered = performance.now() - pressed;
    });
    window.listening.observe(root.shadowRoot, {subtree: true, childList: true, characterData: true, attributes: true});
}"""
# The milliseconds of script of each of so many moves of a slider, one step there and one back in turn.
SCRIPT = """(input, moves) => Array.from({length: moves}, (_, n) => {
    const up = Number(input.value) < Number(input.max) / 2 ? n % 2 === 0 : n % 2 === 1;
    up ? input.stepUp() : input.stepDown();
    const start = performance.now();
    input.dispatchEvent(new Event('input', {bubbles: true}));
    return performance.now() - start;
})"""


def text(root: "Locator") -> str:
    """What a widget shows, with `[picture 1a2b3c]` for a picture, another one when the picture changes.

    The numbers beside sliders are left out.
    """
    return root.evaluate(TEXT)


def wait_for_change(root: "Locator", before: str, pattern: str = "", seconds: float = 20) -> str:
    """`text(root)` once it differs from `before` and holds `pattern`, a regular expression of JavaScript.

    Raises AssertionError with what it shows instead when the time is up.
    """
    from playwright.sync_api import TimeoutError

    changed = f"""([root, before, pattern]) => {{
        const now = ({TEXT})(root);
        return now !== before && new RegExp(pattern, 's').test(now);
    }}"""
    try:
        root.page.wait_for_function(changed, arg=[root.element_handle(), before, pattern], timeout=seconds * 1000)
    except TimeoutError:
        raise AssertionError(f"{pattern!r} does not come up; the widget shows {text(root)!r}") from None
    return text(root)


def answer_time(root: "Locator", label: str, presses: int = 15) -> float:
    """Median seconds from a key press on a slider until its widget shows the whole answer.

    One step right and one left in turn, so both must change something: else raises Playwright's TimeoutError.
    """
    handle, times = slider(root, label), []
    keys = ["ArrowLeft", "ArrowRight"] if handle.evaluate("it => it.value === it.max") else ["ArrowRight", "ArrowLeft"]
    for press in range(presses + 1):  # the first is for warming up
        root.evaluate(ANSWER)
        handle.press(keys[press % 2])
        root.page.wait_for_function("window.answered !== undefined", timeout=10_000)
        times.append(root.page.evaluate("window.answered") / 1000)
    return statistics.median(times[1:])


def script_time(root: "Locator", label: str, moves: int = 31) -> float:
    """Median seconds of script for one move of a slider: all that the widget computes and changes in the page."""
    return statistics.median(slider(root, label).evaluate(SCRIPT, moves)[1:]) / 1000


# Seconds since the navigation began when the slider has first answered: it is moved until it does.
ANSWERED = """new Promise(done => {
    const move = () => {
        const widget = document.querySelector('#slider .pitfalls-play')?.shadowRoot;
        const slider = widget?.querySelector('input[type=range]'), said = widget?.querySelector('.summary');
        const before = said?.textContent;
        if (slider) {
            slider.value = slider.max;
            slider.dispatchEvent(new Event('input', {bubbles: true}));
        }
        if (before && said.textContent !== before) done(performance.now() / 1000);
        else requestAnimationFrame(move);
    };
    move();
})"""


def open_slowed(page: "Page", home: Path, times: int = 4) -> None:
    """The front page of the site in a browser whose processor is slowed."""
    page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": times})
    page.goto(f"{home.as_uri()}/index.html", wait_until="domcontentloaded")
