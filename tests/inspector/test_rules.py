"""Each rule speaks where its mistake is, names the numbers of the call, and is silent beside it.

A section for each rule, in the order of `pitfalls.RULES` and headed by its name. Most calls are only looked at
(`check`, no forward pass); where the output matters they are made (`watch`), with a tiny model that says as it is told.
"""

import copy
import functools
import re
from pathlib import Path

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import (
    DynamicCache,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessor,
    T5Config,
    TextStreamer,
)
from transformers import pipeline as make_pipeline
from transformers.generation import GenerationMixin

import pitfalls
from pitfalls.inspector.call import Call
from pitfalls.inspector.chat_format import chat_format
from pitfalls.inspector.checking import RULES
from pitfalls.inspector.report import SEVERITIES

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

BOS, END = 1, 2  # of the embedded tokenizer: <|im_start|> and <|im_end|>, which is its pad token too
LESSONS = {path.stem for path in (Path(__file__).parents[2] / "notebooks").glob("0*.ipynb")} | {"08_your_own_code"}
ASKED = [{"role": "user", "content": "What is the capital of France?"}]
ANSWERED = [*ASKED, {"role": "assistant", "content": "Paris."}]
AGAIN = [*ANSWERED, {"role": "user", "content": "And of Spain?"}]
BEGUN = [*ASKED, {"role": "assistant", "content": "The capital is"}]
TALE = [{"role": "user", "content": "Sum up this text. " + "The cat sat on the mat. " * 60}]
CHATS = {"one turn": ASKED, "several turns": AGAIN, "long": TALE}


# --- helpers -----------------------------------------------------------------------------------------------------


def tiny_model(vocabulary: int, window: int = 2048, **settings) -> LlamaForCausalLM:
    """A model that says nothing sensible, fast, with the vocabulary of the embedded tokenizer or a few tokens more."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = LlamaConfig(
        vocab_size=vocabulary, bos_token_id=None, eos_token_id=END, pad_token_id=END, max_position_embeddings=window,
        **sizes,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    model.generation_config.update(**settings)
    return model


@pytest.fixture(scope="module")
def tiny(tokenizer):
    return tiny_model(len(tokenizer) + 100)


def variant(model, **settings):
    """The same weights with other settings of its own."""
    other = copy.copy(model)
    other.generation_config = copy.deepcopy(model.generation_config)
    other.generation_config.update(**settings)
    return other


class Script(LogitsProcessor):
    """Makes row n say the n-th list of ids; a row whose list has ended repeats its last id."""

    def __init__(self, *rows: list[int]):
        self.rows, self.step = rows, -1

    def __call__(self, input_ids, scores):
        self.step += 1
        wanted = torch.tensor([row[min(self.step, len(row) - 1)] for row in self.rows])
        return torch.full_like(scores, -30.0).scatter(1, wanted[:, None], 30.0)


def rules(model, tokenizer, inputs, /, **settings) -> dict:
    """The findings of `check` by their names. The call has a budget, so that `length` does not speak everywhere."""
    report = pitfalls.check(model, tokenizer, inputs, **{"max_new_tokens": 600} | settings)
    return {finding.rule: finding for finding in report}


def watched(model, tokenizer, inputs, /, *said: list[int] | str, **settings) -> dict:
    """The findings of `watch` on a call in which the rows say the given ids or texts."""
    said = [tokenizer(row, add_special_tokens=False)["input_ids"] if isinstance(row, str) else row for row in said]
    script = {"logits_processor": [Script(*said)]} if said else {}
    inputs = inputs if hasattr(inputs, "keys") else {"input_ids": inputs}
    with pitfalls.watch(model, tokenizer) as calls:
        model.generate(**inputs, **{"max_new_tokens": 6} | settings, **script)
    return {finding.rule: finding for finding in calls[-1].report}


def explained(model, tokenizer, do) -> dict:
    """The rules named in the note on the exception that `do` raises, and the note."""
    with pytest.raises(Exception) as raised, pitfalls.watch(model, tokenizer):
        do()
    note = "\n".join(getattr(raised.value, "__notes__", []))
    return {name: note for name in re.findall(r"^(?:error|warning|note): (\S+)$", note, flags=re.MULTILINE)}


def text_of(tokenizer, chat, **options) -> str:
    return tokenizer.apply_chat_template(chat, tokenize=False, **options)


def chat_of(tokenizer, chat, **options):
    options = {"add_generation_prompt": True} | options
    return tokenizer.apply_chat_template(chat, return_dict=True, return_tensors="pt", **options)


def prefilled(tokenizer, chat):
    return chat_of(tokenizer, chat, add_generation_prompt=False, continue_final_message=True)


def bare(tokenizer, *texts: str, **options):
    return tokenizer(list(texts), return_tensors="pt", padding=True, **options)


def ids(*rows: list[int], mask: list[list[int]] | None = None) -> dict:
    given = {"input_ids": torch.tensor(rows)}
    return given | ({"attention_mask": torch.tensor(mask)} if mask else {})


# Chat templates as short as they can be with the form of the real ones.

TURNS = "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
EACH, DONE, ASK, FI = "{% for m in messages %}", "{% endfor %}", "{% if add_generation_prompt %}", "{% endif %}"
USER = "{% if m.role == 'user' %}"
EMPTY_THOUGHT = "<think>\n\n</think>\n\n"
CHATML = EACH + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n" + DONE + ASK + "<|im_start|>assistant\n" + FI
FORMATS = {  # name: template, BOS, EOS, other special tokens, whether the tokenizer adds the BOS to a text
    "llama-3": (
        "{{ bos_token }}" + EACH
        + "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>" + DONE
        + ASK + "<|start_header_id|>assistant<|end_header_id|>\n\n" + FI,
        "<|begin_of_text|>", "<|eot_id|>", ["<|start_header_id|>", "<|end_header_id|>"], True,
    ),
    "llama-3 with a date": (
        "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ strftime_now('%d %b %Y') }}"
        "{% if tools %}Tools: {{ tools | tojson }}{% endif %}<|eot_id|>" + EACH
        + "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>" + DONE + ASK
        + "<|start_header_id|>assistant<|end_header_id|>\n\n" + FI,
        "<|begin_of_text|>", "<|eot_id|>", ["<|start_header_id|>", "<|end_header_id|>"], True,
    ),
    "gemma": (
        "{{ bos_token }}" + NO_SYSTEM + EACH + TURNS
        + "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
        + DONE + ASK + "<start_of_turn>model\n" + FI,
        "<bos>", "<eos>", ["<start_of_turn>", "<end_of_turn>"], True,
    ),
    "qwen": (
        "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
        + CHATML,
        None, "<|im_end|>", ["<|im_start|>"], False,
    ),
    "qwen-3": (
        EACH + "<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}" + EMPTY_THOUGHT
        + "{% endif %}{{ m.content }}<|im_end|>\n" + DONE + ASK + "<|im_start|>assistant\n"
        "{% if enable_thinking is defined and not enable_thinking %}" + EMPTY_THOUGHT + FI + FI,
        None, "<|im_end|>", ["<|im_start|>", "<think>", "</think>"], False,
    ),
    "qwq": (
        EACH + "<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1] }}<|im_end|>\n" + DONE + ASK
        + "<|im_start|>assistant\n<think>\n" + FI,
        None, "<|im_end|>", ["<|im_start|>", "<think>", "</think>"], False,
    ),
    "phi-3": (
        EACH + "<|{{ m.role }}|>\n{{ m.content }}<|end|>\n" + DONE
        + "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}",
        "<s>", "<|endoftext|>", ["<|user|>", "<|assistant|>", "<|system|>", "<|end|>"], True,
    ),
    "mistral": (
        "{{ bos_token }}" + EACH + TURNS + USER
        + "[INST] {{ m.content }} [/INST]{% else %}{{ m.content }}{{ eos_token }}" + FI + DONE,
        "<s>", "</s>", ["[INST]", "[/INST]"], True,
    ),
    "llama-2": (
        EACH + TURNS + USER + "{{ bos_token }}[INST] {{ m.content | trim }} [/INST]"
        "{% else %} {{ m.content | trim }} {{ eos_token }}" + FI + DONE,
        "<s>", "</s>", [], True,
    ),
    "deepseek-r1": (
        "{{ bos_token }}" + EACH + USER + "<｜User｜>{{ m.content }}"
        "{% else %}<｜Assistant｜>{{ m.content.split('</think>')[-1] }}<｜end▁of▁sentence｜>" + FI + DONE
        + ASK + "<｜Assistant｜><think>\n" + FI,
        "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>",
        ["<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"], True,
    ),
    "command-r": (
        "{{ bos_token }}" + EACH
        + "<|START_OF_TURN_TOKEN|>{{ '<|USER_TOKEN|>' if m.role == 'user' else '<|CHATBOT_TOKEN|>' }}"
        + "{{ m.content | trim }}<|END_OF_TURN_TOKEN|>" + DONE + ASK + "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>" + FI,
        "<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>",
        ["<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"], True,
    ),
    "zephyr": (
        EACH + "<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n" + DONE + ASK + "<|assistant|>\n" + FI,
        "<s>", "</s>", [], True,
    ),
    "alpaca": (
        "{{ bos_token }}Below is an instruction.\n\n" + EACH + USER + "### Instruction:\n{{ m.content }}\n\n"
        "{% else %}### Response:\n{{ m.content }}{{ eos_token }}\n\n" + FI + DONE + ASK + "### Response:\n" + FI,
        "<s>", "</s>", [], True,
    ),
    "vicuna": (
        "{{ bos_token }}A chat. " + EACH + USER + "USER: {{ m.content }} {% else %}ASSISTANT: {{ m.content }}"
        "{{ eos_token }}" + FI + DONE + ASK + "ASSISTANT:" + FI,
        "<s>", "</s>", [], True,
    ),
    "dialogpt": (EACH + "{{ m.content }}{{ eos_token }}" + DONE, "<|endoftext|>", "<|endoftext|>", [], False),
}  # fmt: skip
FORMATS_OF_BASE_MODELS = {
    "llama": (None, "<s>", "</s>", [], True),
    "gpt-2": (None, "<|endoftext|>", "<|endoftext|>", [], False),  # one token for beginning, end, pad and unknown
}
NO_HEADER = ("mistral", "llama-2")  # the same text with and without the generation prompt
THINKING = ("qwen-3", "qwq", "deepseek-r1")
MARKED = [name for name in FORMATS if name != "dialogpt"]


@pytest.fixture(scope="module")
def speaker(tokenizer):
    """`speaker("gemma")`: a tokenizer with that family's template and special tokens, and a model to it."""
    kept = {}

    def make(name: str):
        if name not in kept:
            kept[name] = speaking(tokenizer, *(FORMATS | FORMATS_OF_BASE_MODELS)[name])
        return kept[name]

    return make


