"""Each lesson as a reader meets it: opened in JupyterLab, then *Run All Cells*; each time every cell is looked at."""

import re
from collections.abc import Iterator

import pytest

from tests.slow.browser.moves import MOVES, predict
from tools.lab import Lesson, bad_pictures
from tools.lessons import BEYOND, LESSONS, code_cells, read

NO_WIDGET = re.compile(r"(Error (displaying|creating|rendering)|Loading) widget|^\w+\(children=", re.IGNORECASE)


def problems(cell: dict, saved) -> Iterator[str]:
    """What is wrong with a code cell in the page, next to the same cell of the saved notebook."""
    if not re.fullmatch(r"\[\d+\]:", cell["prompt"]):
        yield f"did not run: {cell['prompt']}"
    if saved.outputs and not cell["outputs"]:
        yield "has no output; the saved notebook has one"
    pictures = sum("image/png" in output.get("data", {}) for output in saved.outputs)
    warns = any(output.get("name") == "stderr" for output in saved.outputs)
    shown = sum(output["pictures"] or output["widgets"] for output in cell["outputs"])
    if shown < pictures:
        yield f"shows {shown} pictures or widgets; the saved notebook has {pictures}"
    for output in cell["outputs"]:
        if output["blank"]:
            yield f"has a blank output ({output['type']})"
        if output["type"] == "application/vnd.jupyter.stderr" and (not warns or "Traceback" in output["text"]):
            yield f"raised or warned: {output['text']}"
        if NO_WIDGET.search(output["text"]):
            yield f"shows no widget: {output['text']}"


def look(lesson: Lesson, path):
    saved, cells = code_cells(read(path)), lesson.cells()
    assert len(cells) == len(saved)
    found = [(was.source, list(problems(cell, was))) for cell, was in zip(cells, saved, strict=True)]
    assert not any(what for _, what in found), "\n\n".join(f"{source}\n→ {what}" for source, what in found if what)
    assert not bad_pictures(lesson.page.locator(".jp-OutputArea-output img"))
    assert not lesson.errors, "\n".join(lesson.errors)
    assert not lesson.outside, "a lesson must work without a network"


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_as_saved_and_as_run(path, server, browser):
    with server.open(browser, path.name) as lesson:
        look(lesson, path)
        if int(path.stem[:2]) in BEYOND:  # it shows nothing here that it does not show without a browser
            return
        lesson.run_all()
        look(lesson, path)
        assert lesson.plays.count() == (path.stem in MOVES)
        if path.stem in MOVES:
            MOVES[path.stem](lesson.plays.first)
        predict(lesson.page.locator(".pitfalls-predict"))
        assert not lesson.errors, "\n".join(lesson.errors)
