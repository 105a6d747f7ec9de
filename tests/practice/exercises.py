"""The exercises of the lessons as their notebooks hold them, and typical wrong answers from `wrong_answers/`."""

import re
import runpy
from pathlib import Path

import pytest

from pitfalls.practice import Feedback
from pitfalls.practice.prediction import _last_value
from tools.lessons import LESSONS, read

CHECK = re.compile(r"^pitfalls\.practice\.(\w+)\(.*\)$")
CARD = re.compile(r"### Exercise: (?P<title>.+)\n\n\*[★☆]{3} · \d+ minutes\*\n\n\S")
FOLDED = re.compile(r"<details><summary>(Hint|Solution)(?:: [^<]+)?</summary>\n\n(.*?)\n\n</details>", flags=re.DOTALL)

NO_EXERCISES = ("Feedback", "exam", "predict", "progress")


def exercises():
    """Of each: the lesson's number, the checker's name, its card, the stub, and what is folded away."""
    for path in LESSONS:
        cells = read(path).cells
        for n, cell in enumerate(cells):
            found = CHECK.match(cell.source.splitlines()[-1]) if cell.cell_type == "code" and cell.source else None
            if found and found[1] not in NO_EXERCISES:
                yield (
                    path.stem[:2],
                    found[1],
                    cells[n - 1].source,
                    cell.source,
                    dict(FOLDED.findall(cells[n + 1].source)),
                )


EXERCISES = list(exercises())
WRONG: dict[str, list[tuple[str, str]]] = {}
for file in sorted((Path(__file__).parent / "wrong_answers").glob("*.py")):
    WRONG |= runpy.run_path(str(file))["WRONG"]

each = pytest.mark.parametrize("lesson, name, card, stub, folded", EXERCISES, ids=[name for _, name, *_ in EXERCISES])


def answer(cell: str, names: dict) -> Feedback:
    """What the last line of a cell shows."""
    result = _last_value(cell, dict(names))
    assert isinstance(result, Feedback)
    return result


def solution(folded: dict) -> str:
    return re.fullmatch(r"```python\n(.*)\n```", folded["Solution"], flags=re.DOTALL)[1]