def speaking(tokenizer, template, bos, end, others, adds_bos):
    own = copy.deepcopy(tokenizer)
    own.add_special_tokens({"eos_token": end, "pad_token": end} | ({"bos_token": bos} if bos else {}))
    own.add_tokens(others, special_tokens=True)
    own.chat_template = template
    if not bos:
        own.bos_token = None
    if adds_bos:
        own.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, own.bos_token_id)]
        )
    ends = [own.convert_tokens_to_ids(token) for token in (end, "<end_of_turn>", "<|end|>") if token in own.get_vocab()]
    return own, tiny_model(len(own) + 10, eos_token_id=ends, pad_token_id=own.pad_token_id)


def copied(tokenizer):
    """A copy to change, all but its tokens: a deep copy takes half a second."""
    other = copy.copy(tokenizer)
    own = {name: copy.copy(value) for name, value in vars(other).items() if isinstance(value, (dict, list))}
    vars(other).update(own)
    return other


def with_template(tokenizer, template: str | None):
    other = copied(tokenizer)
    other.chat_template = template
    return other


# --- the rules together ------------------------------------------------------------------------------------------


def section_heads() -> list[str]:
    return re.findall(r"^# --- ([a-z0-9-]+) -+$", Path(__file__).read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_each_rule_has_its_section_here_in_the_order_of_rules():
    assert [head for head in section_heads() if head in RULES] == list(RULES)


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


COMPLETIONS = {
    "english": "The capital of France is",
    "list": "A list of colors: red, blue",
    "arabic": "عاصمة فرنسا هي",
    "chinese": "法国的首都是",
    "code": "def add(a, b):\n    return",
    "commented code": "# Write a function that adds two numbers.\ndef add(a, b):\n",
    "infilling": "<fim_prefix>def add(a, b):\n<fim_suffix>\n    return total<fim_middle>",
    "dialogue": "Daniel: Hello, Girafatron!\nGirafatron:",
    "long": "The cat sat on the mat. " * 60 + "Then it",
    "long chinese": "猫坐在垫子上。" * 60 + "然后它",
}


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


# --- the format of a chat ----------------------------------------------------------------------------------------

FACTS = {  # header, user_open, user_close, answer_close, the token that ends an answer
    "llama-3": (
        "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|>", "<|eot_id|>", "<|eot_id|>",
    ),
    "llama-3 with a date": (
        "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|>", "<|eot_id|>", "<|eot_id|>",
    ),
    "gemma": (
        "<start_of_turn>model\n", "<start_of_turn>user\n", "<end_of_turn>\n", "<end_of_turn>\n", "<end_of_turn>",
    ),
    "qwen": ("<|im_start|>assistant\n", "<|im_start|>user\n", "<|im_end|>\n", "<|im_end|>\n", "<|im_end|>"),
    "qwen-3": ("<|im_start|>assistant\n", "<|im_start|>user\n", "<|im_end|>\n", "<|im_end|>\n", "<|im_end|>"),
    "qwq": ("<|im_start|>assistant\n<think>\n", "<|im_start|>user\n", "<|im_end|>\n", "<|im_end|>\n", "<|im_end|>"),
    "phi-3": ("<|assistant|>\n", "<|user|>\n", "<|end|>\n", "<|end|>\n", "<|end|>"),
    "mistral": ("", "[INST] ", " [/INST]", "</s>", "</s>"),
    "llama-2": ("", "[INST] ", " [/INST]", " </s>", "</s>"),
    "deepseek-r1": ("<｜Assistant｜><think>\n", "<｜User｜>", "", "<｜end▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    "command-r": (
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>", "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>",
        "<|END_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>",
    ),
    "zephyr": ("<|assistant|>\n", "<|user|>\n", "</s>\n", "</s>\n", "</s>"),
    "alpaca": ("### Response:\n", "### Instruction:\n", "\n\n", "</s>\n\n", "</s>"),
    "vicuna": ("ASSISTANT:", "USER: ", " ", "</s>", "</s>"),
    "dialogpt": ("", "", "<|endoftext|>", "<|endoftext|>", "<|endoftext|>"),
}  # fmt: skip


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


# --- mistakes and fixes ------------------------------------------------------------------------------------------

# The fix explains, needs other weights, or an answer longer than two tokens.
NO_CURE = ("encoder-decoder", "nan-logits", "removed-keyword", "thinking-budget")
REAL_OUTPUT = ("decoding-mode", "pad-mismatch", "removed-keyword", "special-tokens-kept", "trailing-space")


def reader(model, tokenizer) -> dict:
    """The names that the code of a rule may use."""
    inputs = tokenizer("The weather today is", return_tensors="pt")
    texts = ["1, 2, 3", "A, B, C, D, E"]
    return {"model": model, "tokenizer": tokenizer, "inputs": inputs, "texts": texts, "messages": list(ASKED)}


@pytest.fixture
def short(monkeypatch):
    """At most two new tokens, whatever is asked for."""
    original = GenerationMixin.generate

    @functools.wraps(original)
    def generate(self, *args, **kwargs):
        if "max_new_tokens" in kwargs:
            kwargs["max_new_tokens"] = min(2, kwargs["max_new_tokens"])
        return original(self, *args, **kwargs)

    monkeypatch.setattr(GenerationMixin, "generate", generate)


@pytest.mark.parametrize("name", RULES)
def test_the_fix_runs_as_pasted(name, model, tokenizer, short, tmp_path):
    names = reader(variant(model), copied(tokenizer))
    if name == "removed-keyword":  # loads the model again: a small one
        tiny_model(64).save_pretrained(tmp_path)
        names["model"] = LlamaForCausalLM.from_pretrained(tmp_path)
    exec(RULES[name].fix, names)


@pytest.mark.parametrize("name", [name for name in RULES if name not in NO_CURE])
def test_the_mistake_is_found_and_is_gone_after_the_fix(name, model, tokenizer, request):
    own = copy.deepcopy(tokenizer) if name == "ids-past-embedding" else copied(tokenizer)
    names = reader(variant(model) if name in REAL_OUTPUT else tiny_model(len(own)), own)
    try:
        with pitfalls.watch(tokenizer=own) as calls:
            exec(RULES[name].mistake, names)
    except Exception as error:
        assert f": {name}\n" in "".join(getattr(error, "__notes__", []))
    else:
        assert name in calls[-1].report.rules
    request.getfixturevalue("short")
    with pitfalls.watch(tokenizer=own) as calls:
        exec(RULES[name].fix, names)
    assert all(name not in call.report.rules for call in calls)
    assert calls or name not in rules(names["model"], own, names["inputs"])


# --- length ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"do_sample": True}, {"generation_config": GenerationConfig(num_beams=2)}])
def test_length_without_a_budget(settings, tiny, tokenizer):
    report = pitfalls.check(tiny, tokenizer, bare(tokenizer, "1, 2, 3,"), **settings)
    finding = next(finding for finding in report if finding.rule == "length")
    assert finding.severity == "warning" and "20 new tokens" in finding.message


@pytest.mark.parametrize(
    "settings",
    [
        {"max_new_tokens": 1},
        {"max_length": 100},
        {"max_time": 5.0},
        {"generation_config": GenerationConfig(max_new_tokens=9)},
    ],
)
def test_length_is_silent_where_a_budget_is_given(settings, tiny, tokenizer):
    inputs = bare(tokenizer, "1, 2, 3,")
    assert "length" not in pitfalls.check(tiny, tokenizer, inputs, **settings).rules
    assert "length" not in pitfalls.check(variant(tiny, max_new_tokens=9), tokenizer, inputs).rules


def test_length_speaks_after_the_call_only_if_a_row_was_cut(tiny, tokenizer):
    inputs = bare(tokenizer, "1, 2, 3,", "4, 5, 6,")
    cut = watched(tiny, tokenizer, inputs, [80, END], [80], max_new_tokens=None)
    assert "20 new tokens" in cut["length"].message
    assert "length" not in watched(tiny, tokenizer, inputs, [80, END], [80, 81, END], max_new_tokens=None)


def test_length_of_an_answer_that_is_nothing_but_white_space(tiny, tokenizer):
    inputs = bare(tokenizer, "1, 2, 3,")
    assert "budget of 6 new tokens" in watched(tiny, tokenizer, inputs, "\n\n\n\n\n\n\n\n")["length"].message
    assert "budget of 6 new tokens" in watched(tiny, tokenizer, inputs, [BOS])["length"].message
    assert "length" not in watched(tiny, tokenizer, inputs, "\n\n 4")
    assert "length" not in watched(tiny, tokenizer, inputs, [*tokenizer("\n").input_ids, END])


# --- max-length --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "severity", "numbers"),
    [(10, "error", "max_length=10 .* 30 tokens"), (30, "error", "max_length=30 .* 30 tokens"),
     (36, "warning", "max_length=36 .* 30 tokens too: only 6")],
)  # fmt: skip
def test_max_length_that_the_prompt_has_used_up(total, severity, numbers, tiny, tokenizer):
    finding = rules(tiny, tokenizer, ids([50] * 30), max_length=total, max_new_tokens=None)["max-length"]
    assert finding.severity == severity and re.search(numbers, finding.message)


