"""Every exercise of every lesson, as a reader meets it: untouched, with its folded solution, and with what goes wrong.

`tests/wrong_answers/` holds typical wrong answers with a piece of the hint that each must get.
"""

import re
import runpy

import pytest
import torch
import transformers

import pitfalls
from pitfalls.practice import Feedback, feedback, predict, progress
from pitfalls.practice.feedback import Hint, equal, exercise, is_stub, run
from pitfalls.practice.final_exam import KEY, POOL, PROGRAM, Exam, lesson_of
from pitfalls.practice.prediction import Prediction, _last_value
from tools.lessons import LESSONS, ROOT, code_cells, read

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
for file in sorted((ROOT / "tests/wrong_answers").glob("*.py")):
    WRONG |= runpy.run_path(str(file))["WRONG"]

each = pytest.mark.parametrize("lesson, name, card, stub, folded", EXERCISES, ids=[name for _, name, *_ in EXERCISES])


@pytest.fixture(scope="module")
def names(model, tokenizer) -> dict:
    """What a lesson's setup and loading cells have defined."""
    return {
        "model": model,
        "tokenizer": tokenizer,
        "torch": torch,
        "pitfalls": pitfalls,
        "set_seed": transformers.set_seed,
        "MODEL": pitfalls.fetch_model(),
    }


def answer(cell: str, names: dict) -> Feedback:
    """What the last line of a cell shows."""
    result = _last_value(cell, dict(names))
    assert isinstance(result, Feedback)
    return result


def solution(folded: dict) -> str:
    return re.fullmatch(r"```python\n(.*)\n```", folded["Solution"], flags=re.DOTALL)[1]


# --- the exercises ---


@each
def test_card(lesson, name, card, stub, folded):
    title = feedback.tasks[lesson, name]
    assert CARD.match(card)["title"] == title
    assert set(folded) == {"Hint", "Solution"}
    assert solution(folded).splitlines()[-1] == stub.splitlines()[-1], "the same check"


@each
def test_an_untouched_stub_is_told_not_yet(names, lesson, name, card, stub, folded):
    assert answer(stub, names).state == "not yet"


@each
def test_the_solution_passes(names, lesson, name, card, stub, folded):
    feedback.done.discard((lesson, name))
    result = answer(solution(folded), names)
    assert result.state == "right", result.text
    assert len(result.text) > len("Right. ") + 20, "it says what was proved"
    assert (lesson, name) in feedback.done
    assert f"✓ {feedback.tasks[lesson, name]}" in repr(progress(lesson))


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
def test_odd_answers_are_told_what_was_expected(names, lesson, name, card, stub, folded):
    check = getattr(pitfalls.practice, name)
    context = stub.splitlines()[-1].removesuffix(")").split(", ")[1:]
    for odd in (None, 7, "text", [1, 2], {"a": 1}, lambda *a, **k: print(end=""), lambda: 1 / 0):
        result = check(odd, *(names[part] for part in context))
        assert result.state == "not quite" and result.text, odd


@each
def test_a_checker_without_its_heart_is_noticed(names, lesson, name, card, stub, folded, monkeypatch):
    """A checker that accepts anything fails the test above."""
    code, fragment = WRONG[name][0]
    monkeypatch.setattr(
        pitfalls.practice, name, exercise(lesson, feedback.tasks[lesson, name])(lambda *a, **k: "Fine.")
    )
    with pytest.raises(AssertionError):
        test_wrong_answers_get_the_hint_meant_for_them(names, lesson, name, card, stub, folded)


def test_every_exercise_is_in_a_lesson_and_every_wrong_answer_belongs_to_one():
    known = {name for name in pitfalls.practice.__all__ if name not in NO_EXERCISES}
    assert {name for _, name, *_ in EXERCISES} == known == set(WRONG)


# --- the final exam ---


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


def test_the_untouched_program_scores_nothing_and_the_mended_one_everything():
    exam = pitfalls.practice.exam(seed=1)
    assert exam.check(..., ..., ...).state == "not yet"
    result = taken(exam, exam.program)
    assert result.state == "not quite" and result.text.startswith("0 of 7 mended"), result
    feedback.done.discard(KEY)
    result = taken(exam, PROGRAM)
    assert (
        result.state == "right" and result.text.startswith("7 of 7") and "Paris" in result.text and KEY in feedback.done
    )


@pytest.mark.parametrize("mistake", [m for group in POOL for m in group], ids=lambda mistake: mistake.rule)
def test_one_mistake_left_is_found(mistake):
    exam = Exam(0, [mistake, *(group[0] for group in POOL if mistake not in group)][:7])
    spoilt = PROGRAM.replace(mistake.right, mistake.wrong)
    result = taken(exam, spoilt.replace("max_new_tokens=60", "max_new_tokens=12").replace("=30", "=8"))
    assert result.state == "not quite"
    if "stopped" not in result.text:
        assert (
            result.text.startswith("6 of 7 mended")
            and f"lesson {lesson_of(mistake)}, in {mistake.where}" in result.text
        )


