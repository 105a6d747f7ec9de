"""The rules of pitfalls/inspector/rules/markers.py: a section for each, in their order."""

import copy

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from tests.helpers import END
from tests.inspector.rules.calls import (
    AGAIN,
    ASKED,
    CHATS,
    FACTS,
    FORMATS,
    MARKED,
    TALE,
    after_fix,
    bare,
    chat_of,
    copied,
    explained,
    ids,
    rules,
    text_of,
    variant,
    watched,
    with_template,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


# --- foreign-markers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "marker"),
    [
        ("[INST] What is 2 + 2? [/INST]", "[INST]"),
        ("<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n", "<start_of_turn>"),
        ("<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>", "<|start_header_id|>"),
        ("<|user|>\nHi<|end|>\n<|assistant|>\n", "<|user|>"),
        ("### Instruction:\nSay hi.\n\n### Response:\n", "### Instruction:"),
        ("### User:\nSay hi.\n\n### Assistant:\n", "### Assistant:"),
        ("USER: Hi ASSISTANT:", "USER: "),
        ("Human: سلام\nAssistant:", "Human: "),
        ("The cat sat on the mat. " * 60 + "\n<|assistant|>\n", "<|assistant|>"),
    ],
)
def test_foreign_markers(text, marker, tiny, tokenizer):
    found = rules(tiny, tokenizer, bare(tokenizer, text))
    assert repr(marker) in found["foreign-markers"].message and "<|im_start|>user" in found["foreign-markers"].message
    assert "prompt-template" not in found, "one mistake, one finding"


def test_foreign_markers_for_a_base_model(speaker):
    own, model = speaker("llama")
    found = rules(model, own, bare(own, "<|im_start|>user\nHi<|eot_id|>"))
    assert "chat template" in (found.get("foreign-markers") or found["template-on-base-model"]).message


@pytest.mark.parametrize(("name", "text"), [
    ("zephyr", "<|user|>\nHi</s>\n<|assistant|>\n"),
    ("alpaca", "<s>Below is an instruction.\n\n### Instruction:\nHi\n\n### Response:\n"),
    ("vicuna", "<s>A chat. USER: Hi ASSISTANT:"),
    ("llama-2", "<s>[INST] Hi [/INST]"),
])  # fmt: skip
def test_a_familys_own_markers_in_letters_are_not_foreign(name, text, speaker):
    own, model = speaker(name)
    assert not rules(model, own, own(text, add_special_tokens=False, return_tensors="pt"))


@pytest.mark.parametrize(
    "text",
    ["The user: a person. Human rights: an", "# Instruction\nTurn left at the", "a[INSTANCE] = b", "if a < b | c > d:",
     "### Results:\nWe found", "<s>struck out</s> and"],
)  # fmt: skip
def test_text_that_only_resembles_markers(text, tiny, tokenizer):
    assert not rules(tiny, tokenizer, bare(tokenizer, text))


def test_markers_inside_a_message_are_its_subject(tiny, tokenizer):
    chat = [{"role": "user", "content": "What does [INST] mean? And ### Instruction: and <start_of_turn>?"}]
    assert not rules(tiny, tokenizer, chat_of(tokenizer, chat))


# --- special-tokens-as-text -------------------------------------------------------------------------------------


def test_special_tokens_as_text(tiny, tokenizer):
    own = copied(tokenizer)
    own.split_special_tokens = True
    for chat in (ASKED, TALE):
        text = text_of(own, chat, add_generation_prompt=True)
        finding = rules(tiny, own, own(text, return_tensors="pt"))["special-tokens-as-text"]
        assert "'<|im_" in finding.message
    assert "'<|im_end|>'" in rules(tiny, own, bare(own, "Hello<|im_end|>"))["special-tokens-as-text"].message


@pytest.mark.parametrize("name", MARKED)
def test_special_tokens_that_are_tokens(name, speaker):
    own, model = speaker(name)
    assert "special-tokens-as-text" not in rules(model, own, chat_of(own, TALE))
    assert "special-tokens-as-text" not in rules(model, own, bare(own, f"The end{own.eos_token}"))
    assert "special-tokens-as-text" not in rules(model, own, bare(own, "The token im_start opens a"))


