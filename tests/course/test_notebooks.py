"""Guards over the saved lessons. That they run, and that their claims hold, is for nbmake to show."""

import ast
import re
from itertools import pairwise

import pytest
from IPython.core.inputtransformer2 import TransformerManager

import pitfalls
from tools.fork import OWNER_AND_NAME, REPOSITORY, ROOT
from tools.lessons import (
    BEYOND,
    LESSONS,
    VERSION,
    budget,
    code_cells,
    fingerprint,
    minutes,
    output_text,
    read,
)

COLAB = f"https://colab.research.google.com/github/{OWNER_AND_NAME}/blob/main/notebooks/"
HEADINGS = [
    "See it fail",
    "Look inside",
    "Fix it",
    "Prove it",
    "On a 7B model",
    "What changed, and when",
    "What we saw",
]
PLAYED = {3, 4, 5, 6, 7, 9}  # lessons with a widget
# Upstream warnings that a lesson is about.
WELCOME = {
    "04_length": "Using the model-agnostic default `max_length`",
    "06_padding_side": "right-padding was detected",
}

lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def markdown(path) -> str:
    return "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")


def test_the_lessons_are_there():
    assert [path.stem[:2] for path in LESSONS] == [f"{number:02}" for number in range(1, len(LESSONS) + 1)]
    assert len(LESSONS) >= 8


@lesson
def test_header(path):
    header = read(path).cells[0].source
    assert re.match(rf"# {int(path.stem[:2])} · \S", header)
    assert f"({COLAB}{path.name})" in header, "the badge must open this very notebook"
    assert budget(path.stem) in header, "run `make notebooks`: it says what `make bench` measured"
    assert "**What is new here**" in header and "**After this lesson**" in header


@lesson
def test_setup_cell_is_the_same_everywhere(path):
    first = code_cells(read(path))[0]
    assert first.source == code_cells(read(LESSONS[0]))[0].source
    assert first.source.startswith("# @title Setup: run me first\n") and first.metadata.get("cellView") == "form"
    assert len(first.source.splitlines()) <= 13
    lines = first.source.replace(OWNER_AND_NAME, "").splitlines()  # a fork's name may be long
    assert max(map(len, lines)) <= 100
    assert f'"generation-pitfalls[course] @ git+{REPOSITORY}"' in first.source
    assert re.search(r"Python 3.* torch .* transformers .* SmolLM2-135M-Instruct", output_text(first))


@lesson
def test_a_lesson_knows_the_version_that_it_was_saved_with(path):
    notebook = read(path)
    assert VERSION.findall(code_cells(notebook)[0].source) == [pitfalls.__version__], "run `make notebooks`"
    assert notebook.metadata.get("saved_with") == f"generation-pitfalls {pitfalls.__version__}", "run `make notebooks`"


@pytest.mark.parametrize("installed", [pitfalls.__version__, "0.1.0", "99.0"])
def test_the_setup_cell_says_what_to_do_where_the_package_is_of_another_version(installed, monkeypatch, capsys):
    monkeypatch.setattr(pitfalls, "__version__", installed)
    monkeypatch.setattr(pitfalls, "choose_model", lambda choice: (choice, None))
    source = code_cells(read(LESSONS[0]))[0].source
    exec(TransformerManager().transform_cell(source), names := {})
    said = capsys.readouterr().out.splitlines()
    assert names["MODEL"] == "SmolLM2-135M-Instruct"
    if installed in VERSION.findall(source):
        assert not said
    else:
        (sentence,) = said
        assert f"package {installed}: open the newest lesson or  %pip install" in sentence and REPOSITORY in sentence


@lesson
def test_anatomy(path):
    text = markdown(path)
    headings = anatomy(int(path.stem[:2]))
    places = [re.search(rf"^## {heading}", text, flags=re.MULTILINE) for heading in headings]
    assert all(places), [heading for heading, place in zip(headings, places, strict=True) if not place]
    starts = [place.start() for place in places]
    assert starts == sorted(starts)
    empty = [a for a, b in pairwise(re.split(r"\n(?=## )", text)) if len(a.split("\n", 1)[-1].strip()) < 20]
    assert not empty, "a heading with nothing under it"


def anatomy(number: int) -> list[str]:
    """The headings of a lesson, in order."""
    if number in BEYOND:
        return ["Predict", HEADINGS[0], "Practise", "In your own code", "On a 7B model", "What we saw"]
    first = ["Predict", HEADINGS[0]] if number < 8 else [HEADINGS[0], "Predict"]  # lesson 8 shows its program first
    own_code = ["In your own code"] if number >= 4 else []
    play = ["Play"] if number in PLAYED else []
    return [*first, *HEADINGS[1:4], *play, "Practise", *own_code, *HEADINGS[4:]]


