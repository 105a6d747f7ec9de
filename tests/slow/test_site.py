"""The web site: whole, small, at home everywhere, and usable by everyone."""

import functools
import http.server
import re
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import pytest
from axe_playwright_python.sync_playwright import Axe
from justhtml import JustHTML

import pitfalls
from tests.slow.browser.conftest import ask_for_a_browser
from tools import lab, site
from tools.lab import bad_pictures, block_outside, chromium
from tools.lessons import LESSONS, code_cells, read

LOOKED_AT = {
    "front": "index.html",
    "lessons": "lessons.html",
    "lesson": "lessons/05_decoding_mode.html",
    "rule": "rules/padding-side.html",
    "rules": "rules/index.html",
    "reference": "reference.html",
    "instructors": "lessons/instructors.html",
    "search": "search.html?q=padding",
    "front in Arabic": "ar/index.html",
    "lesson in Arabic": "ar/lessons/05_decoding_mode.html",
    "rules in Arabic": "ar/rules/index.html",
}
NAMED = ("alternate", "canonical", "index", "search")  # what a link names only, by its `rel`
looked_at = pytest.mark.parametrize("address", LOOKED_AT.values(), ids=LOOKED_AT)
# Attributes that make a browser load what they name.
LOADS = {"img": "src", "script": "src", "link": "href", "source": "srcset", "iframe": "src", "video": "src"}


@pytest.fixture(scope="module")
def home() -> Path:
    done = subprocess.run([sys.executable, "-m", "tools.site"], cwd=site.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return site.SITE


@pytest.fixture(scope="module")
def pages(home) -> dict[Path, JustHTML]:
    """Each page, parsed as browsers do; `errors` is what is wrong with its HTML."""
    files = sorted(home.rglob("*.html"))
    return {path: JustHTML(path.read_text(encoding="utf-8"), sanitize=False, collect_errors=True) for path in files}


@pytest.fixture(scope="module")
def browser():
    ask_for_a_browser()
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser):
    """A page that reaches this machine only; `outside` lists what it asked for elsewhere, `errors` what went wrong."""
    context = browser.new_context()
    page = context.new_page()
    page.outside, page.errors = [], []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    block_outside(page, page.outside)
    yield page
    context.close()


def test_it_is_small(home):
    assert sum(path.stat().st_size for path in home.rglob("*") if path.is_file()) < 30_000_000


def test_every_link_leads_somewhere(pages):
    ids = {path: {node.attrs["id"] for node in page.query("[id]")} for path, page in pages.items()}
    lost = []
    for path, page in pages.items():
        for node in page.query("[href], [src]"):
            address, anchor = urldefrag(node.attrs.get("href") or node.attrs.get("src") or "")
            if urlparse(address).scheme:
                continue
            target = (path.parent / unquote(urlparse(address).path)).resolve() if address else path
            found = target.is_file() and (not anchor or target not in ids or unquote(anchor) in ids[target])
            lost += [] if found else [(path.name, address, anchor)]
    assert not lost


def test_each_page_leads_to_itself_in_the_other_languages(home, pages):
    for path, page in pages.items():
        name = path.relative_to(home)
        arabic = name.parts[0] == "ar"
        other = home / name.relative_to("ar") if arabic else home / "ar" / name
        (html,) = page.query("html")
        assert (html.attrs["lang"], html.attrs.get("dir")) == (("ar", "rtl") if arabic else ("en", None)), path
        if page.query(".languages a"):
            (link,) = page.query(".languages a")
            assert (path.parent / link.attrs["href"]).resolve() == other
        told = {link.attrs["hreflang"]: link.attrs["href"] for link in page.query("link[rel=alternate]")}
        same = name.relative_to("ar") if arabic else name
        assert told == {
            "en": f"{pitfalls.SITE}{same}",
            "ar": f"{pitfalls.SITE}ar/{same}",
            "x-default": f"{pitfalls.SITE}{same}",
        }


def test_nothing_is_loaded_from_elsewhere(pages):
    for path, page in pages.items():
        for name, attribute in LOADS.items():
            asked = [
                node
                for node in page.query(name)
                if node.attrs.get("rel") not in ("canonical", "search", "index", "alternate")
            ]
            outside = [node.attrs[attribute] for node in asked if "//" in (node.attrs.get(attribute) or "")[:8]]
            assert not outside, (path, outside)


def test_every_picture_has_words_for_it(pages):
    for path, page in pages.items():
        assert all((node.attrs.get("alt") or "").strip() for node in page.query("img")), path


def test_the_html_is_valid(pages):
    for path, page in pages.items():
        assert not page.errors, (path, page.errors[:3])
        ids = [node.attrs["id"] for node in page.query("[id]")]
        assert len(ids) == len(set(ids)), (path, {name for name in ids if ids.count(name) > 1})


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_has_its_neighbours_its_doors_and_all_its_outputs(path, home, pages):
    page = pages[home / "lessons" / f"{path.stem}.html"]
    place = LESSONS.index(path)
    for step, rel in {-1: "prev", 1: "next"}.items():
        if place + step in range(len(LESSONS)):
            (link,) = page.query(f"link[rel={rel}]")
            assert link.attrs["href"] == f"{LESSONS[place + step].stem}.html"
    (colab, download) = page.query(".doors a")
    assert colab.attrs["href"].startswith("https://colab.research.google.com/github/")
    assert colab.attrs["href"].endswith(f"/notebooks/{path.name}")
    given = home / "lessons" / download.attrs["href"]
    assert given.name == path.name and given.read_bytes() == path.read_bytes()
    shown = len([cell for cell in code_cells(read(path)) if cell.outputs])
    assert len(page.query(".cell_output")) == shown