# --- template-on-base-model -------------------------------------------------------------------------------------


def test_template_on_base_model(tiny, tokenizer):
    base = with_template(tokenizer, None)
    finding = rules(tiny, base, bare(base, text_of(tokenizer, ASKED)))["template-on-base-model"]
    assert finding.severity == "warning" and "'<|im_start|>'" in finding.message
    note = explained(tiny, base, lambda: base.apply_chat_template(ASKED))["template-on-base-model"]
    assert "error: template-on-base-model" in note
    long = bare(base, text_of(tokenizer, TALE), "1, 2, 3")
    assert "Row 0" in rules(tiny, base, long)["template-on-base-model"].message


@pytest.mark.parametrize(
    "text", ["What is the capital of France?", "Human: Hi\nAI:", "### Instruction:\nSay hi.\n", "<b>"]
)
def test_text_for_a_base_model_without_markers(text, speaker):
    for like in ("llama", "gpt-2"):
        own, model = speaker(like)
        assert not rules(model, own, bare(own, text))


# --- double-bos -------------------------------------------------------------------------------------------------

ADDS_BOS = [name for name in MARKED if FORMATS[name][4]]


@pytest.mark.parametrize("name", [name for name in ADDS_BOS if name not in ("phi-3", "zephyr")])
def test_double_bos_of_a_template_that_is_tokenized_again(name, speaker):
    own, model = speaker(name)
    texts = [text_of(own, chat, add_generation_prompt=True) for chat in (ASKED, AGAIN)]
    finding = rules(model, own, own(texts[0], return_tensors="pt"))["double-bos"]
    assert repr(own.bos_token) in finding.message and not after_fix(model, own, finding)
    assert "Row 0" in rules(model, own, bare(own, *texts))["double-bos"].message
    assert "double-bos" not in rules(model, own, bare(own, *texts, add_special_tokens=False))


@pytest.mark.parametrize("name", [name for name in MARKED if name not in ADDS_BOS or name in ("phi-3", "zephyr")])
def test_tokenizing_again_is_fine_where_it_adds_no_second_bos(name, speaker):
    own, model = speaker(name)
    again = own(text_of(own, ASKED, add_generation_prompt=True), return_tensors="pt")
    assert not rules(model, own, again)


@pytest.mark.parametrize("name", ADDS_BOS)
def test_double_bos_of_pieces_that_were_joined(name, speaker):
    own, model = speaker(name)
    begun = own("The answer is", return_tensors="pt")["input_ids"]
    joined = torch.cat([chat_of(own, ASKED)["input_ids"], begun], dim=1)
    plain = torch.cat([own("Once upon a time", return_tensors="pt")["input_ids"], begun], dim=1)
    assert "tokenized apart" in rules(model, own, plain)["double-bos"].message
    assert "double-bos" not in rules(model, own, torch.cat([joined[:, :-4], begun[:, 1:]], dim=1))
    found = rules(model, own, joined).get("double-bos")
    if found is not None:  # a header that ends in a special token may be the format's own
        assert not after_fix(model, own, found)


def test_double_bos_typed_by_hand(speaker):
    own, model = speaker("llama")
    found = rules(model, own, bare(own, "<s>Once upon a time"))
    assert not after_fix(model, own, found["double-bos"])
    assert "double-bos" not in rules(model, own, bare(own, "<s>Once upon a time", add_special_tokens=False))


def test_padding_with_the_bos_is_no_double_bos(speaker):
    own, model = speaker("gpt-2")
    assert not rules(model, own, ids([0, 0, 0, 50], [0, 60, 61, 62], mask=[[0, 0, 1, 1], [1, 1, 1, 1]]))


