"""Every exercise of every lesson, as a reader meets it: untouched, with its folded solution, and with odd answers."""

import json
import re
import subprocess
import sys

import pytest
import torch

import pitfalls
from pitfalls.practice import Feedback, predict, progress
from pitfalls.practice.feedback import Hint, equal, is_stub, run
from pitfalls.practice.lesson_08_your_own_code import MISTAKES, TEXTS
from pitfalls.practice.prediction import Prediction, Question, questions
from pitfalls.practice.tasks import done, tasks
from tests.practice.exercises import CARD, EXERCISES, NO_EXERCISES, WRONG, answer, each, solution
from tests.widgets.reading import asks, state
from tools.lessons import LESSONS, code_cells, read

# --- the exercises ---


@each
def test_card(lesson, name, card, stub, folded):
    title = tasks[lesson, name]
    assert CARD.match(card)["title"] == title
    assert set(folded) == {"Hint", "Solution"}
    assert solution(folded).splitlines()[-1] == stub.splitlines()[-1], "the same check"


@each
def test_an_untouched_stub_is_told_not_yet(names, lesson, name, card, stub, folded):
    assert answer(stub, names).state == "not yet"


@each
def test_the_solution_passes(names, lesson, name, card, stub, folded):
    progress(lesson).reset()
    result = answer(solution(folded), names)
    assert result.state == "right", result.text
    assert len(result.text) > len("Right. ") + 20, "it says what was proved"
    assert (lesson, name) in done()
    assert f"✓ {tasks[lesson, name]}" in repr(progress(lesson))


@each
def test_odd_answers_are_told_what_was_expected(names, lesson, name, card, stub, folded):
    check = getattr(pitfalls.practice, name)
    context = stub.splitlines()[-1].removesuffix(")").split(", ")[1:]
    for odd in (None, 7, "text", [1, 2], {"a": 1}, lambda *a, **k: print(end=""), lambda: 1 / 0):
        result = check(odd, *(names[part] for part in context))
        assert result.state == "not quite" and result.text, odd


def test_every_exercise_is_in_a_lesson_and_every_wrong_answer_belongs_to_one():
    known = {name for name in pitfalls.practice.__all__ if name not in NO_EXERCISES}
    assert {name for _, name, *_ in EXERCISES} == known == set(WRONG)


def test_the_named_mistakes_are_those_of_the_calls_whatever_the_model_is_set_to(model, tokenizer, monkeypatch):
    left, right = (tokenizer(TEXTS, padding=True, padding_side=side, return_tensors="pt") for side in ("left", "right"))
    bare = {**left, "attention_mask": torch.ones_like(left["attention_mask"])}
    calls = {
        "A": (right, {"max_new_tokens": 20}),
        "B": (bare, {"max_new_tokens": 20}),
        "C": (left, {"max_new_tokens": 20, "do_sample": False, "temperature": 0.7}),
        "D": (left, {}),
    }

    def rules(letter: str) -> set[str]:
        inputs, settings = calls[letter]
        return pitfalls.check(model, tokenizer, inputs, **settings).rules

    assert {letter: rules(letter) for letter in calls} == {letter: {rule} for letter, rule in MISTAKES.items()}
    monkeypatch.setattr(model.generation_config, "do_sample", True)
    monkeypatch.setattr(model.generation_config, "temperature", 0.3)
    assert rules("A") > {MISTAKES["A"]} and rules("B") > {MISTAKES["B"]}, "these settings are a finding too"
    assert pitfalls.practice.name_the_mistakes(MISTAKES, model, tokenizer).state == "right"


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
    html = Feedback("not quite", "Stopped in the line\n    x = 1 < `y`\nWrite `x`.")._repr_html_()
    assert html.count("<code") == 2 and html.count("monospace") == 2 and "    x = 1 &lt; `y`" in html


@pytest.fixture
def progress_file(tmp_path, monkeypatch):
    file = tmp_path / "data" / "progress.json"
    monkeypatch.setenv("PITFALLS_PROGRESS", str(file))
    monkeypatch.setattr("pitfalls.practice.tasks._here", set())
    return file