def test_max_length_counts_the_padding_and_may_come_from_the_model(tiny, tokenizer):
    padded = tokenizer("1, 2, 3", padding="max_length", max_length=25, return_tensors="pt")
    found = rules(variant(tiny, max_length=25), tokenizer, padded, max_new_tokens=None)
    assert found["max-length"].severity == "error" and "25 tokens already" in found["max-length"].message


@pytest.mark.parametrize("settings", [{"max_length": 200}, {"max_length": 8, "max_new_tokens": 8}, {"max_length": 31}])
def test_max_length_with_room_or_outvoted_is_fine(settings, tiny, tokenizer):
    width = 12 if settings["max_length"] == 31 else 20
    found = rules(tiny, tokenizer, ids([50] * width), **{"max_new_tokens": None} | settings)
    assert set(found) <= {"two-lengths"}


def test_max_length_after_the_call(tiny, tokenizer):
    long = ids([50] * 30)
    assert watched(tiny, tokenizer, long, [80], max_length=36, max_new_tokens=None)["max-length"].severity == "warning"
    assert "max-length" not in watched(tiny, tokenizer, long, [80, END], max_length=36, max_new_tokens=None)
    note = explained(tiny, tokenizer, lambda: tiny.generate(**long, max_length=20))["max-length"]
    assert "max_length=20" in note and "30 tokens" in note


# --- two-lengths -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"max_length": 99, "max_new_tokens": 7},
        {"generation_config": GenerationConfig(max_length=99), "max_new_tokens": 7},
    ],
)
def test_two_lengths_of_the_caller(settings, tiny, tokenizer):
    finding = rules(tiny, tokenizer, ids([50, 51]), **settings)["two-lengths"]
    assert finding.severity == "warning" and "max_length=99" in finding.message and "=7" in finding.message


def test_two_lengths_one_of_them_from_the_model(tiny, tokenizer):
    finding = rules(variant(tiny, max_length=77), tokenizer, ids([50, 51]), max_new_tokens=7)["two-lengths"]
    assert finding.severity == "note" and "77 comes from the model" in finding.message


@pytest.mark.parametrize("settings", [{"max_new_tokens": 7}, {"max_length": 99, "max_new_tokens": None}])
def test_one_length_is_fine(settings, tiny, tokenizer):
    assert not rules(tiny, tokenizer, ids([50, 51]), **settings)
    assert "two-lengths" not in rules(variant(tiny, max_new_tokens=7), tokenizer, ids([50, 51]), max_new_tokens=9)


# --- context-window ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_window(tokenizer):
    return tiny_model(len(tokenizer), window=16)


@pytest.mark.parametrize(("width", "severity"), [(10, "warning"), (16, "error"), (20, "error")])
def test_context_window(width, severity, small_window, tokenizer):
    finding = rules(small_window, tokenizer, ids([50] * width), max_new_tokens=7)["context-window"]
    assert finding.severity == severity and f"{width} " in finding.message and "16" in finding.message


def test_context_window_is_passed_by_the_default_budget(small_window, tokenizer):
    assert "up to 20 new" in rules(small_window, tokenizer, ids([50]), max_new_tokens=None)["context-window"].message


@pytest.mark.parametrize("settings", [{"max_new_tokens": 6}, {"max_new_tokens": None, "max_length": 16}])
def test_context_window_that_is_just_filled(settings, small_window, tokenizer):
    assert "context-window" not in rules(small_window, tokenizer, ids([50] * 10), **settings)


def test_context_window_after_the_call(small_window, tokenizer):
    prompt = ids([50] * 10)
    assert "context-window" in watched(small_window, tokenizer, prompt, [80], max_new_tokens=9)
    assert "context-window" not in watched(small_window, tokenizer, prompt, [80, END], max_new_tokens=900)


# --- thinking-budget ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", THINKING)
def test_thinking_budget(name, speaker):
    own, model = speaker(name)
    for chat in (ASKED, TALE):
        assert "100 new tokens" in rules(model, own, chat_of(own, chat), max_new_tokens=100)["thinking-budget"].message
        assert "thinking-budget" not in rules(model, own, chat_of(own, chat), max_new_tokens=2000)


@pytest.mark.parametrize("name", THINKING)
def test_thinking_budget_of_an_answer_that_has_begun(name, speaker):
    own, model = speaker(name)
    assert "thinking-budget" not in rules(model, own, prefilled(own, BEGUN), max_new_tokens=50)


def test_thinking_switched_off_needs_no_budget(speaker):
    own, model = speaker("qwen-3")
    assert not rules(model, own, chat_of(own, ASKED, enable_thinking=False), max_new_tokens=50)
    switched = [{"role": "user", "content": "What is the capital of France? /no_think"}]
    assert not rules(model, own, chat_of(own, switched), max_new_tokens=50)


@pytest.mark.parametrize("text", COMPLETIONS.values(), ids=COMPLETIONS)
def test_thinking_models_complete_a_text_without_thoughts(text, speaker):
    own, model = speaker("qwq")
    assert not rules(model, own, bare(own, text), max_new_tokens=50)


def test_thinking_budget_after_the_call(speaker):
    own, model = speaker("qwq")
    inputs = chat_of(own, ASKED)
    found = watched(model, own, inputs, "They ask for a city, which city", max_new_tokens=7)
    assert "All 7 new tokens are thoughts" in found["thinking-budget"].message
    said = "A city.</think>Paris, of course"
    assert "thinking-budget" not in watched(model, own, inputs, said, max_new_tokens=7)
    assert "thinking-budget" not in watched(model, own, inputs, [90, 91, own.eos_token_id], max_new_tokens=7)


# --- empty-prompt ------------------------------------------------------------------------------------------------


def test_empty_prompt(tiny, tokenizer):
    nothing = {"input_ids": torch.empty((1, 0), dtype=torch.long)}
    assert "The prompt has no tokens" in rules(tiny, tokenizer, nothing)["empty-prompt"].message
    assert "Row 1" in rules(tiny, tokenizer, bare(tokenizer, "1, 2, 3", ""))["empty-prompt"].message
    masked = ids([50, 51], [60, 61], mask=[[0, 0], [1, 1]])
    assert "Row 0" in rules(tiny, tokenizer, masked)["empty-prompt"].message