# --- missing-bos ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ADDS_BOS, "llama"])
def test_missing_bos_of_a_bare_text(name, speaker):
    own, model = speaker(name)
    finding = rules(model, own, bare(own, "1, 2, 3,", add_special_tokens=False))["missing-bos"]
    assert repr(own.bos_token) in finding.message and not after_fix(model, own, finding)
    batch = bare(own, "1, 2, 3, 4, 5", "1, 2", add_special_tokens=False)
    assert "Row 0" in rules(model, own, batch)["missing-bos"].message
    assert "missing-bos" not in rules(model, own, bare(own, "1, 2, 3, 4, 5", "1, 2"))


@pytest.mark.parametrize("name", ["llama-3", "gemma", "mistral", "deepseek-r1", "command-r"])
def test_missing_bos_of_a_chat(name, speaker):
    own, model = speaker(name)
    text = text_of(own, ASKED, add_generation_prompt=True).removeprefix(own.bos_token)
    found = rules(model, own, own(text, add_special_tokens=False, return_tensors="pt"))
    assert not after_fix(model, own, found["missing-bos"])
    assert "missing-bos" not in rules(model, own, own(text, return_tensors="pt")), "the tokenizer adds it"


@pytest.mark.parametrize("name", ["qwen", "gpt-2", "zephyr"])
def test_no_bos_where_the_tokenizer_adds_none(name, speaker):
    own, model = speaker(name)
    given = bare(own, "1, 2, 3,", add_special_tokens=False)
    assert ("missing-bos" in rules(model, own, given)) is (name in ADDS_BOS)


# --- end-token --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in MARKED if name not in ("phi-3", "gemma")])
def test_end_token_of_the_template_does_not_stop(name, speaker):
    own, model = speaker(name)
    finding = rules(model, own, chat_of(own, ASKED), eos_token_id=0)["end-token"]
    assert repr(FACTS[name][4]) in finding.message and "[0]" in finding.message
    assert repr(FACTS[name][4]) in finding.fix and "end-token" not in after_fix(model, own, finding)
    assert "end-token" not in rules(model, own, chat_of(own, ASKED), eos_token_id=[0, own.eos_token_id])


@pytest.mark.parametrize("name", ["phi-3", "gemma"])
def test_end_token_of_a_model_that_knows_only_the_end_of_a_text(name, speaker):
    own, model = speaker(name)
    only = variant(model, eos_token_id=own.eos_token_id)
    finding = rules(only, own, chat_of(own, ASKED))["end-token"]
    assert repr(FACTS[name][4]) in finding.message and "end-token" not in after_fix(only, own, finding)
    assert "end-token" not in rules(model, own, chat_of(own, ASKED))


def test_end_token_after_the_call(tiny, tokenizer):
    chat = chat_of(tokenizer, ASKED)
    found = watched(tiny, tokenizer, chat, [80, END, 81], eos_token_id=0)["end-token"]
    assert "'<|im_end|>'" in found.message and "went on" in found.message
    assert "end-token" not in after_fix(tiny, tokenizer, found)
    turn = "Paris.\n<|im_start|>user\nAnd"
    found = watched(tiny, tokenizer, chat, turn, max_new_tokens=7)["end-token"]
    assert "invented turn" in found.message and "end-token" not in after_fix(tiny, tokenizer, found)
    assert "end-token" not in watched(tiny, tokenizer, chat, [80, 81, END])


def test_end_token_that_is_not_needed(tiny, tokenizer):
    chat = chat_of(tokenizer, ASKED)
    assert "end-token" not in rules(tiny, tokenizer, chat, eos_token_id=0, stopping_criteria=[lambda *a, **k: False])
    assert "end-token" not in rules(tiny, tokenizer, chat, eos_token_id=0, stop_strings=["."], tokenizer=tokenizer)
    assert "end-token" not in rules(tiny, tokenizer, bare(tokenizer, "1, 2, 3"), eos_token_id=0)


def test_no_end_token_at_all_is_a_note(tiny, tokenizer):
    endless = variant(tiny, eos_token_id=None)
    finding = rules(endless, tokenizer, bare(tokenizer, "1, 2, 3"))["end-token"]
    assert finding.severity == "note" and "only the length" in finding.message
    assert "end-token" not in after_fix(endless, tokenizer, finding)


