"""What holds for every rule, and for every format of a chat."""

import copy
import re
from pathlib import Path

import pytest

import pitfalls
from pitfalls.inspector.call import Call
from pitfalls.inspector.chat_format import chat_format
from pitfalls.inspector.checking import RULES
from pitfalls.inspector.report import SEVERITIES
from tests.helpers import END
from tests.inspector.rules.calls import (
    AGAIN,
    ASK,
    ASKED,
    BEGUN,
    BOS,
    CHATML,
    CHATS,
    COMPLETIONS,
    FACTS,
    FI,
    FORMATS,
    FORMATS_OF_BASE_MODELS,
    LESSONS,
    TALE,
    bare,
    chat_of,
    prefilled,
    rules,
    text_of,
    with_template,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


# --- the rules together -----------------------------------------------------------------------------------------


def test_each_rule_has_its_section_beside_this_file():
    files = Path(__file__).parent.glob("test_*.py")
    heads = [head for file in files for head in re.findall(r"(?m)^# --- ([a-z0-9-]+) -+$", file.read_text("utf-8"))]
    assert sorted(heads) == sorted(RULES)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_well_formed(name):
    rule = RULES[name]
    assert rule.look.__name__.replace("_", "-") == rule.name == name
    assert rule.severity in SEVERITIES
    assert rule.lesson in LESSONS
    assert re.fullmatch(r"https://[^\s]+\.[^\s]+", rule.source)
    assert len(rule.summary) <= 120 and rule.summary.endswith(".")
    assert not re.search(r"[.!?] [A-Z]", rule.summary), "one sentence"
    assert len(rule.story.splitlines()) > 2 and not rule.story.splitlines()[1], "a sentence, then why"


@pytest.mark.parametrize("name", RULES)
def test_a_rule_has_its_story_where_python_drops_docstrings(name, monkeypatch):
    """As `python -OO` does."""
    told = RULES[name].story
    monkeypatch.setattr(RULES[name].look, "__doc__", None)
    assert RULES[name].story == told and RULES[name].summary == told.splitlines()[0]


@pytest.mark.parametrize("name", RULES)
def test_a_rule_says_nothing_about_nothing(name):
    assert RULES[name](Call()) is None


@pytest.mark.parametrize("role", ["unk_token", "bos_token"])
def test_a_special_token_that_is_an_empty_text(role, model, tokenizer, caplog):
    """In transformers 5.23 such a tokenizer recurses for ever when it is asked for `unk_token_id`."""
    odd = copy.deepcopy(tokenizer)
    setattr(odd, role, "")
    inputs = tokenizer(
        ["1, 2, 3?", "What is the capital of France?"], padding=True, padding_side="right", return_tensors="pt"
    )
    for asked in (tokenizer, odd):
        with pitfalls.watch(model, asked) as calls:
            output = model.generate(**inputs, max_new_tokens=1)
            asked.decode(output[0], skip_special_tokens=True)
        found = pitfalls.check(model, asked, inputs).rules
        assert {"padding-side", "prompt-template", "length"} <= found
        assert {"padding-side", "prompt-template"} <= calls[0].report.rules
    assert not [record for record in caplog.records if record.name == "pitfalls"]


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("name", FORMATS)
def test_a_correct_chat_is_silent_in_every_format(name, chat, speaker):
    tokenizer, model = speaker(name)
    assert not rules(model, tokenizer, chat_of(tokenizer, CHATS[chat]))
    again = tokenizer(text_of(tokenizer, CHATS[chat], add_generation_prompt=True), add_special_tokens=False)
    assert not rules(model, tokenizer, again.convert_to_tensors("pt", prepend_batch_axis=True))


@pytest.mark.parametrize("name", FORMATS)
def test_a_padded_batch_of_chats_is_silent_in_every_format(name, speaker):
    tokenizer, model = speaker(name)
    batch = chat_of(tokenizer, [ASKED, AGAIN, TALE], padding=True)
    assert 0 in batch["attention_mask"], "the case needs padding"
    assert not rules(model, tokenizer, batch)


@pytest.mark.parametrize("name", FORMATS)
def test_an_answer_that_the_caller_began_is_silent_in_every_format(name, speaker):
    tokenizer, model = speaker(name)
    assert not rules(model, tokenizer, prefilled(tokenizer, BEGUN), max_new_tokens=50)


@pytest.mark.parametrize("text", COMPLETIONS.values(), ids=COMPLETIONS)
@pytest.mark.parametrize("name", ["llama-3", "qwen", "mistral", "zephyr", "alpaca", "dialogpt"])
def test_completing_a_text_is_silent_with_a_chat_model(name, text, speaker):
    tokenizer, model = speaker(name)
    assert not rules(model, tokenizer, bare(tokenizer, text))


@pytest.mark.parametrize("text", [*COMPLETIONS.values(), "What is the capital of France?", "Write a poem."])
@pytest.mark.parametrize("name", FORMATS_OF_BASE_MODELS)
def test_a_base_model_takes_any_text(name, text, speaker):
    own, model = speaker(name)
    assert not rules(model, own, bare(own, text))
    assert not rules(model, own, bare(own, text, "1, 2, 3, 4, 5, 6, 7, 8, 9, " * 3 + "10"))


# --- the format of a chat ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_the_format_is_read_from_the_template(name, speaker):
    tokenizer, _ = speaker(name)
    chat = chat_format(tokenizer)
    end = tokenizer.convert_ids_to_tokens(chat.end_id)
    assert (chat.header, chat.user_open, chat.user_close, chat.answer_close, end) == FACTS[name]
    assert bool(chat) is (name != "dialogpt")
    assert chat.ignores_header is False
    assert tokenizer.decode(chat.header_ids) == chat.header
    _, bos, _, others, adds_bos = FORMATS[name]
    assert chat.open_ids == {tokenizer.convert_tokens_to_ids(token) for token in others if token in chat.user_open} | (
        {BOS} if "<|im_start|>" in chat.user_open else set()
    )
    assert chat.adds_bos is adds_bos
    assert chat.starts_with_bos is (bos is not None and text_of(tokenizer, ASKED).startswith(bos))


def test_the_format_of_the_embedded_tokenizer(tokenizer):
    chat = chat_format(tokenizer)
    assert (chat.header, chat.user_open, chat.end_id) == ("<|im_start|>assistant\n", "<|im_start|>user\n", END)
    assert (chat.open_ids, chat.adds_bos, chat.starts_with_bos) == ({BOS}, False, True)


def test_no_template_no_format(tokenizer):
    chat = chat_format(with_template(tokenizer, None))
    assert not chat and chat.template == chat.header == "" and chat.end_id is None


@pytest.mark.parametrize("template", ["{{ raise_exception('never') }}", "{% broken", "{{ messages[7].content }}"])
def test_a_template_that_cannot_be_rendered_is_no_format(template, tokenizer, tiny):
    other = with_template(tokenizer, template)
    assert not chat_format(other)
    assert not rules(tiny, other, bare(other, "What is the capital of France?"))


def test_a_template_that_writes_a_header_only_before_answers(tokenizer):
    chat = chat_format(with_template(tokenizer, CHATML.replace(ASK + "<|im_start|>assistant\n" + FI, "")))
    assert (chat.header, chat.ignores_header) == ("<|im_start|>assistant\n", True)


def test_a_template_that_takes_one_turn_only(tokenizer):
    one = "{% if messages | length > 1 %}{{ raise_exception('one turn') }}{% endif %}"
    chat = chat_format(with_template(tokenizer, one + CHATML))
    assert chat.header == "<|im_start|>assistant\n" and chat.user_close == "<|im_end|>\n" and chat


def test_the_format_follows_a_new_template_and_new_tokens(tokenizer):
    own = copy.deepcopy(tokenizer)
    assert chat_format(own).user_open == "<|im_start|>user\n"
    own.chat_template = FORMATS["zephyr"][0]
    assert chat_format(own).user_open == "<|user|>\n" and not chat_format(own).open_ids
    own.add_tokens(["<|user|>"], special_tokens=True)
    assert chat_format(own).open_ids == {own.convert_tokens_to_ids("<|user|>")}
    own.chat_template = None
    assert not chat_format(own)
