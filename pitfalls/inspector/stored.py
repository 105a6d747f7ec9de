"""What lies in a checkpoint's folder, read without loading a weight or running code that comes with it."""

import json
import textwrap
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from pitfalls.language import N_, _
from pitfalls.model.fetch import ModelError

DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I8": "int8", "U8": "uint8"}
WEIGHTS = ("model*.safetensors", "pytorch_model*.bin", "*.gguf")  # as `from_pretrained` looks for them
NO_TOKENIZER = N_("there are no files of one")
TOKENIZERS = ("tokenizer.*", "*.model", "vocab.*", "*.tiktoken", "tekken.json")


def load_config(folder: Path, raw: dict[str, Any]) -> Any:
    """The configuration; of a model whose code is not in transformers, its plain values."""
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        kind, said = raw.get("model_type"), short(error)
    if raw.get("auto_map"):
        with suppress(Exception):
            return transformers.PretrainedConfig.from_dict(raw)
    if not kind:
        why = _("Its config.json names no model_type, so it is no checkpoint of transformers.")
    elif "does not recognize" in said:
        why = _(
            "Transformers {version} does not know its model_type {model_type!r}: the name is misspelt, "
            "or `pip install -U transformers` brings it.",
            version=transformers.__version__,
            model_type=kind,
        )
    else:
        why = _("Transformers refuses its config.json ({error}).", error=said)
    wrong = _("{folder} can't be looked at.", folder=folder)
    raise ModelError(f"{wrong} {why}")


def load_settings(folder: Path, config: Any) -> GenerationConfig:
    """The settings that the model will have for generation, whether it has a file of them or not."""
    path = folder / "generation_config.json"
    if not path.is_file():
        return GenerationConfig.from_model_config(config)
    try:
        return GenerationConfig.from_pretrained(folder)
    except Exception as error:
        why = _("{file} can't be read ({error}). Mend it or remove it.", file=path, error=short(error))
        raise ModelError(why) from None


def load_tokenizer(folder: Path) -> tuple[Any, str | None]:
    """The tokenizer; or None, and why, in English."""
    if not any(path.is_file() for pattern in TOKENIZERS for path in folder.glob(pattern)):
        return None, NO_TOKENIZER
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False), None
    except Exception as error:  # whatever a damaged file raises
        return None, short(error)


def read_json(path: Path) -> dict[str, Any]:
    """What a JSON file holds; empty where there is none that can be read."""
    try:
        return {**json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError):
        return {}


def weights_in(folder: Path) -> dict[str, Any]:
    """Number and size of the weight files, and, from the headers of safetensors, the numbers of weights by dtype."""
    found: dict[str, Any] = {"format": None, "files": 0, "bytes": 0, "parameters": {}, "wrong": {}}
    for pattern in WEIGHTS:
        names = {path.name for path in folder.glob(pattern)}
        for index in folder.glob(f"{pattern}.index.json"):
            listed = read_json(index).get("weight_map")
            names = {Path(str(name)).name for name in listed.values()} if isinstance(listed, dict) else names
        if names:
            found |= {"format": pattern.rpartition(".")[2], "files": len(names)}
            for path in sorted(folder / name for name in names):
                wrong = _read_header(path, found["parameters"])
                found["bytes"] += path.stat().st_size if path.is_file() else 0
                found["wrong"] |= {printable(path.name): wrong} if wrong else {}
            break
    return found


def weights_listed(sizes: dict[str, int], counts: dict[str, int]) -> dict[str, Any]:
    """The same, as the Hub lists them."""
    for pattern in WEIGHTS:
        files = [name for name in sizes if "/" not in name and Path(name).match(pattern)]
        if files:
            parameters = {DTYPES.get(dtype, dtype.lower()): count for dtype, count in counts.items()}
            size = sum(sizes[name] for name in files)
            kind = pattern.rpartition(".")[2]
            return {"format": kind, "files": len(files), "bytes": size, "parameters": parameters, "wrong": {}}
    return {"format": None, "files": 0, "bytes": 0, "parameters": {}, "wrong": {}}


def _read_header(path: Path, parameters: dict[str, int]) -> str:
    """Add the numbers of weights in a file by dtype; what is wrong with the file, or nothing."""
    name = printable(path.name)
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if start == b"version " and size < 1000:
                return _("{file} is a pointer of Git LFS and not the weights", file=name)
            if path.suffix != ".safetensors":
                return ""
            if size < 8 + length:
                return _("{file} is cut or damaged, with {size:,} bytes", file=name, size=size)
            header = json.loads(file.read(length))
        tensors = [entry for key, entry in header.items() if key != "__metadata__"]
        for tensor in tensors:
            dtype = DTYPES.get(tensor["dtype"], tensor["dtype"].lower())
            parameters[dtype] = parameters.get(dtype, 0) + prod(tensor["shape"])
        whole = 8 + length + max((tensor["data_offsets"][1] for tensor in tensors), default=0)
        if size < whole:
            return _("{file} is cut: it has {size:,} bytes of {whole:,}", file=name, size=size, whole=whole)
        return ""
    except OSError:
        return _("{file} is missing or can't be read", file=name)
    except (ValueError, TypeError, LookupError, AttributeError):
        return _("{file} is damaged: its header makes no sense", file=name)


def short(error: Exception) -> str:
    return printable(textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder=" …"))


def printable(text: str) -> str:
    """Text of a stranger's file, in which nothing can steer the terminal."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
