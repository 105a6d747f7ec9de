"""In a language that is written from right to left: what is read, and in which order."""

import importlib

import pytest

from pitfalls import pictures
from pitfalls.language import END, FROM_LEFT, FROM_RIGHT, ISOLATE
from pitfalls.pictures import drawing
from pitfalls.pictures.drawing import short
from tests.pictures.reading import boxes, check, names, seen, title


@pytest.fixture
def from_right(monkeypatch):
    language = importlib.import_module("pitfalls.language")
    monkeypatch.setattr(language, "right_to_left", lambda: True)
    monkeypatch.setattr(drawing, "right_to_left", lambda: True)


def whole(text: str, *code: str) -> str:
    for part in code:
        text = text.replace(part, f"{FROM_LEFT}{part}{END}")
    text = text.replace(ISOLATE, FROM_LEFT)  # matplotlib wants to be told
    return f"{FROM_RIGHT}{text}{END}"


TITLES = {
    "`top_k=3` بعد القطع (3)": ["`top_k=3`"],
    "4-bit يكلّف 45% أكثر": ["4-bit", "45%"],
    "بعد do_sample=True، (fp32)": ["do_sample=True", "fp32"],
    f"يقف عند max_length={ISOLATE}6{END}.": [f"max_length={ISOLATE}6{END}"],
    "هبط إلى -2 على 16 GB": ["-2", "16 GB"],
}


@pytest.mark.parametrize("text", TITLES)
def test_a_title_is_read_from_the_right_and_its_code_from_the_left(text, from_right):
    figure = check(pictures.memory({"fp32": 2_000_000}, text))
    assert title(figure) == whole(text, *TITLES[text]) and figure.alt.startswith(text)
    check(figure)
    assert title(figure) == whole(text, *TITLES[text]), "drawn twice"
    assert figure._suptitle.get_ha() == "right"


def test_names_are_read_from_the_right_in_letters_that_can_be_read(from_right):
    figure = check(pictures.bars({"قبل 4-bit": 1, "fp32": 2}, "T"))
    assert names(figure) == [whole("قبل 4-bit", "4-bit"), "fp32"]
    figure = check(pictures.curves({"a": (["قبل", "x"], [1, 2])}, "T", "x", "y"))
    first, second = figure.axes[0].get_xticklabels()
    assert first.get_text() == whole("قبل") and first.get_fontfamily()[0] == "sans-serif"
    assert second.get_text() == "x" and second.get_fontfamily() == ["monospace"]


def test_tokens_keep_the_order_of_the_model(tokenizer, from_right):
    chat = check(pictures.chat(tokenizer, [{"role": "user", "content": "Hi مرحبا"}]))
    assert "Hi·مرحبا" in seen(check(chat))
    strip = check(pictures.token_strip(tokenizer("a (مر").input_ids, tokenizer))
    assert [text for text, *_ in boxes(strip.axes[0])][:2] == ["a", "·("]


def test_in_english_nothing_is_turned():
    assert title(pictures.memory({"fp32": 2_000_000}, "قبل")) == "قبل"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abcd", "abcd"),
        ("abcde", "abc…"),
        (f"ab{ISOLATE}cd{END}", f"ab{ISOLATE}cd{END}"),
        (f"a{ISOLATE}bcd{END}e", f"a{ISOLATE}bc…{END}"),
        (f"a{ISOLATE}bc{END}de", f"a{ISOLATE}bc{END}…"),
    ],
)
def test_a_text_that_is_cut_leaves_nothing_open(text, expected):
    assert short(text, 4) == expected
