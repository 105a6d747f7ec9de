"""Calls to look at, and what `check` and `watch` say of them; the chat formats of the model families."""

import copy
import re

import pytest
import torch
from tokenizers.processors import TemplateProcessing

import pitfalls
from tests.helpers import Script, tiny_llama
from tools.lessons import ROOT

BOS = 1  # of the embedded tokenizer: <|im_start|>
LESSONS = {path.stem for path in (ROOT / "notebooks").glob("[01]*.ipynb")} | {"08_your_own_code"}
ASKED = [{"role": "user", "content": "What is the capital of France?"}]
ANSWERED = [*ASKED, {"role": "assistant", "content": "Paris."}]
AGAIN = [*ANSWERED, {"role": "user", "content": "And of Spain?"}]
BEGUN = [*ASKED, {"role": "assistant", "content": "The capital is"}]
TALE = [{"role": "user", "content": "Sum up this text. " + "The cat sat on the mat. " * 60}]
CHATS = {"one turn": ASKED, "several turns": AGAIN, "long": TALE}
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


def variant(model, **settings):
    """The same weights with other settings of its own."""
    other = copy.copy(model)
    other.generation_config = copy.deepcopy(model.generation_config)
    other.generation_config.update(**settings)
    return other


def rules(model, tokenizer, inputs, /, **settings) -> dict:
    """The findings of `check` by their names. The call has a budget, so that `length` does not speak everywhere."""
    report = pitfalls.check(model, tokenizer, inputs, **{"max_new_tokens": 600} | settings)
    return {finding.rule: finding for finding in report}


def watched(model, tokenizer, inputs, /, *said: list[int] | str, **settings) -> dict:
    """The findings of `watch` on a call in which the rows say the given ids or texts."""
    said = [tokenizer(row, add_special_tokens=False)["input_ids"] if isinstance(row, str) else row for row in said]
    inputs = inputs if hasattr(inputs, "keys") else {"input_ids": inputs}
    script = {"logits_processor": [Script(inputs["input_ids"].shape[1], *said)]} if said else {}
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
    return own, tiny_llama(len(own) + 10, eos_token_id=ends, pad_token_id=own.pad_token_id)


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
