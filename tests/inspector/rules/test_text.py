"""The rules of pitfalls/inspector/rules/text.py: a section for each, in their order."""

import copy
import threading

import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration, TextIteratorStreamer, TextStreamer

import pitfalls
from tests.helpers import END, Script
from tests.inspector.rules.calls import (
    AGAIN,
    ASKED,
    MARKED,
    bare,
    chat_of,
    ids,
    rules,
    variant,
    watched,
)

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


def decoded(model, tokenizer, inputs, decode, *said: list[int], **settings) -> dict:
    """The findings after `decode(output)`, inside `watch`."""
    script = [Script(inputs["input_ids"].shape[1], *said)] if said else []
    with pitfalls.watch(model, tokenizer) as calls:
        output = model.generate(**inputs, **{"max_new_tokens": 4} | settings, logits_processor=script)
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
        assert f"{width} tokens" in decoded(tiny, tokenizer, chat, decode, [80, 81, END])["prompt-echo"].message
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


def test_prompt_echo_without_the_first_token_or_the_pads(tiny, tokenizer):
    chat, two = chat_of(tokenizer, ASKED), chat_of(tokenizer, [ASKED, AGAIN], padding=True)
    first = lambda output: tokenizer.decode(output[0][1:], skip_special_tokens=True)  # noqa: E731
    assert "prompt-echo" in decoded(tiny, tokenizer, chat, first, [80, END])
    pads = (two["attention_mask"][0] == 0).sum()
    unpadded = lambda output: tokenizer.decode(output[0][pads:], skip_special_tokens=True)  # noqa: E731
    found = decoded(tiny, tokenizer, two, unpadded, [80, END])
    assert "prompt-echo" in found and "batch_decode" in found["prompt-echo"].fix


def test_the_whole_output_beside_the_answer_is_for_a_log(tiny, tokenizer):
    chat = chat_of(tokenizer, ASKED)
    width = chat["input_ids"].shape[1]
    for starts in ((0, width), (width, 0)):
        both = lambda output: [tokenizer.decode(output[0, n:], skip_special_tokens=True) for n in starts]  # noqa
        assert "prompt-echo" not in decoded(tiny, tokenizer, chat, both, [80, END])
    whole = decoded(tiny, tokenizer, chat, lambda output: tokenizer.decode(output[0]), [80, END])
    assert whole["prompt-echo"].severity == "note", "who cuts the text later needs its markers"


def test_a_prompt_of_nothing_but_a_bos_is_no_echo(tiny, tokenizer):
    start = {"input_ids": torch.tensor([[1]]), "attention_mask": torch.tensor([[1]])}
    whole = lambda output: tokenizer.decode(output[0], skip_special_tokens=True)  # noqa: E731
    assert "prompt-echo" not in decoded(tiny, tokenizer, start, whole, [80, END])


def test_the_whole_output_with_its_markers_is_looked_at_on_purpose(tiny, tokenizer):
    log = lambda output: tokenizer.decode(output[0], skip_special_tokens=False)  # noqa: E731
    assert "prompt-echo" not in decoded(tiny, tokenizer, chat_of(tokenizer, ASKED), log, [80, END])


@pytest.mark.parametrize(("kind", "severity"), [(TextStreamer, "note"), (TextIteratorStreamer, "warning")])
def test_prompt_echo_of_a_streamer(kind, severity, tiny, tokenizer, capsys):
    chat, text = chat_of(tokenizer, ASKED), bare(tokenizer, "1, 2, 3,")
    plain = kind(tokenizer, skip_special_tokens=True)
    found = watched(tiny, tokenizer, chat, [80, END], streamer=plain)
    assert found["prompt-echo"].severity == severity and kind.__name__ in found["prompt-echo"].fix
    assert "prompt-echo" in rules(tiny, tokenizer, chat, streamer=plain)
    assert not watched(tiny, tokenizer, text, [504, END], streamer=kind(tokenizer, skip_special_tokens=True))
    skips = kind(tokenizer, skip_prompt=True, skip_special_tokens=True)
    assert not watched(tiny, tokenizer, chat, [80, END], streamer=skips)


def test_prompt_echo_of_a_streamer_in_a_thread(tiny, tokenizer):
    chat = chat_of(tokenizer, ASKED)
    with pitfalls.watch(tiny, tokenizer) as calls:
        streamer = TextIteratorStreamer(tokenizer, timeout=60)
        thread = threading.Thread(target=tiny.generate, kwargs={**chat, "streamer": streamer, "max_new_tokens": 4})
        thread.start()
        assert "".join(streamer).startswith("<|im_start|>")
        thread.join()
    assert "prompt-echo" in calls[-1].report.rules


