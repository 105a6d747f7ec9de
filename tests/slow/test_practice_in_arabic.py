"""What stands in the Arabic lessons, an exercise untouched, wrong or solved, is answered in this language."""

import re

import pytest

import pitfalls
from tests.practice.exercises import CHECK, NO_EXERCISES, WRONG, answer
from tools.lessons import LESSONS, read
from tools.translations import place

ARABIC = re.compile("[\u0621-\u064a]")


def exercises():
    """Of each: the checker's name, the stub, and the solution that is folded away below it."""
    for path in LESSONS:
        cells = read(place("ar", path)).cells
        for n, cell in enumerate(cells):
            found = CHECK.match(cell.source.splitlines()[-1]) if cell.cell_type == "code" and cell.source else None
            if found and found[1] not in NO_EXERCISES:
                (solution,) = re.findall(r"```python\n(.*?)\n```", cells[n + 1].source, flags=re.DOTALL)
                yield found[1], cell.source, solution


EXERCISES = list(exercises())


@pytest.fixture(autouse=True)
def arabic():
    before = pitfalls.language()
    pitfalls.language("ar")
    yield
    pitfalls.language(before)


def test_all_exercises_are_there():
    assert {name for name, *_ in EXERCISES} == set(WRONG)


@pytest.mark.parametrize(("name", "stub", "solution"), EXERCISES, ids=[name for name, *_ in EXERCISES])
def test_an_exercise_is_answered_in_arabic(names, name, stub, solution):
    wrong, fragment = WRONG[name][0]
    for state, code in {"not yet": stub, "not quite": wrong, "right": solution}.items():
        said = answer(code, names)
        assert said.state == state and ARABIC.search(said.text), said
        assert 'dir="rtl"' in said._repr_html_()
        assert state != "not quite" or " " not in fragment or fragment not in said.text, said
