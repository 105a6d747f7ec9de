"""The rules of pitfalls/inspector/rules/text.py: a section for each, in their order."""

import pytest

import pitfalls
from tests.helpers import END, Script
from tests.inspector.rules.calls import AGAIN, ASKED, MARKED, bare, chat_of, rules, watched

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


# --- trailing-space ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["The capital of France is ", "def add(a, b): ", "عاصمة فرنسا هي ", "A cat  "])
def test_trailing_space(text, tiny, tokenizer):
    assert "The prompt ends in a space" in rules(tiny, tokenizer, bare(tokenizer, text))["trailing-space"].message
    assert "Row 1" in rules(tiny, tokenizer, bare(tokenizer, "1, 2", text))["trailing-space"].message
    assert "trailing-space" not in rules(tiny, tokenizer, bare(tokenizer, text.rstrip()))


@pytest.mark.parametrize(
    "text", ["A list:\n", "A list:\n\n", "A\ttab\t", "1, 2, 3, ", "x = 1 + ", "2 * 3 = ", "猫。", "a -"]
)
def test_no_space_or_a_number_to_come(text, tiny, tokenizer):
    assert not rules(tiny, tokenizer, bare(tokenizer, text))


@pytest.mark.parametrize("name", MARKED)
def test_the_end_of_a_header_is_no_trailing_space(name, speaker):
    own, model = speaker(name)
    assert "trailing-space" not in rules(model, own, chat_of(own, ASKED))


def test_trailing_space_after_the_call(tiny, tokenizer):
    inputs = bare(tokenizer, "The capital of France is ")
    assert "trailing-space" in watched(tiny, tokenizer, inputs, "Paris, the city of")
    assert "trailing-space" in watched(tiny, tokenizer, inputs, " Paris, the city of")


# --- prompt-echo ------------------------------------------------------------------------------------------------


def decoded(model, tokenizer, inputs, decode, *said: list[int]) -> dict:
    """The findings after `decode(output)`, inside `watch`."""
    with pitfalls.watch(model, tokenizer) as calls:
        output = model.generate(
            **inputs, max_new_tokens=4, logits_processor=[Script(inputs["input_ids"].shape[1], *said)]
        )
        decode(output)
    return {finding.rule: finding for finding in calls[-1].report}


def test_prompt_echo(tiny, tokenizer):
    chat = chat_of(tokenizer, ASKED)
    width = chat["input_ids"].shape[1]
    for decode in (
        lambda output: tokenizer.decode(output[0], skip_special_tokens=True),
        lambda output: tokenizer.batch_decode(output, skip_special_tokens=True),
        lambda output: tokenizer.decode(output[0].tolist()),
    ):
        assert f"its {width} tokens" in decoded(tiny, tokenizer, chat, decode, [80, 81, END])["prompt-echo"].message
    two = chat_of(tokenizer, [ASKED, AGAIN], padding=True)
    found = decoded(tiny, tokenizer, two, lambda output: tokenizer.decode(output[1]), [80, END], [81, END])
    assert "prompt-echo" in found


def test_prompt_echo_is_silent_where_the_prompt_is_cut_or_wanted(tiny, tokenizer):
    chat, text = chat_of(tokenizer, ASKED), bare(tokenizer, "1, 2, 3,")
    width = chat["input_ids"].shape[1]
    cut = lambda output: tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)  # noqa: E731
    assert "prompt-echo" not in decoded(tiny, tokenizer, chat, cut, [80, END])
    whole = lambda output: tokenizer.batch_decode(output, skip_special_tokens=True)  # noqa: E731
    assert "prompt-echo" not in decoded(tiny, tokenizer, text, whole, [80, END])
    prompt = lambda output: tokenizer.decode(chat["input_ids"][0])  # noqa: E731
    assert "prompt-echo" not in decoded(tiny, tokenizer, chat, prompt, [80, END])
    assert "prompt-echo" not in decoded(tiny, tokenizer, chat, lambda output: None, [80, END])


# --- special-tokens-kept ----------------------------------------------------------------------------------------


def test_special_tokens_kept(tiny, tokenizer):
    inputs = bare(tokenizer, "1, 2, 3,")
    width = inputs["input_ids"].shape[1]
    for decode in (
        lambda output: tokenizer.decode(output[0, width:]),
        lambda output: tokenizer.batch_decode(output[:, width:]),
        lambda output: tokenizer.decode(output[0]),
    ):
        found = decoded(tiny, tokenizer, inputs, decode, [80, 81, END])["special-tokens-kept"]
        assert found.severity == "note" and "'<|im_end|>'" in found.message


def test_special_tokens_skipped_absent_or_kept_on_purpose(tiny, tokenizer):
    inputs = bare(tokenizer, "1, 2, 3,")
    width = inputs["input_ids"].shape[1]
    for skip in (True, False):
        wanted = lambda output, skip=skip: tokenizer.decode(output[0, width:], skip_special_tokens=skip)  # noqa: E731
        assert "special-tokens-kept" not in decoded(tiny, tokenizer, inputs, wanted, [80, 81, END])
    plain = lambda output: tokenizer.decode(output[0, width:])  # noqa: E731
    assert "special-tokens-kept" not in decoded(tiny, tokenizer, inputs, plain, [80, 81])
    other = lambda output: tokenizer.decode([80, END])  # noqa: E731
    assert "special-tokens-kept" not in decoded(tiny, tokenizer, inputs, other, [90, 91, END])