def test_a_streamer_that_cuts_by_itself(tiny, tokenizer):
    class Answer(TextStreamer):
        def put(self, value):
            pass

        def end(self):
            pass

    assert not watched(tiny, tokenizer, chat_of(tokenizer, ASKED), [80, END], streamer=Answer(tokenizer))


# --- answer-cut -------------------------------------------------------------------------------------------------

PROMPT = "Q: What is the capital of France?\nA: Paris\nQ: What is the capital of Italy?\nA:"


def cut(model, tokenizer, inputs, take, *said, **settings):
    """What `answer-cut` says of the piece that `take(output)` decodes; None where it says nothing."""
    said = said or ([80, 81, 82, 83, 84, 85, END],)
    decode = lambda output: tokenizer.batch_decode(take(output), skip_special_tokens=True)  # noqa: E731
    return decoded(model, tokenizer, inputs, decode, *said, **{"max_new_tokens": 12} | settings).get("answer-cut")


@pytest.mark.parametrize("budget", [12, 120])
def test_answer_cut_in_characters(budget, tiny, tokenizer):
    inputs, said = bare(tokenizer, PROMPT), [80, 81, 82] * 60
    found = cut(tiny, tokenizer, inputs, lambda output: output[:, len(PROMPT) :], said, max_new_tokens=budget)
    assert "characters" in found.message and str(len(PROMPT)) in found.message
    width = inputs["input_ids"].shape[1]
    assert f"begins at token {width}, " in found.message or f"begins at {width}." in found.message


def test_answer_cut_at_the_length_of_the_question(tiny, tokenizer):
    inputs, question = chat_of(tokenizer, ASKED), ASKED[0]["content"]
    found = cut(tiny, tokenizer, inputs, lambda output: output[:, len(question) :])
    assert "tokens of the prompt come along" in found.message


def test_answer_cut_behind_the_row_for_another_reason(tiny, tokenizer):
    inputs = bare(tokenizer, "1, 2, 3,")
    for take in (lambda output: output[:, 500:], lambda output: output[0][500:][None]):
        assert "Nothing is decoded" in cut(tiny, tokenizer, inputs, take).message


def test_answer_cut_at_the_length_of_one_row(tiny, tokenizer):
    inputs = bare(tokenizer, "1, 2, 3, 4, 5, 6, 7, 8, 9,", "1, 2")
    assert inputs["attention_mask"][1, 0] == 0
    own = inputs["attention_mask"][1].sum().item()
    found = cut(tiny, tokenizer, inputs, lambda output: output[1:, own:])
    assert "length of row 1 without its pads" in found.message and "batch_decode" in found.fix
    assert "length of row 1" in cut(tiny, tokenizer, inputs, lambda output: output[:1, own:]).message
    lists = lambda output: [output[1].tolist()[own:]]  # noqa: E731
    assert "length of row 1" in cut(tiny, tokenizer, inputs, lists).message


def test_answer_cut_at_the_number_of_rows_or_entries(tiny, tokenizer):
    inputs = bare(tokenizer, "One, two, three, four,")
    entries = cut(tiny, tokenizer, inputs, lambda output: output[:, len(inputs) :])
    assert "cut at 2, which is the number of entries" in entries.message
    rows = cut(tiny, tokenizer, inputs, lambda output: output[:, len(inputs["input_ids"]) :])
    assert "cut at 1, which is the number of rows" in rows.message


def test_answer_cut_from_the_end(tiny, tokenizer):
    inputs = bare(tokenizer, PROMPT)
    last = lambda output: output[:, -12:]  # noqa: E731
    assert "12 tokens before the end" in cut(tiny, tokenizer, inputs, last).message
    assert cut(tiny, tokenizer, inputs, last, [80, 81, 82] * 4) is None, "as many were written"


def test_answer_cut_too_early(tiny, tokenizer):
    inputs = bare(tokenizer, "1, 2, 3,")
    width = inputs["input_ids"].shape[1]
    said = tokenizer(" one two three four five six seven eight nine ten eleven twelve").input_ids
    found = cut(tiny, tokenizer, inputs, lambda output: output[:, width:12], said)
    assert found.severity == "warning" and f"counts the prompt's {width} tokens" in found.message
    some = cut(tiny, tokenizer, inputs, lambda output: output[:, width : width + 5], said)
    assert some.severity == "note" and "5 of 12 new tokens" in some.message
    long = bare(tokenizer, PROMPT)
    start = long["input_ids"].shape[1]
    assert "ends before it" in cut(tiny, tokenizer, long, lambda output: output[:, start:12], said).message


