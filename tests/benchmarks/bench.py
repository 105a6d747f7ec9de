"""`make bench`: what the helpers cost, as ratios measured in one run; medians, on the embedded model where it matters.

Each measurement alternates the two things that it compares, so that a machine that slows down slows both.
"""

import logging
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import nbformat
import psutil
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

import pitfalls

sys.path.append(str(Path(__file__).parent.parent / "browser"))
import lab

RUNS = 7
WIDGETS = (
    """
import pitfalls
from transformers import AutoModelForCausalLM, AutoTokenizer
folder = pitfalls.fetch_model()
tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
counted = pitfalls.record(model, tokenizer, tokenizer("Count: 1, 2", return_tensors="pt"), max_new_tokens=100)
""",
    "pitfalls.widgets.NextToken(model, tokenizer)",
    "pitfalls.widgets.Length(counted, tokenizer)",
    ("pitfalls.widgets.Loop(model, tokenizer, 'A list of colors: red, blue')"),
)
SLIDERS = ["temperature", "max_new_tokens", "step"]


class Measured(NamedTuple):
    what: str
    value: str
    ratio: float
    of: str  # what the ratio is of
    asked: str


def seconds(run: Callable) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def alternate(one: Callable, other: Callable, runs: int = RUNS) -> tuple[float, float, float]:
    """Medians of both in seconds, and the median of the ratios of neighbours."""
    one(), other()
    pairs = [(seconds(one), seconds(other)) for _ in range(runs)]
    ones, others = zip(*pairs, strict=True)
    return statistics.median(ones), statistics.median(others), statistics.median(a / b for a, b in pairs)


def check_cost(model, tokenizer) -> Iterator[Measured]:
    """Of `check` on 16 prompts of 200 tokens, against the one new token that this batch would give."""
    raw = tokenizer(["word " * 198 + "end"] * 16, return_tensors="pt")
    chats = [[{"role": "user", "content": "word " * 170}]] * 16
    chat = tokenizer.apply_chat_template(chats, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    for name, inputs in {"bare text": raw, "chats": chat}.items():
        one, _, ratio = alternate(
            lambda inputs=inputs: [pitfalls.check(model, tokenizer, inputs, max_new_tokens=1) for _ in range(20)],
            lambda inputs=inputs: model.generate(**inputs, max_new_tokens=1),
            runs=5,
        )
        what = f"check, {inputs['input_ids'].shape[0]} {name} of {inputs['input_ids'].shape[1]} tokens"
        yield Measured(what, f"{one / 20 * 1e3:.2f} ms", ratio / 20, "generating one token", "under 2 ms")


def watch_cost(model, tokenizer) -> Iterator[Measured]:
    """Of `watch` around a call of 50 tokens, as the share that it adds."""
    inputs = tokenizer("Once upon a time", return_tensors="pt")

    def plain():
        return model.generate(**inputs, max_new_tokens=50, min_new_tokens=50)

    def watched():
        with pitfalls.watch(model, tokenizer):
            return plain()

    one, other, ratio = alternate(watched, plain, runs=11)
    yield Measured("watch, 50 new tokens", f"{one:.2f} s, plain {other:.2f} s", ratio, "the plain call", "under 1.03")


def watch_memory() -> Iterator[Measured]:
    """Of `watch` over 2,000 new tokens of a small model, at its highest, against the plain call."""
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=50_000, hidden_size=64, intermediate_size=64, num_hidden_layers=2,
                         num_attention_heads=2, max_position_embeddings=4096, eos_token_id=None)  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    inputs = {"input_ids": torch.tensor([[5, 6, 7]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}

    def plain():
        return model.generate(**inputs, max_new_tokens=2000, do_sample=True, pad_token_id=0)

    def watched():
        with pitfalls.watch(model):
            return plain()

    plain(), watched()
    pairs = [(highest(watched), highest(plain)) for _ in range(3)]
    one, other = statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)
    what = f"{one / 1e6:.0f} MB, plain {other / 1e6:.0f} MB"
    yield Measured("memory while 2,000 tokens are watched", what, one / other, "the plain call", "flat")


def highest(run: Callable) -> int:
    """Bytes of the process at their highest while `run` runs."""
    process, seen, done = psutil.Process(), [], threading.Event()

    def sample():
        while not done.is_set():
            seen.append(process.memory_info().rss)
            time.sleep(0.01)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        run()
    finally:
        done.set()
        thread.join()
    return max(seen)


def slider_answers(model, tokenizer) -> Iterator[Measured]:
    """Of a slider in the browser, from the key press to the changed page, against one step of the model."""
    if reason := lab.missing():
        print(f"sliders: not measured, {reason}")
        return
    inputs = tokenizer("I am a cat.", return_tensors="pt")
    step = statistics.median(seconds(lambda: model.generate(**inputs, max_new_tokens=1)) for _ in range(RUNS))
    with tempfile.TemporaryDirectory() as folder:
        notebooks = Path(folder, "source")
        notebooks.mkdir()
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in WIDGETS])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(notebook, notebooks / "widgets.ipynb")
        with (
            lab.jupyterlab(notebooks, Path(folder)) as server,
            lab.chromium() as browser,
            server.open(browser, "widgets.ipynb") as page,
        ):
            page.run_all()
            for n, label in enumerate(SLIDERS):
                answer = lab.answer_time(page.plays.nth(n), label)
                what = f"slider {label}, in the browser"
                yield Measured(what, f"{answer * 1e3:.0f} ms", answer / step, "generating one token", "under 100 ms")


def main() -> int:
    disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    path = pitfalls.fetch_model()
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    print(f"{'':42} {'median':24} {'ratio':>8}  of")
    measures = (
        lambda: slider_answers(model, tokenizer),
        lambda: check_cost(model, tokenizer),
        lambda: watch_cost(model, tokenizer),
        watch_memory,
    )
    for measure in measures:
        for row in measure():
            print(f"{row.what:42} {row.value:24} {row.ratio:8.4f}  {row.of} (asked: {row.asked})", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
