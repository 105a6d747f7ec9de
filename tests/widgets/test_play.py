"""What all widgets share: a form for every viewer, no words in their JavaScript, errors that they say themselves."""

import base64
import io
import json
import re

import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from pitfalls.pictures.drawing import STYLES
from pitfalls.practice.prediction import Prediction, Question
from pitfalls.widgets import ChatTemplate, Length, Loop, NextToken, Padding
from tests.widgets.reading import CAPITAL, TEXTS, asks, state

VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(scope="module")
def widgets(model, tokenizer, counting) -> list:
    return [
        NextToken(model, tokenizer),
        Length(counting, tokenizer),
        Padding(model, tokenizer, TEXTS),
        ChatTemplate(model, tokenizer, CAPITAL),
        Loop(model, tokenizer, "A list of colors: red, blue", max_new_tokens=5),
    ]


@pytest.fixture(scope="module")
def everything(widgets) -> list:
    return [*widgets, Prediction(Question("04", "What comes?", "1 + 1", {2: "Yes.", 3: "No."}), {})]


def test_a_widget_has_a_form_for_every_viewer(widgets):
    for widget in widgets:
        data, metadata = widget._repr_mimebundle_()
        said = widget.summary()
        assert set(data) == {VIEW, "text/html", "image/png", "text/plain"}
        assert said in data["text/plain"] and metadata["image/png"]["alt"] == said
        picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
        assert picture.width >= 800 and len(data["image/png"]) < 40_000
        still = data["text/html"].split("<script")[0]
        assert data["image/png"] in still and re.search(r'<img [^>]*alt="[^"]{20,}"', still)
        numbers = re.findall(r"[\d.]+%", said)
        assert all(number in widget.figure().get_suptitle() for number in numbers if number != "33%")


def test_the_form_for_a_page_holds_all_that_the_live_one_has(everything):
    for widget in everything:
        html = widget._repr_mimebundle_()[0]["text/html"]
        held = state(html)
        assert held == json.loads(json.dumps({name: getattr(widget, name) for name in held}))
        assert {"data", "words", "problem"} < set(held) and not {"layout", "_esm"} & set(held)
        assert widget._esm in html and html.count("</script>") == 1 == html.count("<script")
        assert len(html) < 60_000


def test_a_page_of_the_same_state_is_the_same_text(widgets):
    for widget in widgets:
        assert widget._repr_mimebundle_()[0]["text/html"] == widget._repr_mimebundle_()[0]["text/html"]


def test_a_module_imports_nothing_and_has_no_words_of_its_own(everything):
    for widget in everything:
        script = re.sub(r"^const STYLE = .*$|//.*$", "", widget._esm, flags=re.MULTILINE)
        assert not re.search(r"\bimport\b|https?:|fetch\(|</|<!--", script)
        assert not re.findall(r"""(?<!className: )["`'][^"`'$\n]*[A-Za-z]{2,} [a-z]{2,} [^"`'\n]*["`']""", script)
        used = set(re.findall(r"\bwords\.(\w+)", script))
        assert used - {"legend", "needs_notebook"} <= set(widget.words)


def test_errors_are_said_in_the_widget(model, tokenizer):
    for make in (NextToken, Loop):
        widget = make(model, tokenizer, "")
        assert "The prompt is empty" in widget.problem and not widget.data
        assert not {"image/png", "text/html"} & set(widget._repr_mimebundle_()[0])
        widget.prompt = "word " * 8200
        assert re.search(r"8,2\d\d tokens; the model's window is 8,192", widget.problem)
        widget.prompt = "I am"
        assert not widget.problem and widget.data
    widget = Padding(model, tokenizer, [])
    assert "There is no text" in widget.problem
    widget.texts = "a\n" + "word " * 8200
    assert "the model's window is 8,192" in widget.problem
    widget = ChatTemplate(model, tokenizer, [{"role": "user", "content": "  "}])
    assert "The user message is empty" in widget.problem
    widget.turns = [{"role": "user", "content": "word " * 8200}]
    assert "the model's window is 8,192" in widget.problem


def test_what_is_asked_of_the_model_is_answered_also_where_it_fails(model, tokenizer, few_tokens, monkeypatch):
    widget = Padding(model, tokenizer, TEXTS)
    before, answered = widget.data, []
    monkeypatch.setattr(widget, "send", answered.append)

    def fail(*args, **kwargs):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(model, "generate", fail, raising=False)
        widget.texts = "A, B\nC"
    assert widget.problem == "RuntimeError: out of memory" and widget.data == before
    assert answered == [{"done": True}], "the page unlocks its controls"
    widget.texts = "A, B\nC\nD"
    assert not widget.problem and len(widget.data["alone"]) == 3 and len(answered) == 2


def test_a_message_from_the_page_is_answered(model, tokenizer, monkeypatch):
    widget = Loop(model, tokenizer, "A list of colors: red, blue", max_new_tokens=3)
    answered = []
    monkeypatch.setattr(widget, "send", answered.append)
    asks(widget, {"take": 1})
    assert widget.data["steps"][0]["taken"] == 1 and widget.data["greedy"] and answered == [{"done": True}]
    asks(widget, {"take": 99})
    assert "IndexError" in widget.problem and len(answered) == 2


def test_transformers_logs_nothing_from_a_widget(model, tokenizer, few_tokens, caplog):
    from transformers.utils.logging import get_verbosity, warning_once

    warning_once.cache_clear()
    level = get_verbosity()
    Padding(model, tokenizer, TEXTS).texts = "a\nb c"
    assert not caplog.records and get_verbosity() == level


def test_text_of_a_reader_is_no_markup(model, tokenizer):
    script = "</script><script>alert(1)</script> & <b>"
    widget = ChatTemplate(model, tokenizer, [{"role": "user", "content": script}])
    html = widget._repr_mimebundle_()[0]["text/html"]
    assert "alert(1)" in html and "<script>alert" not in html and html.count("</script>") == 1
    assert state(html)["turns"][0]["content"] == script


def luminance(colour: str) -> float:
    channels = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]


def test_letters_in_boxes_can_be_read_in_both_themes():
    style = json.loads(re.search(r"^const STYLE = (.+);$", Length._esm, flags=re.MULTILINE)[1])
    for name in [*STYLES, "chosen", "changed"]:
        rule = re.search(rf"^\.{name} {{(.*?)}}", style, flags=re.DOTALL | re.MULTILINE)[1]
        ink = luminance(re.search(r"(?<![\w-])color: (#\w+)", rule)[1])
        ground = re.search(r"background: ([^;]+)", rule)[1]
        if variable := re.match(r"var\((.+)\)", ground):
            ground = re.search(rf"{variable[1]}: ([^;}}]+)", style)[1]
        assert (grounds := re.findall(r"#\w+", ground))
        for ground in grounds:
            lighter, darker = sorted([luminance(ground), ink], reverse=True)
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, f"{name}: {ink} on {ground}"