@pytest.mark.parametrize("given", [ids([BOS]), ids([50]), ids([END]), ids([END, END, 50], mask=[[0, 0, 1]])])
def test_a_short_prompt_is_not_empty(given, tiny, tokenizer):
    assert "empty-prompt" not in rules(tiny, tokenizer, given)


def test_embeddings_as_inputs_are_no_empty_prompt(tiny, tokenizer):
    assert "empty-prompt" not in rules(tiny, tokenizer, {"inputs_embeds": torch.zeros(1, 3, 8)})
    assert "empty-prompt" not in watched(tiny, tokenizer, {"inputs_embeds": torch.zeros(1, 3, 8)})


# --- decoding-mode -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "turns"), [([80], 30), ([80, 81, 82], 10), ([80, 80, 81], 10), (list(range(80, 90)), 3)]
)
def test_decoding_mode_names_the_loop(period, turns, tiny, tokenizer):
    found = watched(
        tiny, tokenizer, ids([50, 51]), [70, 71, 72, *period * turns], max_new_tokens=3 + len(period) * turns
    )
    assert f"{turns} times" in found["decoding-mode"].message


def test_decoding_mode_of_one_row_among_others(tiny, tokenizer):
    found = watched(tiny, tokenizer, ids([50], [60]), list(range(70, 100)), [80, 81] * 15, max_new_tokens=30)
    assert repr(tokenizer.decode([80, 81])) in found["decoding-mode"].message


@pytest.mark.parametrize(
    "said",
    [list(range(70, 100)), [80, 81, 82] * 3 + list(range(90, 111)), [*[80] * 29, END], [70] * 15 + [80, 81] * 7 + [90]],
    ids=["no-loop", "left-the-loop", "ended", "short-loops"],
)
def test_a_text_that_does_not_end_in_a_loop(said, tiny, tokenizer):
    assert "decoding-mode" not in watched(tiny, tokenizer, ids([50, 51]), said, max_new_tokens=30)


def test_decoding_mode_needs_an_output_and_is_about_greedy_decoding(tiny, tokenizer):
    assert "decoding-mode" not in rules(tiny, tokenizer, ids([50, 51]))
    assert "decoding-mode" not in watched(tiny, tokenizer, ids([50]), [80], max_new_tokens=30, do_sample=True)


def test_counting_is_no_loop(tiny, tokenizer):
    said = ", ".join(map(str, range(1, 15)))
    assert "decoding-mode" not in watched(tiny, tokenizer, ids([50, 51]), said, max_new_tokens=30)


# --- ignored-sampling-flags --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"temperature": 0.7}, "temperature=0.7 has"),
        ({"top_p": 0.9, "top_k": 10}, "top_p=0.9, top_k=10 have"),
        ({"generation_config": GenerationConfig(min_p=0.1)}, "min_p=0.1 has"),
        ({"temperature": 0.7, "num_beams": 3}, "temperature=0.7 has"),
    ],
)
def test_ignored_sampling_flags(settings, named, tiny, tokenizer):
    assert named in rules(tiny, tokenizer, ids([50]), **settings)["ignored-sampling-flags"].message
    assert "ignored-sampling-flags" not in rules(tiny, tokenizer, ids([50]), do_sample=True, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"do_sample": False, "temperature": None, "top_p": None, "top_k": None},
        {"temperature": 1.0, "top_p": 1.0, "top_k": 0},
        {"penalty_alpha": 0.6, "top_k": 4},
    ],
)
def test_flags_that_change_nothing_are_not_ignored(settings, tiny, tokenizer):
    assert "ignored-sampling-flags" not in rules(tiny, tokenizer, ids([50]), **settings)


def test_flags_of_the_model_are_not_the_callers(tiny, tokenizer):
    assert not rules(variant(tiny, temperature=0.6, top_p=0.9), tokenizer, ids([50]))


# --- temperature-zero --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 0.0, -0.5])
def test_temperature_zero_with_sampling(value, tiny, tokenizer):
    finding = rules(tiny, tokenizer, ids([50]), do_sample=True, temperature=value)["temperature-zero"]
    assert finding.severity == "error" and f"temperature={value} " in finding.message
    note = explained(tiny, tokenizer, lambda: tiny.generate(**ids([50]), do_sample=True, temperature=float(value)))
    assert "temperature-zero" in note


def test_temperature_zero_without_sampling_is_a_note(tiny, tokenizer):
    assert rules(tiny, tokenizer, ids([50]), temperature=0.0)["temperature-zero"].severity == "note"
    sampler = variant(tiny, do_sample=True)
    assert rules(sampler, tokenizer, ids([50]), temperature=0.0)["temperature-zero"].severity == "error"


@pytest.mark.parametrize(
    "settings", [{"do_sample": True, "temperature": 0.01}, {"do_sample": True}, {"temperature": None}, {}]
)
def test_other_temperatures(settings, tiny, tokenizer):
    assert "temperature-zero" not in rules(tiny, tokenizer, ids([50]), **settings)


# --- invalid-setting ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"do_sample": "False"}, "do_sample='False'"),
        ({"do_sample": True, "top_p": 1.5}, "top_p=1.5 .*from 0 to 1"),
        ({"do_sample": True, "top_p": 90}, "top_p=90"),
        ({"do_sample": True, "min_p": -0.1}, "min_p=-0.1"),
        ({"do_sample": True, "top_k": -1}, "top_k=-1 .*not below 0"),
        ({"do_sample": True, "temperature": "0.7"}, "temperature='0.7' is a text"),
    ],
)
def test_invalid_setting(settings, named, tiny, tokenizer):
    assert re.search(named, rules(tiny, tokenizer, ids([50]), **settings)["invalid-setting"].message)


@pytest.mark.parametrize(
    "settings",
    [
        {"do_sample": False},
        {"do_sample": True, "top_p": 1.0, "min_p": 0.0, "top_k": 0, "temperature": 2.5},
        {"do_sample": True, "top_p": 0.0, "typical_p": 1, "top_k": None},
    ],
)
def test_settings_at_the_end_of_their_range(settings, tiny, tokenizer):
    assert not rules(tiny, tokenizer, ids([50]), **settings)


# --- model-defaults ----------------------------------------------------------------------------------------------


def test_model_defaults_names_what_the_model_brings(tiny, tokenizer):
    sampler = variant(tiny, do_sample=True, temperature=0.6, top_k=50)
    finding = rules(sampler, tokenizer, ids([50]))["model-defaults"]
    assert finding.severity == "note" and "do_sample=True, temperature=0.6 came" in finding.message
    found = rules(sampler, tokenizer, ids([50]), do_sample=True)["model-defaults"]
    assert "temperature=0.6" in found.message and "do_sample" not in found.message
    assert "model-defaults" in watched(sampler, tokenizer, ids([50]))


@pytest.mark.parametrize(
    ("own", "named"),
    [
        ({"top_k": 1}, True), ({"top_k": 50}, False), ({"top_k": 0}, False),
        ({"repetition_penalty": 2}, True), ({"repetition_penalty": 2.0}, True), ({"repetition_penalty": 1}, False),
        ({"temperature": 1}, False), ({"top_p": 0.5}, True), ({"min_p": 0.1}, True), ({"min_p": 0}, False),
    ],
)  # fmt: skip
def test_model_defaults_knows_what_changes_something_from_what_does_not(own, named, tiny, tokenizer):
    ((name, value),) = own.items()
    found = rules(variant(tiny, **own), tokenizer, ids([50]), do_sample=True).get("model-defaults")
    assert (found is not None and f"{name}={value} came" in found.message) is named


def test_model_defaults_where_the_caller_decides(tiny, tokenizer):
    sampler = variant(tiny, do_sample=True, temperature=0.6)
    assert not rules(sampler, tokenizer, ids([50]), do_sample=False)
    assert not rules(sampler, tokenizer, ids([50]), do_sample=True, temperature=0.9)
    assert not rules(tiny, tokenizer, ids([50]), do_sample=True, temperature=0.9)
    assert not rules(variant(tiny, temperature=0.6), tokenizer, ids([50]))


def test_a_pipeline_samples_by_itself(tiny, tokenizer):
    pipe = make_pipeline("text-generation", model=variant(tiny), tokenizer=tokenizer)
    with pitfalls.watch(pipe.model, tokenizer) as calls:
        pipe("1, 2, 3,", max_new_tokens=2)
        pipe("1, 2, 3,", max_new_tokens=2, do_sample=False)
        pipe("1, 2, 3,", max_new_tokens=2, do_sample=True)
    assert ["model-defaults" in call.report.rules for call in calls] == [True, False, False]
    assert "temperature 0.7" in str(calls[0].report)
    assert "ignored-sampling-flags" not in calls[1].report.rules, "the pipeline's temperature is not the caller's"


