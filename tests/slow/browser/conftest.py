"""JupyterLab, a browser and pages for the tests here, started by the first test that asks."""

import os
from contextlib import contextmanager

import pytest

import pitfalls
from pitfalls.practice.prediction import Prediction, Question
from pitfalls.widgets import ChatTemplate, Length, Loop, NextToken, Padding
from tools.lab import block_outside, chromium, jupyterlab, missing
from tools.lessons import ROOT


def ask_for_a_browser():
    if reason := missing():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    ask_for_a_browser()
    with jupyterlab(ROOT / "notebooks", tmp_path_factory.mktemp("jupyterlab")) as server:
        yield server


@pytest.fixture(scope="module")  # not longer: lessons that are executed in the same process need the event loop
def browser():
    ask_for_a_browser()
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def shown(model, tokenizer) -> dict:
    """The widgets as the lessons show them, by the lesson's name, and a prediction that was run to be saved."""
    prompts = ["A sequence of numbers: 1, 2", "The opposite of hot is", "Thank you", "My favorite color is"]
    call = pitfalls.record(model, tokenizer, tokenizer(prompts, padding=True, return_tensors="pt"), max_new_tokens=30)
    capital = [{"role": "user", "content": "What is the capital of Japan?"}]
    question = Question("04", "What does `1 + 1` give?", "1 + 1", {2: "Yes, `2`.", 3: "One is too much."})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PITFALLS_SAVING", "1")
        prediction = Prediction(question, {})
        prediction._repr_mimebundle_()
    return {
        "03_generating": Loop(model, tokenizer, "A list of colors: red, blue", max_new_tokens=12, step=2),
        "04_length": Length(call, tokenizer),
        "05_decoding_mode": NextToken(model, tokenizer, "I am a cat.", temperature=0.5),
        "06_padding_side": Padding(model, tokenizer, ["The capital of Japan is", "A, B, C, D, E, F, G"]),
        "07_prompt_template": ChatTemplate(model, tokenizer, capital),
        "prediction": prediction,
    }


@pytest.fixture(scope="session")
def forms(shown) -> dict[str, str]:
    """What each of them is on a page without a kernel: its HTML."""
    return {name: widget._repr_mimebundle_()[0]["text/html"] for name, widget in shown.items()}


@pytest.fixture
def web_page(browser, tmp_path):
    """Opens HTML as a page of its own, without a network; it must complain of nothing and ask for nothing."""

    @contextmanager
    def open_page(body: str, size=(1280, 900), direction="ltr", colours="", **settings):
        head = f"<title>A lesson</title><meta charset=utf-8><style>body {{ {colours} }}</style>"
        html = f'<!doctype html><html lang="en" dir="{direction}"><head>{head}</head><body>{body}</body></html>'
        (tmp_path / "page.html").write_text(html, encoding="utf-8")
        page = browser.new_page(viewport={"width": size[0], "height": size[1]}, **settings)
        errors, outside = [], []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: message.type == "error" and errors.append(message.text))
        block_outside(page, outside)
        page.goto((tmp_path / "page.html").as_uri())
        try:
            yield page
        finally:
            page.close()
        assert not errors and not outside

    return open_page
