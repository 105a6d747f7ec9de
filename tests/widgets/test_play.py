"""What all widgets share: a picture of their state, errors that they keep to themselves, text that is no markup."""

import base64
import io
import re

import ipywidgets
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from pitfalls.pictures.drawing import STYLES
from pitfalls.widgets import ChatTemplate, Length, Loop, NextToken, Padding, markup
from tests.widgets.reading import CAPITAL, TEXTS, said, status


@pytest.fixture(scope="module")
def widgets(model, tokenizer, counting) -> list:
    return [
        NextToken(model, tokenizer),
        Length(counting, tokenizer),
        Padding(model, tokenizer, TEXTS),
        ChatTemplate(model, tokenizer, CAPITAL),
        Loop(model, tokenizer, "A list of colors: red, blue", max_new_tokens=5),
    ]


def test_the_first_state_is_a_picture_with_alt_text(widgets):
    for widget in widgets:
        data, metadata = widget._repr_mimebundle_()
        assert "application/vnd.jupyter.widget-view+json" in data
        picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
        assert picture.width >= 800
        assert metadata["image/png"]["alt"] == widget.summary() and widget.summary() in data["text/plain"]
        assert widget.summary() in said(widget), "live and still say the same"
        numbers = re.findall(r"[\d.]+%", widget.summary())
        title = widget.figure().get_suptitle()
        assert all(number in title for number in numbers if number != "33%"), title


def test_errors_are_said_in_the_widget(model, tokenizer):
    for make in (NextToken, Loop):
        widget = make(model, tokenizer, "")
        assert 'role="alert"' in status(widget) and "The prompt is empty" in status(widget)
        assert not widget.view.value and "image/png" not in widget._repr_mimebundle_()[0]
        widget.prompt.value = "word " * 8200
        assert re.search(r"8,2\d\d tokens; the model's window is 8,192", status(widget))
        for control in widget.controls:
            if isinstance(control, ipywidgets.Button):
                control.click()
        assert 'role="alert"' in status(widget)
        widget.prompt.value = "I am"
        assert not status(widget) and widget.view.value
    widget = Padding(model, tokenizer, [])
    assert "There is no text" in status(widget)
    widget.texts.value = "a\n" + "word " * 8200
    assert "the model's window is 8,192" in status(widget)
    widget = ChatTemplate(model, tokenizer, [{"role": "user", "content": "  "}])
    assert "The user message is empty" in status(widget)
    widget.turns[0][1].value = "word " * 8200
    assert "the model's window is 8,192" in status(widget)


def test_a_click_that_needs_the_model_says_so_and_locks_the_controls(model, tokenizer, few_tokens, monkeypatch):
    widget = Padding(model, tokenizer, TEXTS)
    seen, original = [], model.generate

    def generate(*args, **kwargs):
        seen.append((widget.status.value, [control.disabled for control in widget.controls]))
        return original(*args, **kwargs)

    monkeypatch.setattr(model, "generate", generate, raising=False)
    widget.side.value = "right"
    assert len(seen) == 1 and "at work" in seen[0][0] and all(seen[0][1])
    assert not widget.status.value and not any(control.disabled for control in widget.controls)


def test_a_model_that_fails_leaves_the_widget_alive(model, tokenizer, few_tokens, monkeypatch):
    widget = Padding(model, tokenizer, TEXTS)

    def fail(*args, **kwargs):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(model, "generate", fail, raising=False)
        widget.side.value = "right"
    assert "RuntimeError: out of memory" in widget.status.value
    assert not any(control.disabled for control in widget.controls)
    widget.mask.value = "all ones"
    widget.mask.value = "tokenizer's"
    assert "1 of 2 rows" in said(widget), "the failure was not kept as an answer"


def test_transformers_logs_nothing_from_a_widget(model, tokenizer, few_tokens, caplog):
    from transformers.utils.logging import get_verbosity, warning_once

    warning_once.cache_clear()
    level = get_verbosity()
    Padding(model, tokenizer, TEXTS).side.value = "right"
    assert not caplog.records and get_verbosity() == level


def test_text_of_a_reader_is_no_markup(model, tokenizer):
    script = "<script>alert(1)</script> & <b>"
    widget = ChatTemplate(model, tokenizer, [{"role": "user", "content": script}])
    assert "<script>" not in widget.view.value and script in said(widget)
    assert "<b>x" not in markup.boxes([("<b>x", "new")]) + markup.bars([markup.Bar("<b>x", 0.5)])
    assert "<b>x" not in markup.problem("<b>x") + markup.summary("<b>x")


def luminance(colour: str) -> float:
    channels = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]


def test_letters_in_boxes_can_be_read_in_both_themes():
    for name in [*STYLES, "chosen", "changed"]:
        rule = re.search(rf"\.pf-{name} {{(.*?)}}", markup.STYLE, flags=re.DOTALL)[1]
        ink = luminance(re.search(r"(?<![\w-])color: (#\w+)", rule)[1])
        ground = re.search(r"background: ([^;]+)", rule)[1]
        if variable := re.match(r"var\((.+)\)", ground):
            ground = re.search(rf"{variable[1]}: ([^;}}]+)", markup.STYLE)[1]
        assert (grounds := re.findall(r"#\w+", ground))
        for ground in grounds:
            lighter, darker = sorted([luminance(ground), ink], reverse=True)
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, f"{name}: {ink} on {ground}"
