"""Neither the lessons' texts nor what readers see depend on the CPU: its instructions, its threads, its bitsandbytes.

The greedy calls of all lessons, which `python -m tools.greedy` recorded, are made again in a process for each setting:
one forward pass over a prompt with its answer tells whether the model still finds each of its tokens the likeliest.
"""

import json
import os
import subprocess
import sys

import pytest
import torch

from tools.greedy import CALLS, own_code
from tools.lessons import LESSONS, ROOT

AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
SETTINGS = {
    "default": {"ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "1"},
    "avx512": {"ATEN_CPU_CAPABILITY": "avx512", "OMP_NUM_THREADS": "2"},
    "avx2": {**AVX2, "OMP_NUM_THREADS": "8"},
}
NEAR_TIE = 0.0005  # logits; from CPU to CPU they differ by some 0.00001
REPLAY = """
import json, sys, torch
from transformers import AutoModelForCausalLM
from pitfalls import fetch_model

model = AutoModelForCausalLM.from_pretrained(fetch_model())
END, rows = 2, {}
for lesson in json.load(open(sys.argv[1])).values():
    for ids, mask, new, no_end in sorted(lesson["rows"], key=lambda row: len(row[2])):  # the longest answer counts
        start = mask.index(1)  # pads on the left change nothing
        rows[(*ids[start:], *mask[start:])] = ids[start:], mask[start:], new, no_end
rows = sorted(rows.values(), key=lambda row: len(row[0] + row[2]))

def placed(ids, mask, new, width):
    "A whole row, its mask, and the places as generate counts them: from the last one on, a pad on the right or not."
    mask = torch.tensor(mask)
    places = (mask.cumsum(0) - 1).masked_fill(mask == 0, 0)
    places = torch.cat([places, places[-1] + 1 + torch.arange(len(new))])
    whole = torch.stack([torch.tensor(ids + new), torch.cat([mask, mask.new_ones(len(new))]), places])
    return torch.nn.functional.pad(whole, (width - whole.shape[1], 0))

turned, margins = [], []
for group in [rows[n : n + 8] for n in range(0, len(rows), 8)]:
    width = len(group[-1][0] + group[-1][2])
    ids, mask, places = torch.stack([placed(*row[:3], width) for row in group], dim=1)  # each (rows, width)
    kept = 1 + max(len(row[2]) for row in group)
    with torch.no_grad():
        logits = model(ids, attention_mask=mask, position_ids=places, logits_to_keep=kept).logits
    for (prompt, _, new, no_end), scores in zip(group, logits):
        scores = scores[-len(new) - 1 : -1]  # (new tokens, vocabulary)
        if no_end and END not in new:
            scores[:, END] = -torch.inf
        written = scores.gather(1, torch.tensor(new)[:, None])[:, 0]
        others = scores.scatter(1, torch.tensor(new)[:, None], -torch.inf).max(-1).values
        margin, place = (written - others).min(0)
        margins.append(margin.item())
        if margin <= 0:
            turned.append([prompt, new[: place + 1], margin.item()])
print(json.dumps({"rows": len(rows), "turned": turned, "margin": min(margins)}))
"""


def run(code: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code, *arguments]
    passive = {"OMP_WAIT_POLICY": "PASSIVE"}  # more threads than cores: waiting ones sleep
    return subprocess.run(command, env=os.environ | passive | variables, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_the_recorded_calls_are_those_of_this_lesson(path):
    assert json.loads(CALLS.read_text())[path.stem]["code"] == own_code(path), "run `python -m tools.greedy`"


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_lessons_say_the_same_on_every_cpu(setting):
    variables = SETTINGS[setting]
    if setting == "avx512" and torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("this CPU has no AVX-512")
    done = run(REPLAY, str(CALLS), **variables)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    print(f"{setting}: {said['rows']} rows, smallest margin {said['margin']:.4f}")
    assert not said["turned"]
    assert said["margin"] > NEAR_TIE, "a prompt on a near tie, which another CPU can turn: choose another"


# --- bitsandbytes takes another path where the CPU has AVX512-BF16 -------------------------------------------------

FOUR_BIT = """
import ctypes, logging, sys, torch

says = sys.argv[1] == "True"
real = ctypes.CDLL.__getitem__
ctypes.CDLL.__getitem__ = lambda library, name: (lambda: says) if name == "has_avx512bf16_cpu" else real(library, name)

import pitfalls
from transformers import BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

pitfalls.choose_model()
disable_progress_bar()
sizes = dict(hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=1)
LlamaForCausalLM(LlamaConfig(vocab_size=64, **sizes)).save_pretrained(sys.argv[2])
four_bit = BitsAndBytesConfig(load_in_4bit=True)
model = LlamaForCausalLM.from_pretrained(sys.argv[2], quantization_config=four_bit)

import bitsandbytes.functional
assert bitsandbytes.functional.has_avx512bf16() == says and model.is_loaded_in_4bit
logging.getLogger("bitsandbytes.backends.cpu.ops").warning("anything else")
print(*pitfalls.catalogue.compare(["empty-prompt"]), flush=True)
for shape in [(1, 0), (0, 3)]:
    for finding in pitfalls.check(model, None, torch.empty(shape, dtype=torch.long), max_new_tokens=2):
        print(finding.rule, finding.severity, finding.message, flush=True)
with pitfalls.watch(model):
    try:
        model.generate(torch.empty((1, 0), dtype=torch.long), max_new_tokens=2)
    except Exception:
        pass
"""


@pytest.mark.parametrize("says", [True, False])
def test_an_empty_prompt_on_4_bit_weights_takes_no_kernel_down_unsaid(says, tmp_path):
    done = run(FOUR_BIT, str(says), str(tmp_path))
    made, *found = done.stdout.splitlines()[1:]
    assert "Comparison(rule='empty-prompt', transformers='error: RuntimeError" in made, done.stderr
    assert [line.split()[:2] for line in found if line.startswith("empty-prompt")] == [["empty-prompt", "error"]] * 2
    assert all("end the whole process" in line for line in found if line.startswith("empty-prompt"))
    heard = done.stderr.splitlines()
    assert heard[0] == "anything else", "and nothing of what bitsandbytes does not need"
    assert heard[1].startswith("empty-prompt: The prompt has no tokens"), "said before the call, which may be the last"