# --- beam-sampling -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beams", [2, 5])
def test_beam_sampling(beams, tiny, tokenizer):
    found = rules(tiny, tokenizer, ids([50]), do_sample=True, num_beams=beams, temperature=0.2)
    assert f"num_beams={beams}" in found["beam-sampling"].message and "0.2" in found["beam-sampling"].message


@pytest.mark.parametrize(
    "settings",
    [{"num_beams": 4}, {"do_sample": True, "num_beams": 4}, {"do_sample": True, "temperature": 0.2},
     {"do_sample": True, "num_beams": 4, "temperature": 1.3}],
)  # fmt: skip
def test_beams_or_sampling_alone(settings, tiny, tokenizer):
    assert not rules(tiny, tokenizer, ids([50]), **settings)


# --- several-sequences -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "searched"),
    [({"num_return_sequences": 3}, "greedy decoding"), ({"num_return_sequences": 3, "num_beams": 2}, "num_beams=2")],
)
def test_several_sequences_that_raise(settings, searched, tiny, tokenizer):
    finding = rules(tiny, tokenizer, ids([50]), **settings)["several-sequences"]
    assert finding.severity == "error" and searched in finding.message and "=3" in finding.message
    assert "several-sequences" in explained(tiny, tokenizer, lambda: tiny.generate(**ids([50]), **settings))


@pytest.mark.parametrize(
    "settings",
    [{"num_return_sequences": 3, "do_sample": True}, {"num_return_sequences": 2, "num_beams": 4}, {"num_beams": 4},
     {"num_return_sequences": 1}],
)  # fmt: skip
def test_several_sequences_from_a_search_that_has_them(settings, tiny, tokenizer):
    assert not rules(tiny, tokenizer, ids([50]), **settings)


def test_beams_that_say_the_same(model, tokenizer):
    inputs = bare(tokenizer, "The capital of France is")
    found = watched(model, tokenizer, inputs, num_beams=2, num_return_sequences=2, max_new_tokens=8)
    assert found["several-sequences"].severity == "note" and "2 beams" in found["several-sequences"].message


# --- repetition-penalty ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("chat", "count"), [(AGAIN, 4), (ASKED, 2)])
def test_repetition_penalty_counts_the_end_tokens_of_the_prompt(chat, count, tiny, tokenizer):
    found = rules(tiny, tokenizer, chat_of(tokenizer, chat), repetition_penalty=1.3)
    assert f"1.3 lowers the end token too, which stands {count} times" in found["repetition-penalty"].message


def test_repetition_penalty_that_is_weak_or_meets_no_end_token(tiny, tokenizer):
    assert "repetition-penalty" not in rules(tiny, tokenizer, chat_of(tokenizer, AGAIN), repetition_penalty=1.05)
    assert not rules(tiny, tokenizer, bare(tokenizer, "1, 2, 3,"), repetition_penalty=1.5)
    assert not rules(tiny, tokenizer, bare(tokenizer, "1, 2, 3,", "1"), repetition_penalty=1.5), (
        "pads are no end tokens"
    )


def test_repetition_penalty_after_the_call(tiny, tokenizer):
    chat = chat_of(tokenizer, AGAIN)
    assert "repetition-penalty" not in watched(tiny, tokenizer, chat, [80, END], repetition_penalty=1.3)
    assert "repetition-penalty" in watched(tiny, tokenizer, chat, [80, 81], repetition_penalty=1.3)


# --- padding-side ------------------------------------------------------------------------------------------------


def test_padding_side_names_the_row_and_counts_the_pads(tiny, tokenizer):
    inputs = bare(tokenizer, "1, 2, 3, 4, 5", "1, 2", padding_side="right")
    pads = (inputs["attention_mask"][1] == 0).sum().item()
    finding = rules(tiny, tokenizer, inputs)["padding-side"]
    assert finding.severity == "error" and f"Row 1 ends in {pads} pad tokens" in finding.message
    assert "padding-side" in watched(tiny, tokenizer, inputs)


@pytest.mark.parametrize("mask", [None, [[1] * 6], [[1, 1, 1, 1, 0, 0]]])
def test_padding_side_of_one_row(mask, speaker):
    own, model = speaker("gpt-2")
    found = rules(model, own, ids([50, 51, 52, 53, 0, 0], mask=mask))
    assert "pad token" in found["padding-side"].message


def test_padding_side_where_a_mask_of_ones_stands_over_the_pads(speaker):
    own, model = speaker("llama")
    pad = own.pad_token_id
    found = rules(model, own, ids([50, 51, pad, pad], [60, 61, 62, 63], mask=[[1] * 4] * 2))
    assert "2 pad tokens" in found["padding-side"].message and "reads as text" in found["attention-mask"].message


E0 = 0  # <|endoftext|>, of which GPT-2 makes everything
PADDED_RIGHTLY = {
    "left": ids([E0, E0, 50], [60, 61, 62], mask=[[0, 0, 1], [1, 1, 1]]),
    "a beginning in each row": ids([E0, E0, 50], [E0, 61, 62], mask=[[0, 1, 1], [1, 1, 1]]),
    "a beginning in one row": ids([E0, E0, 50], [60, 61, 62], mask=[[0, 1, 1], [1, 1, 1]]),
    "an end in each row": ids([E0, 50, E0], [60, 61, E0], mask=[[0, 1, 1], [1, 1, 1]]),
    "an end in one row": ids([E0, 50, E0], [60, 61, 62], mask=[[0, 1, 1], [1, 1, 1]]),
    "turns that end, no mask": ids([50, 51, E0, 60, 61, E0]),
    "rows that end, no mask": ids([50, E0, 51, E0], [60, 61, 62, E0]),
    "a beginning, no mask": ids([E0, 50, 51]),
    "nothing but a beginning": ids([E0]),
    "equal rows, no mask": ids([50, 51], [60, 61]),
    "true and false": {"input_ids": torch.tensor([[E0, 50], [60, 61]]),
                       "attention_mask": torch.tensor([[False, True], [True, True]])},
    "a mask of four dimensions": {"input_ids": torch.tensor([[50, 51]]), "attention_mask": torch.ones(1, 1, 2, 2)},
    "a mask for the cache too": {"input_ids": torch.tensor([[50]]), "attention_mask": torch.ones(1, 5),
                             "past_key_values": DynamicCache()},
}  # fmt: skip


@pytest.mark.parametrize("given", PADDED_RIGHTLY.values(), ids=PADDED_RIGHTLY)
def test_padding_is_fine_where_one_token_is_pad_beginning_and_end(given, speaker):
    own, model = speaker("gpt-2")
    assert not rules(model, own, given)


@pytest.mark.parametrize("chat", [ANSWERED, [*AGAIN, {"role": "assistant", "content": "Madrid."}]])
def test_turns_that_all_end_in_an_end_token_are_no_padding(chat, speaker):
    own, model = speaker("dialogpt")
    assert not rules(model, own, chat_of(own, chat))
    assert not rules(model, own, chat_of(own, [chat, [*chat, *ASKED]], padding=True))


# --- attention-mask ----------------------------------------------------------------------------------------------


def test_attention_mask_that_is_missing_or_all_ones(speaker):
    own, model = speaker("llama")
    inputs = bare(own, "1, 2, 3, 4, 5", "1, 2")
    pads = (inputs["attention_mask"][1] == 0).sum().item()
    found = rules(model, own, inputs["input_ids"])["attention-mask"]
    assert found.severity == "error" and f"Row 1 has {pads} pad tokens" in found.message
    assert "there is no attention mask" in found.message
    ones = {"input_ids": inputs["input_ids"], "attention_mask": torch.ones_like(inputs["input_ids"])}
    assert "the mask is one there" in rules(model, own, ones)["attention-mask"].message
    assert set(watched(model, own, inputs["input_ids"])) == {"attention-mask"}


def test_a_mask_that_hides_the_wrong_end_of_the_row(tiny, tokenizer):
    own = copied(tokenizer)
    own.pad_token = "<|endoftext|>"
    model = variant(tiny, pad_token_id=own.pad_token_id)
    given = ids([E0, E0, 50, 51], [60, 61, 62, 63], mask=[[1, 1, 0, 0], [1, 1, 1, 1]])
    assert "Row 0 has 2 pad tokens" in rules(model, own, given)["attention-mask"].message