RIGHT_CUTS = {
    "the whole row": lambda output, start: output,
    "the new tokens": lambda output, start: output[:, start:],
    "as lists": lambda output, start: [row[start:] for row in output.tolist()],
    "without the end token": lambda output, start: output[:, start:-1],
    "the first token": lambda output, start: output[:, start : start + 1],
    "the last token": lambda output, start: output[:, -1:],
    "one token at a time": lambda output, start: output[0, start:, None],
    "the last two tokens": lambda output, start: output[:, -2:],
    "the prompt": lambda output, start: output[:, :start],
    "other ids": lambda output, start: torch.tensor([[90, 91, 92]]),
    "a copy": lambda output, start: output[:, start:].clone(),
    "no rows": lambda output, start: output[:0],
}  # fmt: skip


@pytest.mark.parametrize("take", RIGHT_CUTS.values(), ids=RIGHT_CUTS)
def test_answer_cut_is_silent_where_the_cut_is_right(take, tiny, tokenizer):
    for inputs in (bare(tokenizer, PROMPT), chat_of(tokenizer, ASKED)):
        assert cut(tiny, tokenizer, inputs, lambda output, n=inputs["input_ids"].shape[1]: take(output, n)) is None


def test_answer_cut_is_silent_for_a_sentence_or_a_line(tiny, tokenizer):
    inputs = bare(tokenizer, "1, 2, 3,")
    width = inputs["input_ids"].shape[1]
    for text in (" one two.", " one two\n"):
        whole = tokenizer(text + "Three four five.").input_ids
        end = width + len(tokenizer(text).input_ids)
        assert cut(tiny, tokenizer, inputs, lambda output, n=end: output[:, width:n], whole) is None


@pytest.mark.parametrize("end", ["Paris.", ""])
def test_answer_cut_is_silent_behind_the_thoughts(end, speaker):
    """As Qwen's model cards do: both parts are decoded, also where one of them is empty."""
    own, model = speaker("qwq")
    inputs = chat_of(own, ASKED)
    width, close = inputs["input_ids"].shape[1], own.convert_tokens_to_ids("</think>")
    said = [*own("A city.").input_ids, close, *(own(end).input_ids or [])]
    for take in (lambda output, n: output[:, n:], lambda output, n: output[:, width:n]):
        for place in (width + said.index(close) + 1, width):
            assert cut(model, own, inputs, lambda o, t=take, n=place: t(o, n), said, max_new_tokens=len(said)) is None


@pytest.mark.parametrize("name", ["qwen", "llama-3", "mistral", "zephyr"])
def test_answer_cut_is_silent_with_a_beginning_of_the_caller(name, speaker):
    own, model = speaker(name)
    text = own.apply_chat_template(ASKED, tokenize=False, add_generation_prompt=True)
    header = own(text, add_special_tokens=False, return_tensors="pt")["input_ids"].shape[1]
    inputs = own(text + "The capital is", add_special_tokens=False, return_tensors="pt")
    assert cut(model, own, inputs, lambda output: output[:, header:]) is None


def test_answer_cut_is_silent_for_a_text_that_is_wanted_without_its_bos_or_pads(speaker):
    own, model = speaker("llama")
    inputs = bare(own, "One, two, three, four, five,", "One, two")
    pads = (inputs["attention_mask"][1] == 0).sum()
    assert cut(model, own, inputs, lambda output: output[1:, pads:]) is None
    assert cut(model, own, bare(own, "One, two, three, four,"), lambda output: output[:, 1:]) is None


# --- lost-marker ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def caller(tokenizer, tiny):
    """A tokenizer whose tool marker and end of thoughts are special tokens, and their ids."""
    own = copy.deepcopy(tokenizer)
    own.add_tokens(["<|python_tag|>", "</think>"], special_tokens=True)
    return own, len(own) - 2, len(own) - 1


def skipping(own, skip):
    return lambda output: own.batch_decode(output[:, -4:], **({} if skip is None else {"skip_special_tokens": skip}))


