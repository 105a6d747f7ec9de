"""The exercises in Arabic: an untouched stub, a solution and a wrong answer are answered in this language."""

import re

import pytest

import pitfalls
from tests.practice.exercises import WRONG, answer, each, solution

ARABIC = re.compile(r"[\u0621-\u064a]")


@pytest.fixture(autouse=True)
def arabic():
    before = pitfalls.language()
    pitfalls.language("ar")
    yield
    pitfalls.language(before)


@each
def test_an_exercise_is_answered_in_arabic(names, lesson, name, card, stub, folded):
    wrong, fragment = WRONG[name][0]
    answers = {"not yet": stub, "not quite": wrong, "right": solution(folded)}
    for state, code in answers.items():
        said = answer(code, names)
        assert said.state == state and ARABIC.search(said.text), said
        assert 'dir="rtl"' in said._repr_html_()
        if state == "not quite":
            assert fragment not in said.text or not re.search(r"[a-z]{3,} [a-z]{3,}", fragment), said