def test_attention_mask_is_found_by_generate_where_the_pad_is_a_token_of_its_own(tiny, tokenizer):
    own = copied(tokenizer)
    own.pad_token = "<|endoftext|>"
    inputs = bare(own, "1, 2, 3, 4, 5", "1, 2")["input_ids"]
    assert not rules(variant(tiny, pad_token_id=own.pad_token_id), own, inputs)
    assert "attention-mask" in rules(variant(tiny, pad_token_id=None), own, inputs), "the model doesn't know the pad"
    ends = variant(tiny, pad_token_id=own.pad_token_id, eos_token_id=[END, own.pad_token_id])
    assert "attention-mask" in rules(ends, own, inputs), "a pad that is an end token too is not masked"


@pytest.mark.parametrize("like", ["llama", "gpt-2", "qwen", "gemma"])
def test_padding_with_the_end_token_is_fine_with_a_mask(like, speaker):
    own, model = speaker(like)
    inputs = bare(own, "1, 2, 3, 4, 5", "1, 2")
    assert inputs["attention_mask"][1, 0] == 0 and own.pad_token_id == own.eos_token_id
    assert not rules(model, own, inputs)


@pytest.mark.parametrize("like", ["llama", "gpt-2", "qwen", "gemma"])
def test_rows_of_equal_length_need_no_mask(like, speaker):
    own, model = speaker(like)
    inputs = bare(own, "1, 2, 3", "4, 5, 6")
    assert inputs["attention_mask"].all()
    assert not rules(model, own, inputs["input_ids"])


# --- no-pad-token ------------------------------------------------------------------------------------------------


def test_no_pad_token(tiny, tokenizer):
    own = copied(tokenizer)
    own.pad_token = None
    ragged = own(["1, 2, 3", "1"])
    assert "different lengths, and the tokenizer has no pad" in rules(tiny, own, ragged)["no-pad-token"].message
    assert "they need padding" in rules(tiny, tokenizer, ragged)["no-pad-token"].message
    assert "asked to pad" in explained(tiny, own, lambda: own(["1, 2", "1"], padding=True))["no-pad-token"]
    note = explained(tiny, own, lambda: own(["1, 2", "1"], return_tensors="pt"))["no-pad-token"]
    assert "different lengths" in note


def test_no_pad_token_is_no_matter_for_one_row_or_equal_rows(tiny, tokenizer):
    own = copied(tokenizer)
    own.pad_token = None
    for texts in (["1, 2, 3"], ["1, 2, 3", "4, 5, 6"]):
        assert not rules(tiny, own, own(texts, return_tensors="pt"))
    assert "no-pad-token" not in rules(tiny, own, own("1, 2, 3")), "a list of ids has another mistake"
    assert "no-pad-token" not in rules(tiny, own, own(["1, 2, 3", "4, 5, 6"]))


# --- ids-past-embedding ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def narrow():
    return tiny_model(300)


@pytest.mark.parametrize(("row", "wrong"), [([50, 300], 300), ([49000, 50], 49000), ([50, -1], -1)])
def test_ids_past_embedding(row, wrong, narrow, tokenizer):
    finding = rules(narrow, tokenizer, ids(row))["ids-past-embedding"]
    assert finding.severity == "error" and f"id {wrong} " in finding.message and "299" in finding.message
    assert "ids-past-embedding" in explained(narrow, tokenizer, lambda: narrow.generate(**ids(row), max_new_tokens=2))


def test_a_tokenizer_that_has_outgrown_the_model(tokenizer):
    own = copy.deepcopy(tokenizer)
    own.add_tokens(["<new>"])
    finding = rules(tiny_model(len(tokenizer)), own, ids([50]))["ids-past-embedding"]
    assert finding.severity == "warning" and str(len(own)) in finding.message


def test_ids_up_to_the_last_row_and_a_table_with_rows_to_spare(narrow, tiny, tokenizer):
    assert not rules(narrow, None, ids([0, 299]))
    assert tiny.config.vocab_size > len(tokenizer)
    assert not rules(tiny, tokenizer, ids([0, len(tokenizer) - 1]))


# --- pad-mismatch ------------------------------------------------------------------------------------------------


def test_pad_mismatch(tiny, tokenizer):
    letter = tokenizer.convert_tokens_to_ids("x")
    other = variant(tiny, pad_token_id=letter)
    finding = rules(other, tokenizer, ids([50, 51], [60, 61]))["pad-mismatch"]
    assert "'x'" in finding.message and f"id {letter}" in finding.message
    assert "pad-mismatch" in rules(tiny, tokenizer, ids([50, 51], [60, 61]), pad_token_id=letter)
    assert "pad-mismatch" in watched(other, tokenizer, ids([50, 51], [60, 61]), [80, END], [80, 81, 82, END])


def test_pad_mismatch_that_fills_nothing(tiny, tokenizer):
    other = variant(tiny, pad_token_id=tokenizer.convert_tokens_to_ids("x"))
    assert "pad-mismatch" not in rules(other, tokenizer, ids([50, 51]))
    assert "pad-mismatch" not in watched(other, tokenizer, ids([50, 51], [60, 61]), [80, END], [81, END])
    assert not rules(tiny, tokenizer, ids([50, 51], [60, 61])), "pad and end token in one"


def test_a_pad_that_decoding_skips_is_no_mismatch(tiny, tokenizer):
    own = copy.deepcopy(tokenizer)
    own.add_tokens(["<|reserved_pad|>"], special_tokens=True)  # special, but in none of the tokenizer's roles
    pad = own.convert_tokens_to_ids("<|reserved_pad|>")
    assert pad not in own.all_special_ids and own.decode([50, pad], skip_special_tokens=True) == own.decode([50])
    assert not rules(variant(tiny, pad_token_id=pad), own, ids([50, 51], [60, 61]))
    assert not rules(variant(tiny, pad_token_id=0), own, ids([50, 51], [60, 61])), "<|endoftext|>"


# --- prompt-template ---------------------------------------------------------------------------------------------

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


@pytest.mark.parametrize("text", QUESTIONS.values(), ids=QUESTIONS)
def test_prompt_template_is_missing_around_a_question(text, tiny, tokenizer):
    finding = rules(tiny, tokenizer, bare(tokenizer, text))["prompt-template"]
    assert finding.severity == "warning" and finding.message.startswith("The prompt asks")
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
    found = watched(tiny, tokenizer, statement, [END], [80, 81, END])["prompt-template"]
    assert "Row 0" in found.message and "ended the turn at once" in found.message
    assert "prompt-template" not in watched(tiny, tokenizer, statement, [80, END], [80, 81, END])
    assert "prompt-template" not in watched(tiny, with_template(tokenizer, None), statement, [END], [END])


def test_the_real_model_says_nothing_to_a_bare_question(model, tokenizer):
    found = watched(model, tokenizer, bare(tokenizer, QUESTIONS["english"]))
    assert "ended the turn at once" in found["prompt-template"].message
    assert "prompt-template" not in watched(model, tokenizer, bare(tokenizer, "The capital of France is"))


# --- generation-prompt -------------------------------------------------------------------------------------------


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


def test_generation_prompt_that_the_template_ignores(tiny, tokenizer):
    own = with_template(tokenizer, CHATML.replace(ASK + "<|im_start|>assistant\n" + FI, ""))
    assert "ignores add_generation_prompt" in rules(tiny, own, chat_of(own, ASKED))["generation-prompt"].message


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


# --- truncated-prompt --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chat", [ASKED, TALE], ids=["short", "long"])
@pytest.mark.parametrize("name", [name for name in MARKED if FACTS[name][2].strip()])
def test_truncated_prompt(name, chat, speaker):
    own, model = speaker(name)
    whole = text_of(own, chat)
    text = whole[: whole.rfind("mat" if chat is TALE else "France")]
    inputs = own(text, add_special_tokens=False, return_tensors="pt")
    finding = rules(model, own, inputs)["truncated-prompt"]
    assert finding.severity == "error" and repr(FACTS[name][2].strip()) in finding.message


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


# --- handwritten-template ----------------------------------------------------------------------------------------


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


# --- foreign-markers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "marker"),
    [
        ("[INST] What is 2 + 2? [/INST]", "[INST]"),
        ("<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n", "<start_of_turn>"),
        ("<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>", "<|start_header_id|>"),
        ("<|user|>\nHi<|end|>\n<|assistant|>\n", "<|user|>"),
        ("### Instruction:\nSay hi.\n\n### Response:\n", "### Instruction:"),
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


# --- special-tokens-as-text --------------------------------------------------------------------------------------


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


# --- template-on-base-model --------------------------------------------------------------------------------------


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


# --- system-role -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chat", "said"),
    [
        ([{"role": "system", "content": "Be brief."}, *ASKED], "System role not supported"),
        ([*ASKED, *ASKED], "Roles must alternate"),
    ],
)
def test_system_role_that_the_template_refuses(chat, said, speaker):
    own, model = speaker("gemma")
    note = explained(model, own, lambda: own.apply_chat_template(chat))["system-role"]
    assert said in note and "first user turn" in note