def test_lost_marker(caller, tiny):
    own, tool, close = caller
    inputs = bare(own, "1, 2, 3,")
    found = decoded(tiny, own, inputs, skipping(own, True), [tool, 80, 81, END])["lost-marker"]
    assert found.severity == "warning" and "'<|python_tag|>'" in found.message
    assert "'</think>'" in decoded(tiny, own, inputs, skipping(own, True), [80, close, 81, END])["lost-marker"].message


def test_markers_that_are_kept_or_parted_by_the_caller(caller, tiny):
    own, tool, close = caller
    inputs = bare(own, "1, 2, 3,")
    for skip in (False, None):
        assert "lost-marker" not in decoded(tiny, own, inputs, skipping(own, skip), [tool, 80, 81, END])
    assert "lost-marker" not in decoded(tiny, own, inputs, skipping(own, True), [80, 81, 82, END])
    thoughts = lambda output: own.batch_decode(output[:, -4:-2], skip_special_tokens=True)  # noqa: E731
    assert "lost-marker" not in decoded(tiny, own, inputs, thoughts, [80, close, 81, END])
    ends = variant(tiny, eos_token_id=[END, tool])
    assert "lost-marker" not in decoded(ends, own, inputs, skipping(own, True), [80, 81, 82, tool])
    asked = ids([50, tool, 51])
    assert "lost-marker" not in decoded(tiny, own, asked, skipping(own, True), [80, 81, 82, END])


def test_a_marker_that_is_no_special_token_is_kept(tiny, tokenizer):
    own = copy.deepcopy(tokenizer)
    own.add_tokens(["<tool_call>"])
    call = len(own) - 1
    assert "lost-marker" not in decoded(tiny, own, bare(own, "1, 2"), skipping(own, True), [call, 80, 81, END])


# --- encoder-decoder --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bart(tokenizer):
    sizes = {f"{half}_{what}": size for half in ("encoder", "decoder")
             for what, size in {"layers": 1, "attention_heads": 2, "ffn_dim": 16}.items()}  # fmt: skip
    ends = {"decoder_start_token_id": END, "eos_token_id": END, "pad_token_id": END, "forced_eos_token_id": None}
    torch.manual_seed(0)
    return BartForConditionalGeneration(BartConfig(vocab_size=len(tokenizer), d_model=16, **sizes, **ends)).eval()


def summed(bart, tokenizer, take, budget):
    inputs = tokenizer("The meeting was long, and many things were said.", return_tensors="pt")
    with pitfalls.watch(bart, tokenizer) as calls:
        output = bart.generate(**inputs, max_new_tokens=budget, min_new_tokens=budget)
        tokenizer.batch_decode(take(output, inputs["input_ids"].shape[1]), skip_special_tokens=True)
    return {finding.rule: finding for finding in calls[-1].report}.get("encoder-decoder")


@pytest.mark.parametrize(("budget", "lost"), [(4, "all of them"), (30, "the first 11")])
def test_encoder_decoder(budget, lost, bart, tokenizer):
    found = summed(bart, tokenizer, lambda output, width: output[:, width:], budget)
    assert lost in found.message and "output[0]" in found.fix


@pytest.mark.parametrize("start", [0, 1, 3, -2])
def test_encoder_decoder_whose_whole_answer_is_read(start, bart, tokenizer):
    assert summed(bart, tokenizer, lambda output, width: output[:, start:], 30) is None


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


def test_an_end_token_of_the_call_that_is_ordinary_text_is_not_special(tiny, tokenizer):
    inputs, line = bare(tokenizer, "1, 2, 3,"), tokenizer("\n").input_ids[0]
    width = inputs["input_ids"].shape[1]
    plain = lambda output: tokenizer.decode(output[0, width:])  # noqa: E731
    assert "special-tokens-kept" not in decoded(tiny, tokenizer, inputs, plain, [80, line], eos_token_id=line)


@pytest.mark.parametrize("kind", [TextStreamer, TextIteratorStreamer])
def test_special_tokens_kept_by_a_streamer(kind, tiny, tokenizer, capsys):
    inputs = bare(tokenizer, "1, 2, 3,")
    found = watched(tiny, tokenizer, inputs, [80, END], streamer=kind(tokenizer, skip_prompt=True))
    assert "streamer passes on '<|im_end|>'" in found["special-tokens-kept"].message
    assert not watched(tiny, tokenizer, inputs, [80, 81], streamer=kind(tokenizer, skip_prompt=True))
    for skip in (True, False):
        assert not watched(tiny, tokenizer, inputs, [504, END], streamer=kind(tokenizer, skip_special_tokens=skip))
