"""Each lesson in JupyterLab: every cell as it is saved, then whatever can be clicked, run and clicked.

That all cells run is for tests/course to show; here one lesson does, as a reader runs it.
"""

import ast
import re
from collections.abc import Iterator

import nbformat
import pytest
from nbformat.sign import NotebookNotary

import pitfalls.practice  # noqa: F401  its modules ask the questions
from pitfalls.practice.prediction import questions
from tests.slow.browser.moves import MOVES, predict
from tools.lab import Lesson, bad_pictures
from tools.lessons import LESSONS, code_cells, read

RUN_WHOLE = "02_tokenizing"  # the shortest
CLICKED = re.compile(r"pitfalls\.(widgets|practice\.predict)\b")
NO_WIDGET = re.compile(r"(Error (displaying|creating|rendering)|Loading) widget|^\w+\(children=", re.IGNORECASE)


def problems(cell: dict, saved) -> Iterator[str]:
    """What is wrong with a code cell in the page, next to the same cell of the saved notebook."""
    folded = saved.metadata.get("jupyter", {}).get("source_hidden")  # and its number with it
    if not folded and not re.fullmatch(r"\[\d+\]:", cell["prompt"]):
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


def defines(source: str) -> set[str]:
    """The names that a cell gives a value."""
    nodes = list(ast.walk(ast.parse(re.sub(r"^( *)[%!].*", r"\1pass", source, flags=re.MULTILINE))))
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    imported = {node.asname or node.name for node in nodes if isinstance(node, ast.alias)}
    return stored | imported | {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


def only_what_is_clicked(path) -> nbformat.NotebookNode:
    """A lesson's predictions and its widget, with the cells whose names they use."""
    notebook, kept, words = read(path), [], set()
    for cell in reversed(code_cells(notebook)):
        if CLICKED.search(cell.source) or defines(cell.source) & words:
            kept.insert(0, cell)
            asked = re.search(r'practice\.predict\("(\d+)"\)', cell.source)
            code = questions[asked[1]].code if asked else cell.source
            words |= set(re.findall(r"[^\W\d]\w*", code))
    notebook.cells = kept
    return notebook


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_as_it_is_saved(path, server, browser):
    with server.open(browser, path.name) as lesson:
        look(lesson, path)


def test_a_lesson_with_all_cells_run(server, browser):
    path = next(path for path in LESSONS if path.stem == RUN_WHOLE)
    with server.open(browser, path.name) as lesson:
        lesson.run_all()
        look(lesson, path)


@pytest.mark.parametrize("trusted", [True, False])
def test_what_was_saved_is_used_without_a_kernel(trusted, server, browser):
    """A notebook that is trusted runs its scripts; of another one JupyterLab shows what is no script."""
    path = next(path for path in LESSONS if path.stem == "05_decoding_mode")
    notebook = read(path)
    notebook.metadata.trial = trusted  # another text has another signature
    nbformat.write(notebook, server.folder / "notebooks" / "saved.ipynb")
    if trusted:
        NotebookNotary(data_dir=str(server.folder / "JUPYTER_DATA_DIR")).sign(notebook)
    with server.open(browser, "saved.ipynb") as lesson:
        if trusted:
            MOVES[path.stem](lesson.plays.first, live=False)
            predict(lesson.page.locator(".pitfalls-predict"), live=False)
        else:
            assert not lesson.plays.count() and not lesson.page.locator(".pitfalls-predict").count()
            said = lesson.page.locator(".jp-OutputArea-output").all_inner_texts()
            assert any("tokens can be drawn" in text for text in said)
            assert lesson.page.locator("img[alt*='Bars of probabilities']").count()
            assert lesson.page.locator("details", has_text="Right: 1.").count()
        assert not bad_pictures(lesson.page.locator(".jp-OutputArea-output img"))
        assert not lesson.errors, "\n".join(lesson.errors)


@pytest.mark.parametrize("path", [path for path in LESSONS if path.stem in MOVES], ids=lambda path: path.stem)
def test_what_can_be_clicked(path, server, browser):
    part = server.folder / "notebooks" / f"clicked_{path.name}"
    nbformat.write(only_what_is_clicked(path), part)
    with server.open(browser, part.name) as lesson:
        lesson.run_all()
        look(lesson, part)
        assert lesson.plays.count() == 1
        MOVES[path.stem](lesson.plays.first, live=True)
        predict(lesson.page.locator(".pitfalls-predict"), live=True)
        assert not lesson.errors, "\n".join(lesson.errors)
