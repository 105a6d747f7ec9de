"""Each saved lesson as a web page: whoever reads it with no kernel and no network sees every picture, or its widget."""

import re

import pytest
from nbconvert import HTMLExporter

from tools.lab import bad_pictures, block_outside
from tools.lessons import LESSONS, code_cells, read

lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def saved_pictures(path) -> list[str]:
    """PNG pictures in the outputs of a notebook, in base64."""
    outputs = [output for cell in code_cells(read(path)) for output in cell.outputs]
    return ["".join(output.data["image/png"].split()) for output in outputs if "image/png" in output.get("data", {})]


def html(path, theme: str = "light") -> str:
    return HTMLExporter(template_name="lab", theme=theme).from_filename(str(path))[0]


@lesson
def test_every_picture_is_in_the_page(path):
    shown = re.findall(r'<img\b[^>]*\bsrc="data:image/png;base64,([^"]+)"', html(path))
    missing = set(saved_pictures(path)) - {"".join(picture.split()) for picture in shown}
    assert not missing, f"{len(missing)} pictures are not in the page"


@lesson
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_picture_shows(path, theme, browser, tmp_path):
    (tmp_path / "lesson.html").write_text(html(path, theme), encoding="utf-8")
    page = browser.new_page()
    block_outside(page, [])
    page.goto((tmp_path / "lesson.html").as_uri())
    assert page.locator("body").get_attribute("data-jp-theme-light") == str(theme == "light").lower()
    pictures, plays = page.locator(".jp-OutputArea-output img"), page.locator(".pitfalls-play")
    assert plays.count() == sum("pitfalls.widgets." in cell.source for cell in code_cells(read(path))), "they live"
    assert page.locator(".pitfalls-predict").count() == 1
    assert pictures.count() + plays.count() >= len(saved_pictures(path))
    for width in (1280, 400):
        page.set_viewport_size({"width": width, "height": 900})
        assert not bad_pictures(pictures), f"at {width} pixels"
    page.context.close()
