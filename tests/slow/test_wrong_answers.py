"""Every typical wrong answer of every exercise gets the hint that is meant for it; most of them generate."""

import pytest

import pitfalls
from pitfalls.practice import feedback
from pitfalls.practice.feedback import exercise
from tests.practice.exercises import WRONG, answer, each


@each
def test_wrong_answers_get_the_hint_meant_for_them(names, lesson, name, card, stub, folded):
    hints = []
    for code, fragment in WRONG[name]:
        assert code.splitlines()[-1] == stub.splitlines()[-1], "the same check"
        result = answer(code, names)
        assert result.state == "not quite" and fragment in result.text, f"{code}\n→ {result}"
        hints.append(result.text)
    assert len(hints) >= 3 and len(set(hints)) >= 3


@each
def test_a_checker_without_its_heart_is_noticed(names, lesson, name, card, stub, folded, monkeypatch):
    """A checker that accepts anything fails the test above."""
    code, fragment = WRONG[name][0]
    monkeypatch.setattr(
        pitfalls.practice, name, exercise(lesson, feedback.tasks[lesson, name])(lambda *a, **k: "Fine.")
    )
    with pytest.raises(AssertionError):
        test_wrong_answers_get_the_hint_meant_for_them(names, lesson, name, card, stub, folded)
