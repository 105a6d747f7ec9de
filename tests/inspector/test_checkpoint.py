"""What `inspect_model` and `python -m pitfalls model` say of a checkpoint, from its small files alone."""

import json
import re
import struct
import sys
from pathlib import Path

import huggingface_hub
import pytest
import safetensors
import safetensors.torch
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

import pitfalls
from pitfalls import ModelError, inspect_model
from pitfalls.__main__ import main
from pitfalls.inspector import oddities
from pitfalls.inspector.stored import weights_listed
from pitfalls.model import choose
from tests.helpers import WORD_TEMPLATE, tiny_llama, word_tokenizer

SIZE = 60  # of the vocabulary; id 2 is "<end>"


def save(folder: Path, tokenizer=None, config=None, settings=None) -> Path:
    """A small checkpoint; `config` and `settings` are written over what its two files say, None takes a key out."""
    tiny_llama(SIZE).save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    for file, changes in (("config.json", config), ("generation_config.json", settings)):
        path = folder / file
        values = json.loads(path.read_text()) | (changes or {})
        path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))
    return folder


@pytest.fixture
def own():
    """A tokenizer that fits the small model in all respects, to be changed by a test."""
    roles = {"eos_token": "<end>", "pad_token": "<pad>"}
    made = word_tokenizer(SIZE, **roles, padding_side="left", model_max_length=2048)
    made.chat_template = WORD_TEMPLATE
    return made


@pytest.fixture
def cure(tmp_path):
    """Load a checkpoint, paste a finding's fix behind that, save it all, and look again."""

    def cured(folder: Path, rule: str) -> set[str]:
        (finding,) = [finding for finding in inspect_model(folder).report if finding.rule == rule]
        names = {
            "model": AutoModelForCausalLM.from_pretrained(folder, ignore_mismatched_sizes=True),
            "tokenizer": AutoTokenizer.from_pretrained(folder),
        }
        exec(finding.fix, names)
        for name in ("model", "tokenizer"):
            names[name].save_pretrained(tmp_path / "cured")
        return inspect_model(tmp_path / "cured").report.rules

    return cured


def said(folder: Path, rule: str) -> tuple[str, str]:
    found = {finding.rule: (finding.severity, finding.message) for finding in inspect_model(folder).report}
    assert rule in found, found
    return found[rule]


# --- right checkpoints ---------------------------------------------------------------------------------------------


def test_the_embedded_model():
    seen = inspect_model(pitfalls.fetch_model())
    assert [(finding.rule, finding.severity) for finding in seen.report] == [("padding-side", "note")]
    assert seen.facts["weights"] == {
        "format": "safetensors", "files": 1, "bytes": 538_090_408, "parameters": {"float32": 134_515_008},
        "wrong": {}, "loaded_as": "float32",
    }  # fmt: skip
    assert seen.facts["end_ids"] == {
        "tokenizer": [2], "config": [2], "generation_config": [2], "chat_template": [2], "names": {"2": "<|im_end|>"},
    }  # fmt: skip
    assert seen.facts["chat"]["answer"] == ["<|im_start|>assistant\n", "<|im_end|>\n"]
    assert seen.facts["window"] == {"config": 8192, "tokenizer": 8192} and seen.facts["settings"] == {}
    text = str(seen)
    assert "134.5 million float32: 538.1 MB in 1 .safetensors file" in text
    assert r"'<|im_start|>assistant\n'" in text and "a system text is written" in text
    assert "only the attention mask tells which it is" in text
    assert max(map(len, text.partition("\n\n")[0].splitlines())) <= 100


def test_a_right_checkpoint_has_no_finding(tmp_path, own):
    assert inspect_model(save(tmp_path, own)).report.rules == set()


def test_a_base_model_without_a_template_is_right(tmp_path, own):
    own.chat_template = None
    seen = inspect_model(save(tmp_path, own))
    assert not len(seen.report) and "no template" in str(seen)


def test_an_embedding_padded_to_a_round_size_is_right(tmp_path):
    tiny_llama(vocab_size=64).save_pretrained(tmp_path)
    word_tokenizer(60, eos_token="<end>", pad_token="<pad>", padding_side="left").save_pretrained(tmp_path)
    assert inspect_model(tmp_path).report.rules == set()


# --- what is odd, and its fix --------------------------------------------------------------------------------------


