"""The rules of pitfalls/inspector/rules/template.py: a section for each, in their order."""

import functools

import pytest
import torch

import pitfalls
from pitfalls.inspector.call import Call
from pitfalls.inspector.checking import RULES
from pitfalls.inspector.conversation import Conversation
from tests.helpers import END
from tests.inspector.rules.calls import (
    AGAIN,
    ANSWERED,
    ASK,
    ASKED,
    BEGUN,
    CHATML,
    CHATS,
    FACTS,
    FI,
    MARKED,
    NO_HEADER,
    TALE,
    THINKING,
    after_fix,
    bare,
    chat_of,
    copied,
    rules,
    text_of,
    watched,
    with_template,
)
from tests.inspector.rules.prompts import ASKED_BARE, ASKED_LATER, COMPLETED, COMPLETED_LATER

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


# --- prompt-template --------------------------------------------------------------------------------------------

QUESTIONS = {
    "english": "What is the capital of France?",
    "arabic": "ما هي عاصمة فرنسا؟",
    "chinese": "法国的首都是哪里？",
    "french": "Quelle est la capitale de la France ?",
    "spanish": "¿Cuál es la capital de Francia?",
    "brackets": "Who wrote Hamlet (and when?)",
    "instruction": "Write a poem about spring.",
    "no full stop": "Explain Newton's laws to a child",
    "to translate": "Translate to French: Good morning",
    "please": "Please translate this into German: good morning",
    "how to": "How to boil an egg",
    "persona": "You are a helpful assistant. Say hello.",
    "long": "The cat sat on the mat. " * 60 + "Who sat on the mat?",
    "long instruction": "Summarize this text. " + "The cat sat on the mat. " * 60,
    "choices": "Question: Which is a city?\nA. Paris\nB. France\nAnswer:",
}


SURE = ("english", "arabic", "chinese", "french", "spanish", "brackets")  # one sentence that is a question


@pytest.mark.parametrize("name", QUESTIONS)
def test_prompt_template_is_missing_around_a_question(name, tiny, tokenizer):
    text = QUESTIONS[name]
    finding = rules(tiny, tokenizer, bare(tokenizer, text))["prompt-template"]
    assert finding.severity == ("warning" if name in SURE else "note")
    assert finding.message.startswith("The prompt asks" if name in SURE else "The prompt looks like a")
    assert "Row 1" in rules(tiny, tokenizer, bare(tokenizer, "1, 2, 3", text))["prompt-template"].message
    assert not rules(tiny, tokenizer, chat_of(tokenizer, [{"role": "user", "content": text}]))


@pytest.mark.parametrize("name", MARKED)
def test_prompt_template_is_missing_in_every_format(name, speaker):
    own, model = speaker(name)
    assert set(rules(model, own, bare(own, QUESTIONS["english"]))) == {"prompt-template"}


LOOK_LIKE_QUESTIONS = [
    "How to Train Your Dragon is a 2010 film",
    "Please Please Me is the first album of",
    "Help wanted: an experienced baker who",
    "You are the sunshine of my life",
    "What a day it was! We",
    "What is more, the",
    "Who is who in the",
    "Name: John\nAge:",
    "Name of the Rose is a novel by",
    "List of colors: red,",
    "Calculate the sum of",
    "Describe Paris in",
    "Define directives in Angular as",
    "Tell-tale signs of",
    "Translate English to French:\nsea otter => loutre de mer\ncheese =>",
    "Solve for x: 2x = 4. x =",
    "Why is the sky blue? The sky is blue because",
    "Q: What is 2 + 2?\nA: 4\nQ: What is 3 + 3?\nA:",
    'She opened the door. "Who is there?"',
    "她打开门。“谁在那里？”",
    "# What does this do?\ndef add(a, b):",
    "def explain(text):",
    "1. What is new?\n2.",
]


@pytest.mark.parametrize("text", LOOK_LIKE_QUESTIONS)
def test_a_text_to_complete_is_no_question(text, tiny, tokenizer):
    assert not rules(tiny, tokenizer, bare(tokenizer, text))


def test_prompt_template_where_the_model_ends_at_once(tiny, tokenizer):
    statement = bare(tokenizer, "The weather is nice today.", "1, 2, 3")
    found = watched(tiny, tokenizer, statement, [END], [81, 82, END])["prompt-template"]
    assert "Row 0" in found.message and "ended the turn at once" in found.message and found.severity == "warning"
    assert "prompt-template" in watched(tiny, tokenizer, statement, "?<|im_end|>", [81]), "nothing is said"
    assert "prompt-template" not in watched(tiny, tokenizer, statement, [81, END], [81, 82, END])
    assert "prompt-template" not in watched(tiny, tokenizer, statement, [END], [81], max_new_tokens=1)
    assert "prompt-template" not in watched(tiny, with_template(tokenizer, None), statement, [END], [END])