@pytest.mark.parametrize("said", [None, -1, [-1]])
def test_no_end_token_on_purpose(said, tiny, tokenizer):
    """As in a measurement of speed."""
    for inputs in (bare(tokenizer, "1, 2, 3"), chat_of(tokenizer, ASKED)):
        assert "end-token" not in rules(tiny, tokenizer, inputs, eos_token_id=said)
    assert "end-token" not in watched(tiny, tokenizer, chat_of(tokenizer, ASKED), [80, END, 81], eos_token_id=-1)
    endless = variant(tiny, eos_token_id=None)
    assert "end-token" not in rules(endless, tokenizer, bare(tokenizer, "1, 2, 3"), eos_token_id=said)


# --- ended-prompt -----------------------------------------------------------------------------------------------


def ending_all(tokenizer):
    """A tokenizer that writes its end token behind every text."""
    own = copy.deepcopy(tokenizer)
    end = [(own.eos_token, own.eos_token_id)]
    own.backend_tokenizer.post_processor = TemplateProcessing(single=f"$A {own.eos_token}", special_tokens=end)
    return own


@pytest.mark.parametrize("name", ["qwen", "llama-3", "zephyr", "llama"])
def test_ended_prompt_of_a_tokenizer_that_ends_all_texts(name, speaker):
    plain, model = speaker(name)
    own = ending_all(plain)
    finding = rules(model, own, bare(own, "The capital of France is"))["ended-prompt"]
    assert finding.severity == "warning" and repr(own.eos_token) in finding.message
    assert "ended-prompt" not in rules(model, own, bare(own, "1, 2, 3", add_special_tokens=False))
    if own.chat_template:
        found = rules(model, own, bare(own, text_of(own, ASKED, add_generation_prompt=True)))
        assert "ended-prompt" in found and "generation-prompt" not in found
        assert "ended-prompt" not in rules(model, own, chat_of(own, ASKED))


def test_the_fix_of_ended_prompt(tiny, tokenizer):
    inputs = bare(tokenizer, "The capital of France is<|im_end|>")
    finding = rules(tiny, tokenizer, inputs)["ended-prompt"]
    names = {"model": tiny, "inputs": inputs}
    exec(finding.fix, names)
    assert not rules(tiny, tokenizer, names["inputs"])


def test_an_end_token_that_belongs_there(speaker, tiny, tokenizer):
    own, model = speaker("dialogpt")
    assert not rules(model, own, bare(own, "Does money buy happiness?<|endoftext|>"))
    assert not rules(model, own, bare(own, "Hi<|endoftext|>Hello<|endoftext|>How are you?<|endoftext|>"))
    own, model = speaker("gpt-2")
    assert not rules(model, own, bare(own, "<|endoftext|>")), "a text out of nothing"
    assert "ended-prompt" not in rules(tiny, tokenizer, ids([80, 81, 82, END, END], mask=[[1, 1, 1, 0, 0]]))


# --- stripped-markers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chat", CHATS.values(), ids=CHATS)
@pytest.mark.parametrize("name", ["llama-3", "gemma", "qwen", "qwen-3"])
def test_stripped_markers(name, chat, speaker):
    own, model = speaker(name)
    text = own.decode(chat_of(own, chat)["input_ids"][0], skip_special_tokens=True)
    found = rules(model, own, bare(own, text))
    assert "'user\\n" in found["stripped-markers"].message and "prompt-template" not in found
    assert not after_fix(model, own, found["stripped-markers"])


@pytest.mark.parametrize("name", MARKED)
def test_markers_that_are_in_place(name, speaker):
    own, model = speaker(name)
    assert "stripped-markers" not in rules(model, own, chat_of(own, TALE))
    for text in ("A user\nand an assistant\nmeet.", "system\nA group of parts that", "user: a person\nassistant: a"):
        assert "stripped-markers" not in rules(model, own, bare(own, text))