def test_padding_on_the_right(tmp_path, own, cure):
    own.padding_side = "right"
    assert said(save(tmp_path / "a", own), "padding-side")[0] == "note"
    assert cure(tmp_path / "a", "padding-side") == set()


@pytest.mark.parametrize("side", ["left", "right"])
def test_no_pad_token(tmp_path, own, cure, side):
    own.pad_token, own.padding_side = None, side
    folder = save(tmp_path / "a", own, {"pad_token_id": None}, {"pad_token_id": None})
    severity, message = said(folder, "no-pad-token")
    assert severity == "note" and ("on the right" in message) == (side == "right")
    assert cure(folder, "no-pad-token") == set()


def test_short_answers_filled_with_a_word(tmp_path, own, cure):
    folder = save(tmp_path / "a", own, settings={"pad_token_id": 10})
    assert "id 10, which is 'w10'" in said(folder, "pad-mismatch")[1]
    assert cure(folder, "pad-mismatch") == set()


@pytest.mark.parametrize("pad", [-1, 60_000])
def test_short_answers_filled_with_no_token_at_all(tmp_path, own, pad):
    assert "no token" in said(save(tmp_path, own, settings={"pad_token_id": pad}), "pad-mismatch")[1]


def test_another_special_token_as_pad_is_right(tmp_path, own):
    assert inspect_model(save(tmp_path, own, settings={"pad_token_id": 0})).report.rules == set()


def test_the_end_of_an_answer_is_not_heard(tmp_path, own, cure):
    folder = save(tmp_path / "a", own, settings={"eos_token_id": 0})
    severity, message = said(folder, "end-token")
    assert severity == "warning" and "'<end>' (2) ends an answer of the chat template" in message
    assert "[0]" in message and cure(folder, "end-token") == set()


def test_one_of_several_end_ids_is_enough(tmp_path, own):
    folder = save(tmp_path, own, settings={"eos_token_id": [0, 2]})
    assert inspect_model(folder).facts["end_ids"]["generation_config"] == [0, 2]
    assert inspect_model(folder).report.rules == set()


@pytest.mark.parametrize("eos", [None, 0])
def test_a_base_model_does_not_stop_at_its_tokenizers_end(tmp_path, own, cure, eos):
    own.chat_template = None
    folder = save(tmp_path / "a", own, settings={"eos_token_id": eos})
    message = said(folder, "end-token")[1]
    assert "is the tokenizer's end token" in message and ("nothing" in message) == (eos is None)
    assert cure(folder, "end-token") == set()


def bos_tokenizer(tmp_path, template: str, adds: bool = True):
    """`<start>` before every text, if `adds`, and what the template writes."""
    from tokenizers.processors import TemplateProcessing

    made = word_tokenizer(60, eos_token="<end>", pad_token="<pad>", bos_token="<start>", padding_side="left")
    if adds:
        made._tokenizer.post_processor = TemplateProcessing(single="<start> $A", special_tokens=[("<start>", 5)])
    made.chat_template = template
    made.save_pretrained(tmp_path)
    tiny_llama(vocab_size=60).save_pretrained(tmp_path)
    return tmp_path


TURNS = "{% for m in messages %}{{ m.role + ' ' + m.content + ' <end> ' }}{% endfor %}"
TURNS += "{% if add_generation_prompt %}{{ 'assistant ' }}{% endif %}"


def test_bos_twice_where_a_chats_text_is_tokenized_again(tmp_path):
    folder = bos_tokenizer(tmp_path, "{{ bos_token + ' ' }}" + TURNS)
    seen = inspect_model(folder)
    bos = {"asked": False, "token": "<start>", "id": 5, "in_text": 1, "in_chat": 1, "in_chat_tokenized_again": 2}
    assert seen.facts["bos"] == bos and seen.report.rules == {"double-bos"}
    (finding,) = seen.report
    assert finding.severity == "note" and "begins with 2" in finding.message
    names = {"tokenizer": AutoTokenizer.from_pretrained(folder)}
    exec(finding.fix, names)
    assert names["inputs"]["input_ids"][0, :2].tolist().count(5) == 1


def test_a_template_that_writes_bos_twice_is_a_warning(tmp_path):
    folder = bos_tokenizer(tmp_path, "{{ bos_token + ' ' + bos_token + ' ' }}" + TURNS)
    assert said(folder, "double-bos")[0] == "warning"