def test_a_finding_leads_to_the_page_of_its_rule(home, pages):
    oddities = (site.ROOT / "pitfalls" / "inspector" / "oddities.py").read_text(encoding="utf-8")
    for name in {*pitfalls.RULES, *re.findall(r'_finding\(\s*"([\w-]+)"', oddities)}:
        link = pitfalls.Finding(name, "error", "", "", "01_loading").link
        page = pages[home / link.removeprefix(pitfalls.SITE)]
        assert page.query("h1")[0].to_text().strip().startswith(name)


def test_a_rule_has_its_story_mistake_fix_and_source(home, pages):
    for name, rule in pitfalls.RULES.items():
        page = pages[home / "rules" / f"{name}.html"]
        blocks = ["".join(block.to_text(separator="").split()) for block in page.query("pre")]
        assert blocks[:2] == ["".join(code.split()) for code in (rule.mistake, rule.fix)]
        links = [link.attrs["href"] for link in page.query("article a")]
        assert rule.source in links and f"../lessons/{rule.lesson}.html" in links


def test_the_reference_has_every_public_name(home, pages):
    text = pages[home / "reference.html"].to_text()
    assert [name for name in pitfalls.__all__ if name not in text] == []


@looked_at
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_bars_anyone(address, scheme, home, page):
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{home.as_uri()}/{address}")
    page.wait_for_timeout(500)
    found = Axe().run(page).response["violations"]
    grave = [(v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")]
    assert not grave


@looked_at
def test_nothing_is_wider_than_a_phone(address, home, page):
    page.set_viewport_size({"width": 400, "height": 900})
    page.goto(f"{home.as_uri()}/{address}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


@looked_at
def test_it_works_from_a_stick(address, home, page):
    page.goto(f"{home.as_uri()}/{address}")
    page.wait_for_load_state("networkidle")
    assert page.outside == [] and page.errors == []


@pytest.mark.parametrize(("folder", "word"), [("", "temperature"), ("ar/", "الحرارة")], ids=["English", "Arabic"])
def test_the_search_finds_without_a_network(folder, word, home, page):
    page.goto(f"{home.as_uri()}/{folder}index.html")
    page.locator(".sidebar-search").fill(word)
    page.locator(".sidebar-search").press("Enter")
    page.wait_for_selector("#search-results li a[href*='05_decoding_mode']")
    assert page.outside == []


def test_it_works_under_a_path(home, page, tmp_path):
    (tmp_path / "course").symlink_to(home)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    handler.func.log_message = lambda *args: None
    missing = []
    page.on("response", lambda response: response.status >= 400 and missing.append(response.url))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page.goto(f"http://127.0.0.1:{server.server_port}/course/")
        page.get_by_role("link", name="5 ·").first.click()
        page.wait_for_load_state("networkidle")
        server.shutdown()
    assert page.url.endswith("/course/lessons/05_decoding_mode.html") and missing == page.outside == []


def test_nothing_moves_where_no_motion_is_wanted(home, page):
    page.emulate_media(reduced_motion="reduce")
    page.goto(f"{home.as_uri()}/index.html")
    assert not page.locator("img[src$='.gif']").is_visible() and page.locator("img[src$='.png']").first.is_visible()


def test_the_slider_of_the_front_page_lives(home, page):
    page.goto(f"{home.as_uri()}/index.html")
    said = page.locator("#slider .summary")
    before = said.inner_text()
    page.locator("#slider").get_by_role("slider").first.press("End")
    assert said.inner_text() != before


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_lives_on_its_page(path, home, page):
    """Its pictures show, on a phone too; its widget is drawn; its prediction answers."""
    page.goto(f"{home.as_uri()}/lessons/{path.stem}.html")
    outputs = [output for cell in code_cells(read(path)) for output in cell.outputs]
    saved = sum("image/png" in output.get("data", {}) for output in outputs)
    pictures, plays = page.locator(".cell_output img"), page.locator(".pitfalls-play")
    assert plays.count() == sum("pitfalls.widgets." in cell.source for cell in code_cells(read(path)))
    assert pictures.count() + plays.count() >= saved
    for width in (1280, 400):
        page.set_viewport_size({"width": width, "height": 900})
        assert not bad_pictures(pictures), f"at {width} pixels"
    asked = page.locator(".pitfalls-predict").first
    asked.locator(".choices button").first.click()
    assert asked.locator(".said").inner_text().strip()
    assert page.errors == []


def test_the_front_page_needs_little_before_its_slider_answers(home, browser):
    """What a slow machine has to read is the same everywhere; its seconds are for `python -m tools.bench page`."""
    with browser.new_context() as context:
        page = context.new_page()
        lab.open_slowed(page, home)
        assert page.evaluate(lab.ANSWERED) > 0
    front = home / "index.html"
    asked = re.findall(r'(?:href|src)="(_static/[^"?]+\.(?:css|js))', front.read_text(encoding="utf-8"))
    assert len(asked) > 3
    assert sum(path.stat().st_size for path in [front, *(home / name for name in asked)]) < 300_000, asked
