"""The final exam: drawn for a seed, and marked by running the reader's program."""

from types import SimpleNamespace

import pytest

import pitfalls
from pitfalls.practice import Feedback, progress
from pitfalls.practice.final_exam import KEY, POOL, PROGRAM, Exam, lesson_of
from pitfalls.practice.tasks import done


def taken(exam, program: str) -> Feedback:
    names: dict = {}
    exec(program, names)
    return exam.check(names["load"], names["answer"], names["story"])


def test_a_seed_draws_the_same_exam_for_everyone():
    assert pitfalls.practice.exam(seed=3) == pitfalls.practice.exam(seed=3)
    drawn = [pitfalls.practice.exam(seed=seed) for seed in range(50)]
    assert len({exam.program for exam in drawn}) > 45
    assert {m.rule for exam in drawn for m in exam.mistakes} == {m.rule for group in POOL for m in group}
    for exam in drawn:
        assert len({m.rule for m in exam.mistakes}) == 7 and "7 mistakes" in exam._repr_html_()
        changed = set(PROGRAM.splitlines()) ^ set(exam.program.splitlines())
        assert changed and compile(exam.program, "exam", "exec")


def test_each_mistake_stands_once_in_the_program_and_all_lessons_are_there():
    mistakes = [m for group in POOL for m in group]
    assert all(PROGRAM.count(mistake.right) == 1 for mistake in mistakes)
    assert {lesson_of(mistake) for mistake in mistakes} == {1, 2, 3, 4, 5, 6, 7, 8}


def test_the_untouched_program_scores_nothing_and_the_fixed_one_everything():
    exam = pitfalls.practice.exam(seed=1)
    assert exam.check(..., ..., ...).state == "not yet"
    result = taken(exam, exam.program)
    assert result.state == "not quite" and result.text.startswith("0 of 7 fixed"), result
    progress("08").reset()
    result = taken(exam, PROGRAM)
    assert result.state == "right" and result.text.startswith("7 of 7") and "Tokyo" in result.text and KEY in done()


@pytest.mark.parametrize("mistake", [m for group in POOL for m in group], ids=lambda mistake: mistake.rule)
def test_one_mistake_left_is_found(mistake):
    exam = Exam(0, [mistake, *(group[0] for group in POOL if mistake not in group)][:7])
    spoilt = PROGRAM.replace(mistake.right, mistake.wrong)
    result = taken(exam, spoilt.replace("max_new_tokens=60", "max_new_tokens=12").replace("=30", "=8"))
    assert result.state == "not quite"
    if "stopped" not in result.text:
        assert (
            result.text.startswith("6 of 7 fixed") and f"lesson {lesson_of(mistake)}, in {mistake.where}" in result.text
        )


def test_the_program_comes_into_the_cell_that_asks_for_it(monkeypatch):
    exam = pitfalls.practice.exam(seed=1)
    assert exam.open().state == "not yet", "outside a notebook, too"
    cells = []
    shell = SimpleNamespace(set_next_input=lambda text, replace: cells.append((text, replace)))
    monkeypatch.setattr("pitfalls.practice.final_exam.get_ipython", lambda: shell)
    exam.open()
    ((text, replaced),) = cells
    assert text == exam.program + "\nexam.check(load, answer, story)" and replaced
    assert '<pre style="font-family: monospace' in exam._repr_html_()


def test_a_cut_at_the_wrong_place_is_noticed():
    result = taken(pitfalls.practice.exam(seed=1), PROGRAM.replace('inputs["input_ids"].shape[1] :', "30 :"))
    assert result.state == "not quite" and "the model wrote" in result.text, result


def test_functions_that_do_nothing_fix_nothing():
    exam = pitfalls.practice.exam(seed=1)
    result = exam.check(lambda name: 1 / 0, None, None)
    assert result.text.startswith("0 of 7") and "load stopped with ZeroDivisionError" in result.text