def test_a_cut_at_the_wrong_place_is_noticed():
    result = taken(pitfalls.practice.exam(seed=1), PROGRAM.replace('inputs["input_ids"].shape[1] :', "30 :"))
    assert result.state == "not quite" and "the model wrote" in result.text, result


def test_functions_that_do_nothing_mend_nothing():
    exam = pitfalls.practice.exam(seed=1)
    result = exam.check(lambda name: 1 / 0, None, None)
    assert result.text.startswith("0 of 7") and "load stopped with ZeroDivisionError" in result.text


# --- feedback ---


def test_dots_are_a_stub_and_nothing_else_is():
    def dots(prompt):
        """With words about it."""
        ...

    def constant(prompt):
        return 5

    assert all(map(is_stub, [..., [1, ...], {"a": ...}, dots]))
    assert not any(map(is_stub, [None, 0, "", [], {}, constant, lambda x: x, print]))


def test_an_exception_of_the_reader_becomes_a_hint_with_its_line():
    def wrong(number):
        return number.upper()

    with pytest.raises(Hint, match=r"AttributeError: 'int' object.*\n +return number.upper\(\)"):
        run(wrong, 5)
    with pytest.raises(Hint, match="Expected a function; this is 5"):
        run(5)


def test_what_was_expected_and_what_came():
    equal(torch.tensor([1, 2]), [1, 2], "two numbers")
    with pytest.raises(Hint, match=r"Expected two numbers: \[1, 2\]. Came: \[2, 1\]"):
        equal([2, 1], torch.tensor([1, 2]), "two numbers")
    with pytest.raises(Hint, match="the other way round"):
        equal(2, 1, "one", {2: "the other way round"})


def test_feedback_is_text_and_html():
    shown = Feedback("right", "a < b")
    assert repr(shown) == "✓ a < b" and "a &lt; b" in shown._repr_html_()


def test_progress_of_an_unknown_lesson():
    with pytest.raises(ValueError, match="There are no exercises for '99'"):
        progress("99")


# --- predictions ---


def predictions():
    for path in LESSONS:
        for cell in code_cells(read(path)):
            if cell.source.startswith("pitfalls.practice.predict("):
                yield pytest.param(path, cell, id=path.stem)


@pytest.mark.parametrize("path, cell", list(predictions()))
def test_a_prediction_stands_before_the_failure_and_has_no_key(path, cell):
    sources = [cell.source for cell in read(path).cells]
    at = sources.index(cell.source)
    assert sources[at - 1].startswith("## Predict")
    assert not any(cell.metadata.get("findings") for cell in read(path).cells[:at]), "the failure comes after it"
    folded = cell.metadata["jupyter"]["source_hidden"] and cell.metadata["cellView"] == "form"  # JupyterLab, Colab
    assert folded, "the source holds the explanations"
    asserts = cell.metadata.get("nbmake", {}).get("post_cell_execute", [])
    assert any("answer()" in line for line in asserts), "the lesson holds that the computed answer is among the choices"


def ask(code: str, choices: dict, **names) -> Prediction:
    question = predict("04", "What comes?", code, choices)
    question.names = names
    return question


def test_the_answer_is_computed_from_the_code_once_and_leaves_no_names():
    runs = []
    names = {"note": lambda: runs.append(1), "width": 3}
    question = ask(
        "note()\nnew = width + 4\nnew", {7: "Three and four.", 3: "That is the width.", 4: "Too few."}, **names
    )
    assert question.choose(3) == Feedback("not quite", "Not 3: That is the width. Think again, or run on and see.")
    assert question.choose(7).state == "right" and "Three and four." in question.choose(7).text
    assert runs == [1] and "new" not in names
    question = ask("width + 1", {7: "a", 4: "b"}, width=3)
    assert question.choose(4).state == "right", "another lesson, another key"


def test_a_prediction_that_cannot_be_computed_says_so():
    assert "NameError" in (said := ask("nothing", {1: "a", 2: "b"}).choose(1)).text and "cells above" in said.text
    assert "none of the choices" in ask("5", {1: "a", 2: "b"}).choose(1).text


def test_a_prediction_is_clicked():
    question = ask("1 + 1", {1: "One is too few.", 2: "Yes."})
    one, two = question.buttons
    one.click()
    assert "One is too few." in question.feedback.value
    two.click()
    assert "Right: 2." in question.feedback.value and not any(button.disabled for button in question.buttons)


def test_a_saved_prediction_shows_the_question_and_its_choices():
    data = ask("1 + 1", {1: "One is too few.", "<b>": "Yes."})._repr_mimebundle_()
    assert "What comes?" in data["text/html"] and "<li>1</li><li>&lt;b&gt;</li>" in data["text/html"]
    assert "too few" not in data["text/html"], "the explanation comes after the choice"