def test_progress_outlives_the_kernel_and_spans_the_course(progress_file, monkeypatch):
    assert not repr(progress()).startswith("1 of")
    assert ask("1", {1: "Yes.", 2: "No."}).choose(1).state == "right"
    assert json.loads(progress_file.read_text()) == {"04": ["prediction"]}
    monkeypatch.setattr("pitfalls.practice.tasks._here", set())  # as after a restart
    assert repr(progress("04")).startswith("1 of 3 done\n✓ Predict: ")
    assert repr(progress()).splitlines()[0] == f"1 of {len(tasks)} done in the course"
    assert "○ lesson  4: 1 of 3" in repr(progress())
    assert repr(progress("05").reset()).startswith("0 of") and repr(progress("04")).startswith("1 of")
    assert repr(progress().reset()).startswith("0 of") and json.loads(progress_file.read_text()) == {}


def test_kernels_that_finish_at_once_lose_nothing(progress_file):
    code = "import sys; from pitfalls.practice.tasks import mark; [mark((sys.argv[1], str(n))) for n in range(20)]"
    others = [subprocess.Popen([sys.executable, "-c", code, f"{lesson:02}"]) for lesson in (1, 2, 3)]
    assert [other.wait() for other in others] == [0, 0, 0]
    assert {lesson: len(names) for lesson, names in json.loads(progress_file.read_text()).items()} == {
        "01": 20, "02": 20, "03": 20
    }  # fmt: skip


@pytest.mark.parametrize("content", ["", "{", "[]", '{"04": 7}', "null"])
def test_a_file_that_is_not_ours_counts_as_none(progress_file, content):
    progress_file.parent.mkdir()
    progress_file.write_text(content)
    assert repr(progress()).startswith("0 of")
    ask("1", {1: "Yes."}).choose(1)
    assert json.loads(progress_file.read_text()) == {"04": ["prediction"]}


def test_where_nothing_can_be_written_the_kernel_remembers(progress_file, monkeypatch):
    monkeypatch.setenv("PITFALLS_PROGRESS", "/proc/none/progress.json")
    ask("1", {1: "Yes."}).choose(1)
    assert repr(progress("04")).startswith("1 of")


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
    assert cell.source == f'pitfalls.practice.predict("{path.stem[:2]}")', "a page shows the source of a cell"
    asserts = cell.metadata.get("nbmake", {}).get("post_cell_execute", [])
    assert any("answer()" in line for line in asserts), "the lesson holds that the computed answer is among the choices"


def test_every_lesson_asks_one_question():
    assert set(questions) == {path.stem[:2] for path in LESSONS}
    with pytest.raises(ValueError, match="no prediction for '99'"):
        predict("99")


def ask(code: str, choices: dict, **names) -> Prediction:
    return Prediction(Question("04", "What comes?", code, choices), names)


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


def test_the_first_click_runs_the_code_and_is_answered():
    question = ask("answer + 1", {1: "One is too few.", 2: "Yes."})
    assert question.data["choices"] == ["1", "2"] and not question.data["feedback"], "nothing has run"
    asks(question, {"choose": 0})
    said = question.data["feedback"]
    assert [each["state"] for each in said] == ["not yet"] * 2 and "cells above" in said[0]["text"]
    question.names["answer"] = 1
    progress("04").reset()
    asks(question, {"choose": 0})
    said = question.data["feedback"]
    assert [each["state"] for each in said] == ["not quite", "right"] and "One is too few." in said[0]["text"]
    assert question.key in done(), "whoever has chosen has done it"


def test_a_prediction_that_is_saved_knows_its_answer_and_one_that_is_shown_does_not(monkeypatch):
    choices = {1: "One is too few.", "<b>": "Odd.", 2: "Yes."}
    monkeypatch.delenv("PITFALLS_SAVING", raising=False)
    shown = ask("1 + 1", choices)._repr_mimebundle_()[0]
    assert "application/vnd.jupyter.widget-view+json" in shown and "( ) <b>" in shown["text/plain"]
    assert "What comes?" in shown["text/html"] and "<li>1</li><li>&lt;b&gt;</li>" in shown["text/html"]
    assert "too few" not in shown["text/html"] and "<details>" not in shown["text/html"]
    progress("04").reset()
    monkeypatch.setenv("PITFALLS_SAVING", "1")
    saved = ask("1 + 1", choices)._repr_mimebundle_()[0]["text/html"]
    assert [each["state"] for each in state(saved)["data"]["feedback"]] == ["not quite", "not quite", "right"]
    assert "Right: 2. Yes." in re.search("<details>.*</details>", saved, flags=re.DOTALL)[0], "folded"
    assert ("04", "prediction") not in done(), "the reader has not chosen"