def test_the_real_model_says_nothing_to_a_bare_question(model, tokenizer):
    found = watched(model, tokenizer, bare(tokenizer, QUESTIONS["english"]))
    assert "ended the turn at once" in found["prompt-template"].message
    assert "prompt-template" not in watched(model, tokenizer, bare(tokenizer, "The capital of France is"))


def test_a_choice_of_which_the_scores_are_read(model, tokenizer):
    choice = bare(tokenizer, "Question: What colour is the sky?\nA. red\nB. blue\nAnswer:")
    assert "prompt-template" not in watched(model, tokenizer, choice, max_new_tokens=1)
    assert "at once" in watched(model, tokenizer, choice, max_new_tokens=4)["prompt-template"].message


@functools.cache
def severities(model, tokenizer, asked: bool) -> tuple[list[str], list[str]]:
    """What the rule says of each bare text before the call, and after two tokens of the real model."""
    before, after = [], []
    for text in ASKED_BARE + ASKED_LATER if asked else COMPLETED + COMPLETED_LATER:
        inputs = bare(tokenizer, text)
        for found, kept in (
            (rules(model, tokenizer, inputs), before),
            (watched(model, tokenizer, inputs, max_new_tokens=2), after),
        ):
            kept.append(found["prompt-template"].severity if "prompt-template" in found else "")
    return before, after


def test_how_many_bare_requests_are_seen(model, tokenizer):
    before, after = severities(model, tokenizer, True)
    assert len(after) == 108
    assert before.count("warning") >= 33 and before.count("") <= 25
    assert after.count("warning") >= 60 and after.count("") <= 19


def test_how_few_texts_to_go_on_with_are_taken_for_requests(model, tokenizer):
    before, after = severities(model, tokenizer, False)
    assert len(after) == 123
    assert before.count("warning") == 0 and before.count("note") <= 5
    assert after.count("warning") <= 3, "of these, which end in 'Answer:', the model says nothing: that is worth saying"
    assert after.count("note") <= 3


# --- generation-prompt ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("name", [name for name in MARKED if name not in NO_HEADER])
def test_generation_prompt_is_missing_in_every_format_that_has_one(name, chat, speaker):
    own, model = speaker(name)
    finding = rules(model, own, chat_of(own, CHATS[chat], add_generation_prompt=False))["generation-prompt"]
    assert finding.severity == "error" and repr(FACTS[name][0]) in finding.message
    assert "does not end in" in finding.message


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("name", [*NO_HEADER, "dialogpt"])
def test_generation_prompt_is_not_missed_where_the_template_writes_none(name, chat, speaker):
    own, model = speaker(name)
    assert not rules(model, own, chat_of(own, CHATS[chat], add_generation_prompt=False))


@pytest.mark.parametrize("name", MARKED)
def test_generation_prompt_behind_a_finished_answer(name, speaker):
    own, model = speaker(name)
    finding = rules(model, own, chat_of(own, ANSWERED, add_generation_prompt=False))["generation-prompt"]
    assert "finished assistant turn" in finding.message


OPEN_AGAIN = ("alpaca", "vicuna")  # letters alone: a second turn of the assistant is not seen


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("chat", [BEGUN, ANSWERED], ids=["begun", "answered"])
@pytest.mark.parametrize("name", MARKED)
def test_the_fix_of_generation_prompt_behind_an_answer(name, chat, opened, speaker):
    own, model = speaker(name)
    found = rules(model, own, chat_of(own, chat, add_generation_prompt=opened))
    if "generation-prompt" in found:
        assert not after_fix(model, own, found["generation-prompt"], chat)
    else:
        assert opened and name in (*NO_HEADER, *OPEN_AGAIN)


def test_generation_prompt_that_the_template_ignores(tiny, tokenizer):
    own = with_template(tokenizer, CHATML.replace(ASK + "<|im_start|>assistant\n" + FI, ""))
    finding = rules(tiny, own, chat_of(own, ASKED))["generation-prompt"]
    assert "ignores add_generation_prompt" in finding.message
    assert not after_fix(tiny, own, finding)


def test_generation_prompt_of_one_row_among_others(tiny, tokenizer):
    texts = [text_of(tokenizer, ASKED, add_generation_prompt=True), text_of(tokenizer, AGAIN)]
    assert "Row 1" in rules(tiny, tokenizer, bare(tokenizer, *texts))["generation-prompt"].message


@pytest.mark.parametrize("name", THINKING)
def test_generation_prompt_without_the_thought_is_on_purpose(name, speaker):
    own, model = speaker(name)
    header = FACTS[name][0].removesuffix("<think>\n")
    text = text_of(own, ASKED) + header
    inputs = own(text, add_special_tokens=False, return_tensors="pt")
    assert not set(rules(model, own, inputs)) & {"generation-prompt", "truncated-prompt", "handwritten-template"}


# --- truncated-prompt -------------------------------------------------------------------------------------------


CLOSED = [name for name in MARKED if FACTS[name][2].strip()]