@lesson
def test_code_marks_the_line_that_fixes_it(path):
    assert any("# New" in cell.source for cell in code_cells(read(path)))


@lesson
def test_cells_are_short(path):
    notebook = read(path)
    assert 20 <= len(notebook.cells) <= 90
    # The setup cell has its own measure: the address of a fork may be long.
    long = [cell.source for cell in code_cells(notebook)[1:] if len(cell.source.splitlines()) > 13]
    assert not long, long
    wide = [line for cell in code_cells(notebook)[1:] for line in cell.source.splitlines() if len(line) > 100]
    assert not wide, wide


@lesson
def test_claims_are_held_by_hidden_asserts(path):
    hidden = [cell.metadata.get("nbmake", {}).get("post_cell_execute") for cell in code_cells(read(path))]
    sources = ["\n".join(lines) for lines in hidden if lines]
    asserts = [node for source in sources for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]
    assert len(asserts) >= 8


@lesson
def test_outputs_belong_to_this_code(path):
    notebook = read(path)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert notebook.metadata.get("outputs_of_code") == fingerprint(notebook), "run `make notebooks`"
    assert notebook.metadata.kernelspec.name == "python3", "JupyterLab would ask the reader for a kernel"


@lesson
def test_no_errors_or_stray_warnings_in_outputs(path):
    for cell in code_cells(read(path)):
        assert not [output for output in cell.outputs if output.output_type == "error"], cell.source
        for output in cell.outputs:
            if output.get("name") == "stderr":
                assert path.stem in WELCOME and WELCOME[path.stem] in output.text, output.text
        assert not re.search(r"(?<![\w.:/])/\w+/\w+|[A-Z]:\\", output_text(cell)), "a local path"


@lesson
def test_pictures_come_from_outputs(path):
    notebook = read(path)
    assert not re.search(r"!\[[^\]]*\]\((?!https://)|<img", markdown(path)), "Colab opens the notebook alone"
    pictures = [o for cell in code_cells(notebook) for o in cell.outputs if "image/png" in o.get("data", {})]
    assert len(pictures) >= 3
    assert all(len(o.metadata.get("image/png", {}).get("alt", "")) > 20 for o in pictures), (
        "draw with pitfalls.pictures"
    )
    assert path.stat().st_size < 500_000


@lesson
def test_a_widget_stands_as_a_page_and_as_a_picture_in_the_saved_lesson(path):
    notebook = read(path)
    widgets = [n for n, cell in enumerate(notebook.cells) if "pitfalls.widgets." in cell.source]
    assert len(widgets) == (int(path.stem[:2]) in PLAYED)
    for n in widgets:
        before, cell, after = notebook.cells[n - 1 : n + 2]
        assert before.source.startswith("## Play: ")
        (output,) = cell.outputs
        assert "image/png" in output.data and len(output.metadata["image/png"]["alt"]) > 20
        still, script = output.data["text/html"].split("<script", 1)
        assert re.search(r'<img src="data:image/png;base64,[^"]+" alt="[^"]{20,}">', still) and "onPage(" in script
        assert re.match(r"\*\*Try:\*\* .+\n\n\*\*Notice:\*\* .+", after.source, flags=re.DOTALL)
    mimes = {mime for cell in code_cells(notebook) for output in cell.outputs for mime in output.get("data", {})}
    assert not any("widget" in mime for mime in mimes), "a page without a kernel could not show it"


@lesson
def test_a_prediction_is_answered_in_the_saved_lesson(path):
    (cell,) = [cell for cell in code_cells(read(path)) if "practice.predict(" in cell.source]
    (output,) = cell.outputs
    still, script = output.data["text/html"].split("<script", 1)
    assert "<details>" in still and script.count('"state":"right"') == 1


@lesson
def test_links_stay_in_this_repository(path):
    linked = re.findall(r"https://(?:colab\.research\.google\.com/)?github(?:\.com)?/([\w.-]+/[\w.-]+)", markdown(path))
    assert set(linked) == {OWNER_AND_NAME}
    position = LESSONS.index(path)
    if position + 1 < len(LESSONS):
        assert f"({COLAB}{LESSONS[position + 1].name})" in markdown(path), "the way to the next lesson"


@lesson
def test_normalising_again_changes_nothing(path):
    import copy

    from tools.lessons import normalise

    notebook = read(path)
    again = normalise(copy.deepcopy(notebook), {cell.source: cell.outputs for cell in code_cells(notebook)})
    assert again == notebook


@lesson
def test_instructors_find_its_minutes(path):
    reading, practising = minutes(read(path))
    wanted = f"{reading} + {practising}" if practising else f"{reading}"
    row = next(line for line in (ROOT / "notebooks" / "README.md").read_text().splitlines() if f"({path.name})" in line)
    assert row.split(" | ")[1] == wanted