def test_system_role_that_the_template_takes(speaker):
    own, model = speaker("qwen")
    chat = [{"role": "system", "content": "Be brief."}, *ASKED]
    with pitfalls.watch(model, own) as calls:
        model.generate(**chat_of(own, chat), max_new_tokens=2)
    assert not set(calls[-1].report.rules) & {"system-role", "generation-prompt"}


def test_another_error_of_a_template_is_no_system_role(tiny, tokenizer):
    own = with_template(tokenizer, "{{ 1 / 0 }}")
    assert not explained(tiny, own, lambda: own.apply_chat_template(ASKED))


# --- double-bos --------------------------------------------------------------------------------------------------

ADDS_BOS = [name for name in MARKED if FORMATS[name][4]]


@pytest.mark.parametrize("name", [name for name in ADDS_BOS if name not in ("phi-3", "zephyr")])
def test_double_bos_of_a_template_that_is_tokenized_again(name, speaker):
    own, model = speaker(name)
    texts = [text_of(own, chat, add_generation_prompt=True) for chat in (ASKED, AGAIN)]
    assert repr(own.bos_token) in rules(model, own, own(texts[0], return_tensors="pt"))["double-bos"].message
    assert "Row 0" in rules(model, own, bare(own, *texts))["double-bos"].message
    assert "double-bos" not in rules(model, own, bare(own, *texts, add_special_tokens=False))


@pytest.mark.parametrize("name", [name for name in MARKED if name not in ADDS_BOS or name in ("phi-3", "zephyr")])
def test_tokenizing_again_is_fine_where_it_adds_no_second_bos(name, speaker):
    own, model = speaker(name)
    again = own(text_of(own, ASKED, add_generation_prompt=True), return_tensors="pt")
    assert not rules(model, own, again)


def test_double_bos_typed_by_hand(speaker):
    own, model = speaker("llama")
    assert "double-bos" in rules(model, own, bare(own, "<s>Once upon a time"))
    assert "double-bos" not in rules(model, own, bare(own, "<s>Once upon a time", add_special_tokens=False))


def test_padding_with_the_bos_is_no_double_bos(speaker):
    own, model = speaker("gpt-2")
    assert not rules(model, own, ids([0, 0, 0, 50], [0, 60, 61, 62], mask=[[0, 0, 1, 1], [1, 1, 1, 1]]))


# --- missing-bos -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ADDS_BOS, "llama"])
def test_missing_bos_of_a_bare_text(name, speaker):
    own, model = speaker(name)
    finding = rules(model, own, bare(own, "1, 2, 3,", add_special_tokens=False))["missing-bos"]
    assert repr(own.bos_token) in finding.message
    batch = bare(own, "1, 2, 3, 4, 5", "1, 2", add_special_tokens=False)
    assert "Row 0" in rules(model, own, batch)["missing-bos"].message
    assert "missing-bos" not in rules(model, own, bare(own, "1, 2, 3, 4, 5", "1, 2"))


@pytest.mark.parametrize("name", ["llama-3", "gemma", "mistral", "deepseek-r1", "command-r"])
def test_missing_bos_of_a_chat(name, speaker):
    own, model = speaker(name)
    text = text_of(own, ASKED, add_generation_prompt=True).removeprefix(own.bos_token)
    assert "missing-bos" in rules(model, own, own(text, add_special_tokens=False, return_tensors="pt"))
    assert "missing-bos" not in rules(model, own, own(text, return_tensors="pt")), "the tokenizer adds it"


@pytest.mark.parametrize("name", ["qwen", "gpt-2", "zephyr"])
def test_no_bos_where_the_tokenizer_adds_none(name, speaker):
    own, model = speaker(name)
    given = bare(own, "1, 2, 3,", add_special_tokens=False)
    assert ("missing-bos" in rules(model, own, given)) is (name in ADDS_BOS)


# --- end-token ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in MARKED if name not in ("phi-3", "gemma")])
def test_end_token_of_the_template_does_not_stop(name, speaker):
    own, model = speaker(name)
    finding = rules(model, own, chat_of(own, ASKED), eos_token_id=0)["end-token"]
    assert repr(FACTS[name][4]) in finding.message and "[0]" in finding.message
    assert "end-token" not in rules(model, own, chat_of(own, ASKED), eos_token_id=[0, own.eos_token_id])


@pytest.mark.parametrize("name", ["phi-3", "gemma"])
def test_end_token_of_a_model_that_knows_only_the_end_of_a_text(name, speaker):
    own, model = speaker(name)
    only = variant(model, eos_token_id=own.eos_token_id)
    assert repr(FACTS[name][4]) in rules(only, own, chat_of(own, ASKED))["end-token"].message
    assert "end-token" not in rules(model, own, chat_of(own, ASKED))


def test_end_token_after_the_call(tiny, tokenizer):
    chat = chat_of(tokenizer, ASKED)
    found = watched(tiny, tokenizer, chat, [80, END, 81], eos_token_id=0)["end-token"]
    assert "'<|im_end|>'" in found.message and "went on" in found.message
    turn = "Paris.\n<|im_start|>user\nAnd"
    assert "invented turn" in watched(tiny, tokenizer, chat, turn, max_new_tokens=7)["end-token"].message
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


# --- encoder-decoder ---------------------------------------------------------------------------------------------


def test_encoder_decoder_silences_the_other_rules(tokenizer):
    class Model:
        config = T5Config(d_model=8, d_ff=8, num_layers=1)

    right = bare(tokenizer, "1, 2, 3", "1", padding_side="right")
    for inputs in (right, right["input_ids"], "1, 2, 3"):
        report = pitfalls.check(Model(), tokenizer, inputs, temperature=0.7)
        assert report.rules == {"encoder-decoder"} and report.findings[0].severity == "note"


def test_encoder_decoder_is_silent_for_other_models(tiny, tokenizer):
    assert "encoder-decoder" not in rules(tiny, tokenizer, ids([50]))
    assert "encoder-decoder" not in rules(None, tokenizer, ids([50]))


# --- positional-inputs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [("1, 2, 3", "The input is text"), (["1, 2, 3"], "The input is text"), ([[50, 51]], "is a list"),
     (torch.tensor([50, 51]), r"shape \(2,\)")],
)  # fmt: skip
def test_positional_inputs(given, said, tiny, tokenizer):
    for inputs in (given, {"input_ids": given}):
        assert re.search(said, rules(tiny, tokenizer, inputs)["positional-inputs"].message)


def test_positional_inputs_as_a_batch_encoding(tiny, tokenizer):
    inputs = bare(tokenizer, "1, 2, 3")
    assert "BatchEncoding" in explained(tiny, tokenizer, lambda: tiny.generate(inputs))["positional-inputs"]
    assert "BatchEncoding" in explained(tiny, tokenizer, lambda: tiny(inputs))["positional-inputs"]
    assert "A dict stands" in explained(tiny, tokenizer, lambda: tiny.generate(dict(inputs)))["positional-inputs"]


def test_ids_of_two_dimensions_are_right_by_position_and_by_name(tiny, tokenizer):
    inputs = bare(tokenizer, "1, 2, 3")
    for given in (inputs, dict(inputs), inputs["input_ids"], {"inputs": inputs["input_ids"]}):
        assert not rules(tiny, tokenizer, given)
    with pitfalls.watch(tiny, tokenizer) as calls:
        tiny.generate(inputs["input_ids"], max_new_tokens=2)
    assert "positional-inputs" not in calls[0].report.rules


def test_another_attribute_error_is_not_about_the_inputs(tiny, tokenizer):
    assert "positional-inputs" not in explained(tiny, tokenizer, lambda: tiny.no_such_thing)