@pytest.mark.parametrize("chat", [ASKED, TALE], ids=["short", "long"])
@pytest.mark.parametrize("name", CLOSED)
def test_truncated_prompt(name, chat, speaker):
    own, model = speaker(name)
    whole = text_of(own, chat)
    text = whole[: whole.rfind("mat" if chat is TALE else "France")]
    length = len(own(text, add_special_tokens=False)["input_ids"])
    cut = {"add_special_tokens": False, "truncation": True, "max_length": length, "return_tensors": "pt"}
    finding = rules(model, own, own(whole, **cut))["truncated-prompt"]
    assert finding.severity == "error" and repr(FACTS[name][2].strip()) in finding.message
    assert f"at {length} tokens" in finding.message


@pytest.mark.parametrize("name", CLOSED)
def test_a_users_turn_that_is_left_open_on_purpose(name, speaker):
    """To let the model make up questions, or finish what a user types."""
    own, model = speaker(name)
    whole = text_of(own, ASKED)
    for end in (whole.rfind("What"), whole.rfind("capital") - 1):
        inputs = own(whole[:end], add_special_tokens=False, return_tensors="pt")
        assert not set(rules(model, own, inputs)) & {"truncated-prompt", "generation-prompt", "prompt-template"}


def test_a_question_in_a_turn_that_never_ends(tiny, model, tokenizer):
    asked = bare(tokenizer, "<|im_start|>user\nWhat is the capital of France?")
    assert rules(tiny, tokenizer, asked)["truncated-prompt"].severity == "warning"
    asked = bare(tokenizer, "<|im_start|>user\nWhat is the capital of France")
    assert "truncated-prompt" not in rules(tiny, tokenizer, asked)


def test_truncated_prompt_of_a_chat_that_was_heard(tiny, tokenizer):
    text = text_of(tokenizer, TALE, add_generation_prompt=True)
    inputs = {"input_ids": bare(tokenizer, text)["input_ids"][:, :77]}
    call = Call(tiny, tokenizer, inputs, conversations=[Conversation(TALE, {}, tokenizer.chat_template, text)])
    finding = RULES["truncated-prompt"](call)
    assert finding.severity == "error" and "characters of the chat are not in it" in finding.message


@pytest.mark.parametrize("name", MARKED)
def test_a_chat_cut_at_its_beginning_or_inside_is_not_cut_at_its_end(name, speaker):
    own, model = speaker(name)
    whole = chat_of(own, TALE)["input_ids"]
    shorter = {"input_ids": torch.cat([whole[:, :20], whole[:, 120:]], dim=1)}
    assert "truncated-prompt" not in rules(model, own, shorter)
    assert "truncated-prompt" not in rules(model, own, whole[:, 30:])


def test_truncation_by_the_tokenizer_keeps_the_end_on_request(tiny, tokenizer):
    own = copied(tokenizer)
    options = {"truncation": True, "max_length": 80}
    assert "truncated-prompt" in rules(tiny, own, chat_of(own, TALE, **options))
    own.truncation_side = "left"
    assert "truncated-prompt" not in rules(tiny, own, chat_of(own, TALE, **options))


def test_a_chat_whose_ids_are_cut_by_hand(tiny, tokenizer):
    with pitfalls.watch(tiny, tokenizer) as calls:
        whole = chat_of(tokenizer, ASKED)["input_ids"]
        tiny.generate(whole[:, :-8], max_new_tokens=2)
        finding = {finding.rule: finding for finding in calls[-1].report}["truncated-prompt"]
        opened = text_of(tokenizer, ASKED).partition("What")[0]
        tiny.generate(**bare(tokenizer, opened), max_new_tokens=2)
    assert finding.severity == "error" and "truncated-prompt" not in calls[-1].report.rules


# --- handwritten-template ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("<|im_start|>user Hello<|im_end|>\n<|im_start|>assistant\n", r"<|im_start|>user\n"),
        ("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant", r"<|im_start|>assistant\n"),
        ("<|im_start|>userHello<|im_end|>\n<|im_start|>assistant\n", r"<|im_start|>user\n"),
        ("<|im_start|>user\n" + "The cat sat. " * 60 + "<|im_end|>\n<|im_start|>assistant", r"<|im_start|>assistant\n"),
    ],
)
def test_handwritten_template(text, named, tiny, tokenizer):
    finding = rules(tiny, tokenizer, bare(tokenizer, text))["handwritten-template"]
    assert finding.severity == "warning" and named in finding.message


def test_handwritten_template_of_llama_3(speaker):
    own, model = speaker("llama-3")
    text = text_of(own, ASKED, add_generation_prompt=True)
    for wrong in (text.replace("\n\n", "\n"), text.removesuffix("\n\n")):
        assert "handwritten-template" in rules(model, own, own(wrong, add_special_tokens=False, return_tensors="pt"))


@pytest.mark.parametrize(
    "text",
    [
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n\n Hello<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nHello! I",
    ],
)
def test_written_by_hand_and_exact(text, tiny, tokenizer):
    assert not rules(tiny, tokenizer, bare(tokenizer, text))
