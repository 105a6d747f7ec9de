"""What needs a CUDA device: the lessons on it, and a model of 7 billion weights in 4-bit beside 16-bit."""

import gc
import time

import nbformat
import pytest
import torch
from nbmake.nb_run import NotebookRun

from pitfalls import choose_model
from tools.lessons import LESSONS, code_cells, output_text, read

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
# The sizes of Mistral-7B-v0.1: 7,241,732,096 weights.
MISTRAL_7B = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "sliding_window": 4096,
}  # fmt: skip
SMALL = MISTRAL_7B | {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2}


def checkpoint(folder, sizes: dict) -> int:
    """Save a Mistral of these sizes with random weights in 16-bit; how many weights it has."""
    from transformers import MistralConfig, MistralForCausalLM

    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = MistralForCausalLM._from_config(MistralConfig(**sizes), dtype=torch.float16)
    model.save_pretrained(folder)
    return model.num_parameters()


def measure(folder, quantization, tokens: int = 64) -> dict[str, float]:
    """Load with `from_pretrained`, generate; gigabytes of weights, and tokens per second of a batch of one."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, device_map="auto", quantization_config=quantization)
    ids = torch.ones(1, 16, dtype=torch.long, device=model.device)
    seconds = []
    for new in (4, tokens):  # the first call warms up
        start = time.perf_counter()
        output = model.generate(ids, max_new_tokens=new, min_new_tokens=new, do_sample=False)
        seconds.append(time.perf_counter() - start)
    assert output.shape == (1, 16 + tokens)
    result = {"GB": model.get_memory_footprint() / 1e9, "tokens/s": tokens / seconds[-1]}
    del model
    gc.collect()
    torch.cuda.empty_cache()
    return result


def compare(folder, sizes: dict, monkeypatch) -> tuple[int, dict, dict]:
    weights = checkpoint(folder, sizes)
    monkeypatch.setenv("PITFALLS_MODEL", str(folder))
    model, quantization = choose_model()
    return weights, measure(model, None), measure(model, quantization)


def test_the_comparison_itself_runs_on_a_small_model(tmp_path, monkeypatch):
    _, half, four_bit = compare(tmp_path, SMALL, monkeypatch)
    assert 0.2 < four_bit["GB"] / half["GB"] < 1


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_the_claims_of_a_lesson_hold_on_the_gpu(path, tmp_path):
    notebook = read(path)
    notebook.cells.append(nbformat.v4.new_code_cell("print(model.device)"))
    nbformat.write(notebook, tmp_path / path.name)
    result = NotebookRun(tmp_path / path.name, default_timeout=600).execute()
    assert result.error is None, result.error.trace
    assert output_text(code_cells(result.nb)[-1]).startswith("cuda")


@pytest.mark.gpu
@needs_cuda
def test_seven_billion_weights_take_less_than_6_gb_in_4_bit(tmp_path, monkeypatch):
    weights, half, four_bit = compare(tmp_path, MISTRAL_7B, monkeypatch)
    print(f"{weights:,} weights: fp16 {half}, 4-bit {four_bit}")
    assert weights == 7_241_732_096
    assert four_bit["GB"] < 6 < half["GB"]
