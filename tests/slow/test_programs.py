"""Whole programs with a mistake that people reported, and tricky correct ones, under a bare `watch()`.

`programs.jsonl` holds one a line: its id, the source, a title, the rules that must be found, none for correct ones, and
the code. `program()` is the mistake or the correct program, `fixed()` the program without it. Their `MODEL` is the
folder of the embedded model.

Left out, since no generate call and no template shows it: a pipeline task that transformers 5 has no more (its KeyError
says what to do).
"""

import json
from pathlib import Path

import pytest

import pitfalls

PROGRAMS = [json.loads(line) for line in Path(__file__).with_name("programs.jsonl").read_text("utf-8").splitlines()]
TASTE = {"special-tokens-kept"}  # a note that holds for some of the corrected programs too
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p["id"])]


def found(program: dict, name: str) -> tuple[set[str], BaseException | None]:
    """What is found in a function of the program, and what it raised; None where it has no such function."""
    names = {"MODEL": pitfalls.fetch_model(), "__name__": "program"}
    exec(program["code"], names)
    if name not in names:
        pytest.skip("it has no other form")
    error = None
    try:
        with pitfalls.watch() as calls:
            names[name]()
    except Exception as raised:
        error = raised
    return calls.report.rules, error


def test_what_is_wrong_is_named_and_nothing_else(program):
    rules, error = found(program, "program")
    assert rules == set(program["rules"])
    notes = "".join(getattr(error, "__notes__", []))
    if notes:
        assert notes.partition(": ")[2].splitlines()[0] in program["rules"], "the first rule of the note"


def test_nothing_is_wrong_once_it_is_mended(program):
    rules, error = found(program, "fixed")
    assert rules <= TASTE and error is None