def test_bos_never_in_a_chat(tmp_path, cure):
    folder = bos_tokenizer(tmp_path / "a", TURNS)
    assert said(folder, "missing-bos")[0] == "note"
    assert "missing-bos" not in cure(folder, "missing-bos")


def test_bos_is_asked_for_and_not_added(tmp_path, cure):
    folder = bos_tokenizer(tmp_path / "a", "{{ bos_token + ' ' }}" + TURNS, adds=False)
    assert inspect_model(folder).report.rules == set()
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"add_bos_token": True}))
    if inspect_model(folder).facts["bos"]["in_text"] == 0:
        assert said(folder, "missing-bos")[0] == "warning"
        assert "missing-bos" not in cure(folder, "missing-bos")


def test_gemma_without_bos(tmp_path):
    folder = bos_tokenizer(tmp_path, "{{ bos_token + ' ' }}" + TURNS, adds=False)
    from transformers import Gemma2Config

    Gemma2Config(vocab_size=60, eos_token_id=2, pad_token_id=1, bos_token_id=5).save_pretrained(folder)
    assert "write nonsense without it" in said(folder, "missing-bos")[1]


def test_settings_switched_on_by_the_checkpoint(tmp_path, own, cure):
    folder = save(tmp_path / "a", own, settings={"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95})
    severity, message = said(folder, "model-defaults")
    assert severity == "note" and "do_sample=True, temperature=0.6, top_k=20, top_p=0.95" in message
    assert inspect_model(folder).facts["settings"]["temperature"] == 0.6
    assert cure(folder, "model-defaults") == set()


def test_settings_that_change_the_text_without_sampling(tmp_path, own, cure):
    folder = save(tmp_path / "a", own, settings={"repetition_penalty": 1.3, "no_repeat_ngram_size": 3})
    assert "repetition_penalty=1.3, no_repeat_ngram_size=3" in said(folder, "model-defaults")[1]
    assert cure(folder, "model-defaults") == set()


def test_sampling_settings_that_wait(tmp_path, own, cure):
    folder = save(tmp_path / "a", own, settings={"temperature": 0.9, "top_p": 0.6})
    assert said(folder, "ignored-sampling-flags")[0] == "note"
    assert cure(folder, "ignored-sampling-flags") == set()


def test_values_of_older_versions_that_change_nothing(tmp_path, own):
    idle = {"do_sample": False, "temperature": 1.0, "top_k": 50, "top_p": 1.0, "num_beams": 1, "max_length": 20,
            "repetition_penalty": 1.0, "use_cache": True, "output_scores": False}  # fmt: skip
    assert inspect_model(save(tmp_path, own, settings=idle)).report.rules == set()


def test_a_temperature_of_zero_that_is_sampled_with(tmp_path, own, cure):
    folder = save(tmp_path / "a", own, settings={"do_sample": True, "temperature": 0.0, "top_p": 0.9})
    assert said(folder, "temperature-zero")[0] == "error"
    assert cure(folder, "temperature-zero") == set()


def test_a_length_that_the_checkpoint_sets(tmp_path, own, cure):
    folder = save(tmp_path / "a", own, settings={"max_length": 4096})
    assert "max_length=4096" in said(folder, "two-lengths")[1]
    assert cure(folder, "two-lengths") == set()


def test_a_cache_that_is_switched_off(tmp_path, own, cure):
    folder = save(tmp_path / "a", own, settings={"use_cache": False})
    assert said(folder, "use-cache")[0] == "warning"
    assert cure(folder, "use-cache") == set()


def test_stop_strings_that_need_a_tokenizer_in_every_call(tmp_path, own, cure):
    folder = save(tmp_path / "a", own, settings={"stop_strings": ["\n\n"]})
    assert said(folder, "stop-strings")[0] == "error"
    assert cure(folder, "stop-strings") == set()


def test_a_window_smaller_than_the_tokenizers(tmp_path, own, cure):
    folder = save(tmp_path / "a", own, {"max_position_embeddings": 1024})
    assert said(folder, "context-window") == (
        "note", "With truncation=True the tokenizer keeps up to 2048 tokens, and the model's window is 1024.",
    )  # fmt: skip
    assert cure(folder, "context-window") == set()


def test_a_tokenizer_without_a_limit_is_right(tmp_path, own):
    own.model_max_length = 10**30
    folder = save(tmp_path, own, {"max_position_embeddings": 1024})
    assert inspect_model(folder).report.rules == set() and "the tokenizer has no limit" in str(inspect_model(folder))


def test_a_token_that_was_added_without_its_row(tmp_path, own, cure):
    own.add_tokens(["<extra>"])
    folder = save(tmp_path / "a", own)
    severity, message = said(folder, "ids-past-embedding")
    assert severity == "note" and "up to 60" in message and "60 rows" in message
    assert cure(folder, "ids-past-embedding") == set()


def test_a_pad_token_that_was_added_without_its_row(tmp_path, own, cure):
    own.add_special_tokens({"pad_token": "<new>"})
    folder = save(tmp_path / "a", own)
    severity, message = said(folder, "ids-past-embedding")
    assert severity == "error" and "'<new>' (60)" in message
    assert "ids-past-embedding" not in cure(folder, "ids-past-embedding")


def test_a_template_that_ignores_the_generation_prompt(tmp_path, own, cure):
    own.chat_template = own.chat_template.replace("add_generation_prompt", "false")
    folder = save(tmp_path / "a", own)
    assert said(folder, "generation-prompt")[0] == "warning"
    assert cure(folder, "generation-prompt") == set()


def test_a_template_that_drops_the_system_turn(tmp_path, own):
    own.chat_template = WORD_TEMPLATE.replace("in messages", "in messages if message.role != 'system'")
    folder = save(tmp_path, own)
    assert said(folder, "system-role")[0] == "warning" and "a system text is dropped" in str(inspect_model(folder))
    names: dict = {}
    exec(next(finding.fix for finding in inspect_model(folder).report), names)
    assert "Be brief." in own.apply_chat_template(names["messages"], tokenize=False)


def test_a_template_that_refuses_a_system_turn_is_a_fact(tmp_path, own):
    refuse = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    own.chat_template = refuse + own.chat_template
    seen = inspect_model(save(tmp_path, own))
    assert seen.facts["chat"]["system"] == "refused" and not len(seen.report)


def test_a_template_that_fails_is_named(tmp_path, own):
    own.chat_template = "{{ messages[0].content.nothing.more }}"
    seen = inspect_model(save(tmp_path, own))
    assert seen.facts["chat"]["example"] is None and "the template fails: UndefinedError" in str(seen)


@pytest.mark.parametrize("name, found", [("Some-7B-Instruct", True), ("some-chat-v2", True), ("Some-7B", False)])
def test_a_chat_model_whose_template_was_left_behind(tmp_path, own, name, found):
    own.chat_template = None
    folder = save(tmp_path / name, own)
    assert ("template-on-base-model" in inspect_model(folder).report.rules) == found


def test_no_tokenizer(tmp_path, own, cure):
    seen = inspect_model(save(tmp_path))
    assert [(finding.rule, finding.severity) for finding in seen.report] == [("no-tokenizer", "warning")]
    assert "no tokenizer: there are no files of one" in str(seen)
    exec(next(iter(seen.report)).fix, {"tokenizer": own})
    assert inspect_model(tmp_path).report.rules == set()


def test_a_damaged_tokenizer(tmp_path, own):
    (save(tmp_path, own) / "tokenizer.json").write_text("{")
    assert said(tmp_path, "no-tokenizer")[0] == "warning"


def test_a_model_that_writes_no_text(tmp_path):
    from transformers import BertConfig

    BertConfig(architectures=["BertForSequenceClassification"]).save_pretrained(tmp_path)
    seen = inspect_model(tmp_path)
    assert [(finding.rule, finding.severity) for finding in seen.report] == [("no-generation", "error")]
    assert "BertForSequenceClassification: does not generate text" in str(seen)


def test_a_model_with_an_encoder_pads_where_it_likes(tmp_path, own):
    from transformers import T5Config

    own.padding_side, own.chat_template = "right", None
    own.save_pretrained(tmp_path)
    T5Config(vocab_size=SIZE, architectures=["T5ForConditionalGeneration"], pad_token_id=2).save_pretrained(tmp_path)
    seen = inspect_model(tmp_path)
    assert seen.report.rules == set() and "with an encoder, generates text" in str(seen)


def test_an_empty_unknown_token(tmp_path, own):
    own.unk_token = ""
    assert inspect_model(save(tmp_path, own)).report.rules == set()


def test_slugs_are_those_of_rules_or_of_loading(tmp_path):
    slugs = set(re.findall(r'_finding\(\s*"([a-z-]+)"', Path(oddities.__file__).read_text()))
    assert len(slugs) > 15
    own = {"missing-weights", "remote-code", "no-generation", "no-tokenizer"}
    assert slugs - set(pitfalls.RULES) == own
    lessons = {path.stem for path in Path("notebooks").glob("*.ipynb")}
    assert {"01_loading", "02_tokenizing"} <= lessons


# --- the weights ---------------------------------------------------------------------------------------------------


def test_no_weight_is_read(tmp_path, own, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("weights were read")

    folder = save(tmp_path, own)
    for owner, name in ((torch, "load"), (safetensors, "safe_open"), (safetensors.torch, "load_file")):
        monkeypatch.setattr(owner, name, never)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", never)
    assert inspect_model(folder).report.rules == set()


def write_header(path: Path, tensors: dict[str, list[int]], dtype: str = "BF16", whole: bool = True) -> None:
    """A safetensors file of zeros that takes no place on the disk."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors.items():
        size = 2 * torch.Size(shape).numel()
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        if whole:
            file.truncate(8 + len(text) + at)


def test_shards_are_counted_by_their_headers(tmp_path, own):
    folder = save(tmp_path, own, {"dtype": "bfloat16"})
    (folder / "model.safetensors").unlink()
    shards = {f"model-0000{n}-of-00002.safetensors": {f"layer.{n}": [30_000, 10_000]} for n in (1, 2)}
    for file, tensors in shards.items():
        write_header(folder / file, tensors)
    index = {name: file for file, tensors in shards.items() for name in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    seen = inspect_model(folder)
    assert seen.facts["weights"]["parameters"] == {"bfloat16": 600_000_000} and not len(seen.report)
    assert "600 million bfloat16: 1.20 GB in 2 .safetensors files; loaded as bfloat16" in str(seen)
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert said(folder, "missing-weights") == (
        "error", "model-00002-of-00002.safetensors is missing or can't be read: the model can't be loaded.",
    )  # fmt: skip


def test_a_file_that_is_cut_is_counted_all_the_same(tmp_path, own):
    folder = save(tmp_path, own)
    write_header(folder / "model.safetensors", {"a": [1000, 1000]}, whole=False)
    assert inspect_model(folder).facts["weights"]["parameters"] == {"bfloat16": 1_000_000}
    assert "is cut: it has" in said(folder, "missing-weights")[1]


@pytest.mark.parametrize(
    "content, told",
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "pointer of Git LFS"),
        (b"", "cut or damaged"),
        (b"<html>not found</html>", "cut or damaged"),
        (struct.pack("<Q", 2) + b"[]", "header makes no sense"),
        (struct.pack("<Q", 9) + b'{"a": {}}', "header makes no sense"),
    ],
)
def test_files_that_hold_no_weights(tmp_path, own, content, told):
    (save(tmp_path, own) / "model.safetensors").write_bytes(content)
    severity, message = said(tmp_path, "missing-weights")
    assert severity == "error" and told in message


def test_pickled_weights_are_only_measured(tmp_path, own):
    folder = save(tmp_path, own)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    weights = inspect_model(folder).facts["weights"]
    assert (weights["format"], weights["files"], weights["parameters"]) == ("bin", 1, {}) and weights["bytes"] > 5000


def test_a_folder_without_weights_is_looked_at(tmp_path, own):
    folder = save(tmp_path, own)
    (folder / "model.safetensors").unlink()
    assert inspect_model(folder).report.rules == set() and "none here" in str(inspect_model(folder))


def test_what_the_hub_lists():
    sizes = {"model-1.safetensors": 10, "model-2.safetensors": 5, "onnx/model.safetensors": 7, "README.md": 1}
    found = weights_listed(sizes, {"BF16": 7, "F8_E4M3": 1})
    assert found == {"format": "safetensors", "files": 2, "bytes": 15, "wrong": {},
                     "parameters": {"bfloat16": 7, "f8_e4m3": 1}}  # fmt: skip
    assert weights_listed({"README.md": 1}, {})["files"] == 0


# --- what it is called with ----------------------------------------------------------------------------------------


def test_code_that_comes_with_a_checkpoint_is_not_run(tmp_path, own):
    own.save_pretrained(tmp_path)
    (tmp_path / "own.py").write_text("raise SystemExit('run')")
    kinds = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    config = {"model_type": "own", "auto_map": kinds, "architectures": ["OwnForCausalLM"], "vocab_size": SIZE}
    (tmp_path / "config.json").write_text(json.dumps(config | {"eos_token_id": 2}))
    seen = inspect_model(tmp_path)
    assert [(finding.rule, finding.severity) for finding in seen.report] == [("remote-code", "note")]
    assert "needs code of its own" in str(seen) and "It was not run here" in str(seen)
    config = {"model_type": "llama", "auto_map": kinds, "architectures": ["LlamaForCausalLM"], "vocab_size": SIZE}
    (tmp_path / "config.json").write_text(json.dumps(config))
    seen = inspect_model(tmp_path)
    assert seen.report.rules == set() and "transformers has its code" in str(seen)


def refused(name) -> str:
    with pytest.raises(ModelError) as raised:
        inspect_model(name)
    assert raised.value.__cause__ is None
    return str(raised.value)


def test_what_holds_no_checkpoint(tmp_path):
    assert "is no model" in refused("") and "is no model" in refused(None)
    assert "There is no folder" in refused(str(tmp_path / "nothing"))
    assert "there is no config.json" in refused(tmp_path)
    (tmp_path / "model.gguf").touch()
    assert "gguf_file" in refused(tmp_path) and "is a file" in refused(tmp_path / "model.gguf")
    (tmp_path / "model.gguf").rename(tmp_path / "adapter_config.json")
    assert "adapter (PEFT)" in refused(tmp_path) and "base model" in refused(tmp_path)


@pytest.mark.parametrize(
    "config, told",
    [
        ("{", "can't be read as JSON"),
        ("[]", "can't be read as JSON"),
        ("{}", "names no model_type"),
        ('{"model_type": "lama"}', "does not know its model_type 'lama'"),
        ('{"model_type": "llama", "vocab_size": "many"}', "refuses its config.json"),
    ],
)
def test_a_config_that_tells_nothing(tmp_path, config, told):
    (tmp_path / "config.json").write_text(config)
    assert told in refused(tmp_path)


def test_settings_that_can_not_be_read(tmp_path, own):
    (save(tmp_path, own) / "generation_config.json").write_text("{")
    assert "generation_config.json can't be read" in refused(tmp_path)


def test_without_a_file_of_settings_those_of_the_config_count(tmp_path, own):
    (save(tmp_path, own) / "generation_config.json").unlink()
    seen = inspect_model(tmp_path)
    assert seen.facts["end_ids"]["generation_config"] == [2] and not len(seen.report)
    assert "there is no generation_config.json" in str(seen)


# --- the Hub -------------------------------------------------------------------------------------------------------


class Info:
    safetensors = None

    def __init__(self, sizes):
        self.siblings = [type("File", (), {"rfilename": name, "size": size}) for name, size in sizes.items()]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub with `owner/name`, whose small files lie in a folder, and an empty cache."""
    asked = []

    def download(name, **options):
        asked.append(options)
        return str(tmp_path / "snapshot")

    def answer(sizes):
        monkeypatch.setattr(choose, "_cached_config", lambda name: None)
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda self, name, **options: Info(sizes))
        monkeypatch.setattr(huggingface_hub.HfApi, "auth_check", lambda self, name: None)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        return asked

    return answer


def test_of_the_hub_only_small_files_are_fetched(hub, tmp_path, own):
    folder = save(tmp_path / "snapshot", own)
    (folder / "model.safetensors").unlink()
    sizes = {"config.json": 700, "model.safetensors": 3_000_000_000, "pytorch_model.bin": 3_000_000_000}
    asked = hub(sizes)
    seen = inspect_model("owner/name")
    assert seen.name == "owner/name" and "3.00 GB in 1 .safetensors file" in str(seen) and not len(seen.report)
    from huggingface_hub.utils import filter_repo_objects

    files = [*sizes, "tokenizer.json", "tokenizer.model", "chat_template.jinja", "generation_config.json", "vocab.json",
             "model.safetensors.index.json", "onnx/config.json", "consolidated.00.pth", "name.gguf"]  # fmt: skip
    options = {name: asked[0][name] for name in ("allow_patterns", "ignore_patterns")}
    assert set(filter_repo_objects(files, **options)) == {
        "config.json", "tokenizer.json", "tokenizer.model", "chat_template.jinja", "generation_config.json",
        "vocab.json", "model.safetensors.index.json",
    }  # fmt: skip


def test_a_repository_of_gguf_files_is_named(hub, tmp_path):
    (tmp_path / "snapshot").mkdir()
    hub({"name-Q4_K_M.gguf": 4_000_000_000})
    assert "owner/name holds no model" in refused("owner/name") and "gguf_file" in refused("owner/name")


def test_an_unreachable_hub_is_named(hub, monkeypatch, capsys):
    def unreachable(self, name, **options):
        raise ConnectionError("no route")

    hub({})
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    assert main(["model", "owner/name"]) == 2
    out, err = capsys.readouterr()
    assert not out and "the Hub did not answer (ConnectionError)" in err and "HF_HUB_OFFLINE" in err


def test_without_a_network_the_cache_does(hub, monkeypatch, tmp_path, own):
    hub({})
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", None)
    folder = save(tmp_path, own)
    (folder / "model.safetensors").unlink()
    monkeypatch.setattr(choose, "_cached_config", lambda name: folder / "config.json")
    assert "none here" in str(inspect_model("owner/name"))


# --- how it is shown -----------------------------------------------------------------------------------------------


def test_json_holds_all_of_it(tmp_path, own, capsys):
    folder = save(tmp_path, own, settings={"max_length": 4096})
    assert main(["model", str(folder), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == inspect_model(folder).as_dict()
    assert printed["name"] == str(folder) and printed["findings"][0]["rule"] == "two-lengths"
    assert printed["facts"]["chat"]["user"] == ["<user> ", " <end> "]


def test_html_is_escaped(tmp_path, own):
    own.chat_template = "<script>alert(1)</script>" + own.chat_template
    shown = inspect_model(save(tmp_path / "<b>", own, {"architectures": ["<i>ForCausalLM"]}))._repr_html_()
    assert "<script>" not in shown and "&lt;script&gt;" in shown
    assert shown.count("<b>") == 1 and "&lt;i&gt;ForCausalLM" in shown and "<em>" in shown


def test_nothing_steers_the_terminal(tmp_path, own):
    own.chat_template = "\x1b[31m" + own.chat_template
    folder = save(tmp_path, own, {"architectures": ["\x1b[2JForCausalLM"]}, {"stop_strings": ["\x1b]0;"]})
    assert "\x1b" not in str(inspect_model(folder))


def test_exit_statuses(tmp_path, own, capsys):
    right = save(tmp_path / "right", own)
    wrong = save(tmp_path / "wrong", own, settings={"stop_strings": ["."]})
    assert [main(["model", str(right)]), main(["model", str(right), "--error"])] == [0, 0]
    assert [main(["model", str(wrong)]), main(["model", str(wrong), "--error"])] == [0, 1]
    assert "error: stop-strings" in capsys.readouterr().out
    assert main(["model", str(tmp_path / "nothing")]) == 2
    out, err = capsys.readouterr()
    assert not out and "There is no folder" in err


def test_an_output_without_the_signs_of_a_template(tmp_path, own, monkeypatch):
    import io

    own.chat_template = own.chat_template.replace("<answer>", "｜<answer>")
    folder = save(tmp_path, own)
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert main(["model", str(folder)]) == 0
    sys.stdout.flush()
    assert rb"\uff5c<answer>" in raw.getvalue()


def test_the_settings_of_the_caller_are_left_alone(tmp_path, own):
    from transformers.utils import logging

    folder = save(tmp_path, own)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    level = logging.get_verbosity()
    inspect_model(folder)
    assert logging.get_verbosity() == level
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_neutral_values_are_those_of_transformers():
    """A setting that this version writes for nothing would be shown as the checkpoint's own."""
    from pitfalls.inspector.checkpoint import NEUTRAL

    fresh = {name: value for name, value in vars(GenerationConfig()).items() if name in NEUTRAL and value is not None}
    assert fresh == {name: NEUTRAL[name] for name in fresh}


def test_transformers_lists_the_classes_that_generate():
    from transformers.models.auto import modeling_auto

    from pitfalls.inspector.checkpoint import GENERATING

    lists = {task: getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES", {}) for task in GENERATING}
    assert lists["CAUSAL_LM"]["llama"] == "LlamaForCausalLM" and "t5" in lists["SEQ_TO_SEQ_CAUSAL_LM"]