# --- unknown-argument --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_tokens": 5}, "no 'max_tokens'; here it is 'max_new_tokens'"),
        ({"max_new_token": 5}, "no 'max_new_token'; here it is 'max_new_tokens'"),
        ({"stop": ["."]}, "'stop_strings'"),
        ({"n": 3}, "'num_return_sequences'"),
        ({"quux": 1}, "generate takes no 'quux'."),
        ({"token_type_ids": torch.tensor([[0]])}, "return_token_type_ids=False"),
        ({"generation_config": {"max_new_tokens": 5}}, "GenerationConfig(**settings)"),
    ],
)
def test_unknown_argument(settings, said, tiny, tokenizer):
    assert said in rules(tiny, tokenizer, ids([50]), **settings)["unknown-argument"].message
    assert "unknown-argument" in explained(tiny, tokenizer, lambda: tiny.generate(**ids([50]), **settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"token_type_ids": None},
        {"position_ids": torch.tensor([[0]]), "past_key_values": None, "logits_to_keep": 1},
        {"output_scores": True, "return_dict_in_generate": True, "output_attentions": True},
        {"prompt_lookup_num_tokens": 3, "renormalize_logits": True, "min_new_tokens": 1, "guidance_scale": 1.5},
        {"cache_implementation": "static", "synced_gpus": False, "use_model_defaults": False},
        {"prefix_allowed_tokens_fn": lambda batch, ids: [50], "stopping_criteria": [], "logits_processor": []},
    ],
)
def test_arguments_that_generate_knows(settings, tiny, tokenizer):
    assert "unknown-argument" not in rules(tiny, tokenizer, ids([50]), **settings)
    assert "unknown-argument" not in rules(None, tokenizer, ids([50]), quux=1), "without a model nobody knows"


# --- removed-keyword ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keyword", ["load_in_4bit", "load_in_8bit"])
def test_removed_keyword(keyword, tokenizer):
    def load():
        LlamaForCausalLM(tiny_model(9).config, **{keyword: True})

    assert f"BitsAndBytesConfig({keyword}=True)" in explained(None, tokenizer, load)["removed-keyword"]


def test_removed_keyword_is_not_any_keyword(tokenizer):
    assert not explained(None, tokenizer, lambda: LlamaForCausalLM(tiny_model(9).config, quux=True))
    assert RULES["removed-keyword"](Call(error=KeyError("load_in_4bit"))) is None


# --- stop-strings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [{"stop_strings": ["."]}, {"generation_config": GenerationConfig(stop_strings="#")}]
)
def test_stop_strings_without_the_tokenizer(settings, tiny, tokenizer):
    found = rules(tiny, tokenizer, ids([50]), **settings)["stop-strings"]
    assert found.severity == "error" and ("'.'" in found.message or "'#'" in found.message)
    assert "stop-strings" in explained(tiny, tokenizer, lambda: tiny.generate(**ids([50]), **settings))
    assert "stop-strings" in rules(variant(tiny, stop_strings=["."]), tokenizer, ids([50]))


def test_stop_strings_with_the_tokenizer(tiny, tokenizer):
    assert not rules(tiny, tokenizer, ids([50]), stop_strings=["."], tokenizer=tokenizer)
    assert not rules(tiny, tokenizer, ids([50]), tokenizer=tokenizer)
    pipe = make_pipeline("text-generation", model=variant(tiny), tokenizer=tokenizer)
    with pitfalls.watch(pipe.model, tokenizer) as calls:
        pipe("1, 2, 3,", max_new_tokens=2, do_sample=False, stop_sequence=".")
    assert "stop-strings" not in calls[0].report.rules, "under this name, a pipeline hands its tokenizer over"
    note = explained(pipe.model, tokenizer, lambda: pipe("1, 2, 3,", max_new_tokens=2, stop_strings=["."]))
    assert "stop-strings" in note


# --- streamer ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "settings", "said"),
    [(1, {"num_beams": 2}, "num_beams=2"), (3, {}, "this call has 3"),
     (1, {"num_return_sequences": 2, "do_sample": True}, "this call has 2")],
)  # fmt: skip
def test_streamer(rows, settings, said, tiny, tokenizer):
    settings = settings | {"streamer": TextStreamer(tokenizer)}
    assert said in rules(tiny, tokenizer, ids(*[[50, 51]] * rows), **settings)["streamer"].message


@pytest.mark.parametrize(
    "settings", [{}, {"num_beams": 1, "num_return_sequences": 1}, {"do_sample": True, "temperature": 0.7}]
)
def test_a_streamer_for_one_row(settings, tiny, tokenizer):
    assert not rules(tiny, tokenizer, ids([50, 51]), streamer=TextStreamer(tokenizer), **settings)
    assert not rules(tiny, tokenizer, ids([50], [51]), streamer=None)


# --- half-precision ----------------------------------------------------------------------------------------------


def test_half_precision():
    half = tiny_model(300).half()
    assert "float16" in rules(half, None, ids([50]))["half-precision"].message
    assert "half-precision" in watched(half, None, ids([50]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_precisions_and_other_devices(dtype):
    assert not rules(tiny_model(300).to(dtype), None, ids([50]))
    elsewhere = type("Model", (), {"dtype": torch.float16, "device": torch.device("cuda")})
    assert "half-precision" not in rules(elsewhere(), None, ids([50]))


# --- nan-logits --------------------------------------------------------------------------------------------------


def test_nan_logits():
    broken = tiny_model(300)
    broken.lm_head.weight.data[7] = float("nan")
    found = watched(broken, None, ids([50, 51]))["nan-logits"]
    assert found.severity == "error" and found.message.startswith("The logits")
    note = explained(broken, None, lambda: broken.generate(**ids([50]), do_sample=True))["nan-logits"]
    assert "error: nan-logits" in note
    error = RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
    assert "no number to draw from" in RULES["nan-logits"](Call(error=error)).message


def test_nan_logits_names_the_row():
    broken = tiny_model(300)
    broken.model.embed_tokens.weight.data[99] = float("nan")
    given = ids([50, 51], [99, 52], mask=[[1, 1], [1, 1]])
    assert "Row 1's" in watched(broken, None, given)["nan-logits"].message


def test_minus_infinity_is_a_number(tiny, tokenizer):
    assert "nan-logits" not in watched(tiny, tokenizer, ids([50]), do_sample=True, top_k=2, bad_words_ids=[[80]])
    assert "nan-logits" not in watched(tiny, tokenizer, ids([50], [51]))


# --- train-mode --------------------------------------------------------------------------------------------------


def test_train_mode():
    model = tiny_model(300).train()
    assert "model.training is True" in rules(model, None, ids([50]))["train-mode"].message
    assert "train-mode" in watched(model, None, ids([50]))
    assert "train-mode" not in rules(model.eval(), None, ids([50]))


def test_training_of_the_weights_is_no_train_mode(tiny):
    assert all(weight.requires_grad for weight in tiny.parameters())
    assert "train-mode" not in rules(tiny, None, ids([50]))


# --- use-cache ---------------------------------------------------------------------------------------------------


def test_use_cache_is_off():
    model = tiny_model(300)
    assert "cache is off" in rules(model, None, ids([50]), use_cache=False)["use-cache"].message
    assert "use-cache" in rules(variant(model, use_cache=False), None, ids([50]))
    model.gradient_checkpointing_enable()
    assert "use-cache" in rules(model.train(), None, ids([50]))


@pytest.mark.parametrize("settings", [{}, {"use_cache": True}, {"use_cache": None}])
def test_use_cache_is_on(settings):
    model = tiny_model(300)
    assert not rules(model, None, ids([50]), **settings)
    model.gradient_checkpointing_enable()
    assert not rules(model.eval(), None, ids([50]), **settings), "checkpointing matters in training mode only"
    assert "use-cache" not in rules(tiny_model(300).train(), None, ids([50]))


# --- device ------------------------------------------------------------------------------------------------------


def located(device: str):
    return type("Model", (), {"device": torch.device(device), "dtype": torch.float32})()


def test_device_of_the_inputs_is_another(tokenizer):
    assert "ids are on cpu, the model is on cuda" in rules(located("cuda:0"), tokenizer, ids([50]))["device"].message
    assert (
        "on meta, the model is on cpu"
        in rules(located("cpu"), None, torch.zeros((1, 2), device="meta"))["device"].message
    )
    error = RuntimeError("Expected all tensors to be on the same device, but found two")
    assert RULES["device"](Call(error=error)).severity == "error"


def test_device_is_the_same_or_unknown(tiny, tokenizer):
    assert "device" not in rules(tiny, tokenizer, ids([50]))
    assert "device" not in rules(None, tokenizer, ids([50]))
    assert RULES["device"](Call(error=RuntimeError("out of memory"))) is None


def test_a_model_whose_weights_are_offloaded_takes_its_inputs_from_anywhere(tokenizer):
    assert "device" not in rules(located("meta"), tokenizer, ids([50])), "accelerate leaves them on meta meanwhile"


# --- trailing-space ----------------------------------------------------------------------------------------------


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


# --- prompt-echo -------------------------------------------------------------------------------------------------


def decoded(model, tokenizer, inputs, decode, *said: list[int]) -> dict:
    """The findings after `decode(output)`, inside `watch`."""
    with pitfalls.watch(model, tokenizer) as calls:
        output = model.generate(**inputs, max_new_tokens=4, logits_processor=[Script(*said)])
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


# --- special-tokens-kept -----------------------------------------------------------------------------------------


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
