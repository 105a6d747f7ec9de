"""Draws the pictures of README.md from the embedded model: `make images`.

Every number in them is measured when they are drawn. The words of a picture are kept in its file as a comment, so that
a test can tell whether they are still true.
"""

import json
import re
import warnings
from functools import cache

import torch
from matplotlib.figure import Figure
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, LogitsProcessorList
from transformers.utils import logging

import pitfalls
from pitfalls.inspector.call import Call
from pitfalls.pictures.drawing import BAR, cell, cell_width, draw_bars, percent, visible, wrap
from tools import hero, lessons
from tools.cards import HEIGHT, LETTER, LINE, WIDTH, card, plain, put_cells, space, words, write

IMAGES = lessons.ROOT / "images"
RESULTS = json.loads(lessons.RESULTS.read_text())  # of `make bench`
QUESTION = "What is the capital of France?"
DPI = 250
LEFT, TOP = 0.1, 0.36  # where the part below the title begins
ROOM = (WIDTH - 2 * LEFT) / LETTER


def loading(model, tokenizer) -> Figure:
    """What the same weights take in 32, 16 and 4 bits."""
    folder = pitfalls.fetch_model()
    four_bit = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    models = {
        "32 bits": model,
        "16 bits": AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16),
        "4 bits": AutoModelForCausalLM.from_pretrained(folder, quantization_config=four_bit),
    }
    return memory({name: loaded.get_memory_footprint() for name, loaded in models.items()})


def memory(sizes: dict[str, float]) -> Figure:
    """The bytes of each format as bars."""
    first, *_, last = sizes.values()
    figure = card(f"4 bits: {last / first:.0%} of the memory")
    labels = [f" {size / 1e6:.0f} MB" for size in sizes.values()]
    named_bars(figure, sizes, labels, left=0.65, longest=1.55 * first, fontsize=9)
    return figure


def named_bars(
    figure: Figure, values: dict[str, float], labels: list[str], left: float, longest: float, fontsize: int
) -> None:
    """A bar for each value below the title: its name before it, its label behind it."""
    axis = space(figure, left, TOP, WIDTH - left, HEIGHT - TOP - 0.1)
    bars = axis.barh(range(len(values)), values.values(), height=0.7, color=BAR, edgecolor="black", linewidth=0.6)
    axis.bar_label(bars, labels, fontsize=fontsize)
    axis.set_yticks(range(len(values)), values, fontsize=fontsize)
    axis.set(xlim=(0, longest), ylim=(len(values) - 0.5, -0.5))


def tokenizing(model, tokenizer) -> Figure:
    """Two texts as tokens with their ids, and how many."""
    texts = ["A list of colors: red, blue", "Portugal is"]
    ids = [tokenizer(text).input_ids for text in texts]
    figure = card(f"{len(ids[0])} tokens ≠ {len(ids[1])} tokens")
    top, line = TOP - 0.02, 0.33
    for row in ids:
        lines = wrap([cell(tokenizer, token_id, "prompt") for token_id in row], ROOM)
        put_cells(figure, lines, LEFT, top, line)
        top += line * len(lines) + 0.04
        end = LEFT + LETTER * sum(cell_width(text, note) for text, note, _ in lines[-1])
        write(figure, f"{len(row)} tokens", end + 0.08, top - line + 0.06)
    return figure


def generating(model, tokenizer) -> Figure:
    """A text, and the three likeliest tokens that could come next."""
    call = go_on(model, tokenizer, "A list of colors: red, blue", max_new_tokens=2)
    so_far = plain(tokenizer, call.prompt_ids, "prompt") + plain(tokenizer, call.new_ids[:1], "new")
    figure = card(f"{model.config.vocab_size:,} scores for 1 token")
    lines = wrap([*so_far, ("?", "", "special")], ROOM)
    put_cells(figure, lines, LEFT, TOP)
    top = TOP + LINE * len(lines) + 0.04
    axis = space(figure, 0.72, top, WIDTH - 0.72, HEIGHT - top - 0.06)
    draw_bars(axis, [(candidate.text, candidate.probability) for candidate in call.steps[1].candidates[:3]], 0)
    axis.set(xlim=(0, 0.75), ylim=(2.5, -0.5))
    return figure


def length(model, tokenizer) -> Figure:
    """Prompt, the new tokens of a call without a length, and what would have come after them."""
    prompt = "A sequence of numbers: 1, 2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers notes that no length is given
        call = go_on(model, tokenizer, prompt)
    lost = pitfalls.record(model, tokenizer, call.output_ids, max_new_tokens=9).new_ids
    figure = card(f"Cut off after {len(call.new_ids)} tokens")
    cells = plain(tokenizer, call.prompt_ids, "prompt") + plain(tokenizer, call.new_ids, "new")
    lines = wrap([*cells, ("✂", "", "end"), *plain(tokenizer, lost, "padding")], ROOM)
    put_cells(figure, lines, LEFT, TOP)
    return figure


def decoding_mode(model, tokenizer) -> Figure:
    """The sentences of the greedy loop, each with its probability."""
    call = go_on(model, tokenizer, hero.PROMPT, max_new_tokens=30)
    spoken = hero.sentences(call)
    figure = card("A loop, surer each time")
    line = (HEIGHT - TOP - 0.06) / len(spoken)
    texts = [visible("".join(step.chosen.text for step in sentence).strip()) for sentence in spoken]
    put_cells(figure, [[(text, "", "new")] for text in texts], LEFT, TOP, line)
    axis = space(figure, 1.36, TOP, WIDTH - 1.4, line * len(spoken))
    draw_bars(axis, [("", chance) for chance in hero.chances(spoken)], None)
    axis.set(xlim=(0, 1.05), ylim=(len(spoken) - 0.5, -0.5))
    return figure


def padding_side(model, tokenizer) -> Figure:
    """A right-padded batch: each row with its pads, and what the model adds to it."""
    prompts = ["1, 2, 3", "A, B, C, D, E"]
    batch = tokenizer(prompts, padding=True, padding_side="right", return_tensors="pt")
    call = pitfalls.record(model, tokenizer, batch, max_new_tokens=8)
    figure = card("It continues the padding")
    for number, (row, prompt) in enumerate(zip(call.rows, prompts, strict=True)):
        alone = go_on(model, tokenizer, prompt, max_new_tokens=8)
        pads = [("pad", "", "padding")] * int((batch["attention_mask"][number] == 0).sum())
        top = TOP + number * (2 * LINE + 0.06)
        put_cells(figure, [plain(tokenizer, row.prompt_ids, "prompt") + pads], LEFT, top)
        write(figure, "✓" if row.new_ids == alone.new_ids else "✗", LEFT + 0.02, top + LINE + 0.03, fontsize=11)
        put_cells(figure, wrap(plain(tokenizer, row.new_ids, "new"), ROOM - 2)[:1], LEFT + 0.2, top + LINE)
    return figure


def prompt_template(model, tokenizer) -> Figure:
    """What a question gets as raw text and through the template, and how likely an end at once was."""
    asked = {"raw text": go_on(model, tokenizer, QUESTION, max_new_tokens=20), "template": answer(model, tokenizer)}
    figure = card("The capital of France?")
    for number, (name, call) in enumerate(asked.items()):
        top = TOP - 0.03 + 0.46 * number
        write(figure, f"{name}: {percent(call.steps[0].end_probability)} to end at once", LEFT, top)
        new = plain(tokenizer, call.new_ids, "new")
        put_cells(figure, wrap([*new[:-1], (*new[-1][:2], "end")], ROOM), LEFT, top + 0.15, 0.215)
    return figure


def your_own_code(model, tokenizer) -> Figure:
    """A box for each mistake of the catalogue, by what transformers says of it: see the table of README.md."""
    rows = re.findall(r"^\| \d\d \| .*", (lessons.ROOT / "README.md").read_text(), re.MULTILINE)
    said = [row.split(" | ")[3].split()[0] for row in rows]
    boxes = {"nothing": (" ", "", "end"), "warning": ("!", "", "user"), "raises": ("✗", "", "special")}
    figure = card(f"Silent on {said.count('nothing')} of {len(said)} mistakes")
    cells = [box for kind, box in boxes.items() for _ in range(said.count(kind))]
    put_cells(figure, wrap(cells, ROOM), LEFT, TOP - 0.02, 0.2)
    for number, (kind, box) in enumerate(boxes.items()):
        left = LEFT + 0.8 * number
        put_cells(figure, [[box]], left, HEIGHT - 0.25, 0.19)
        write(figure, f"{kind} {said.count(kind)}", left + 0.21, HEIGHT - 0.22, fontsize=7)
    return figure


def next_steps(model, tokenizer) -> Figure:
    """How often the model runs for the same 24 tokens: greedy decoding alone, and with prompt lookup."""
    line = "alpha, bravo, charlie, delta, echo, foxtrot, golf, hotel"
    inputs = tokenizer(f"{line}\n{line}\n{line}\nalpha, bravo,", return_tensors="pt")
    calls, texts = {}, []
    for name, settings in {"greedy": {}, "lookup": {"prompt_lookup_num_tokens": 8}}.items():
        seen = []
        hook = model.register_forward_hook(lambda *_, seen=seen: seen.append(1))
        texts.append(model.generate(**inputs, max_new_tokens=24, **settings).tolist())
        hook.remove()
        calls[name] = len(seen)
    assert texts[0] == texts[1]
    few, many = min(calls.values()), max(calls.values())
    figure = card(f"Prompt lookup: {few} calls")
    named_bars(figure, calls, [f" {n} calls" for n in calls.values()], left=0.65, longest=1.6 * many, fontsize=9)
    return figure


def under_control(model, tokenizer) -> Figure:
    """The same beginning, continued freely and under a rule: no token with the letter e."""
    pieces = tokenizer.batch_decode([[number] for number in range(len(tokenizer))])
    with_e = torch.tensor([number for number, piece in enumerate(pieces) if "e" in piece.lower()])
    figure = card("A rule of our own: no “e”")
    for number, rules in enumerate(([], [lambda ids, scores: scores.index_fill(1, with_e, -torch.inf)])):
        inputs = tokenizer("Once upon a time there was a small robot.", return_tensors="pt")
        call = pitfalls.record(model, tokenizer, inputs, max_new_tokens=7, logits_processor=LogitsProcessorList(rules))
        top = TOP - 0.04 + 0.55 * number
        write(figure, f"{'with' if rules else 'without'} it: {call.new_text.lower().count('e')} times e", LEFT, top)
        put_cells(figure, wrap(plain(tokenizer, call.new_ids, "new"), ROOM), LEFT, top + 0.15, 0.19)
    return figure


def speed_and_memory(model, tokenizer) -> Figure:
    """Tokens per second by the number of rows, as `make bench` measured them."""
    speeds = {row["what"]: int(row["value"].split()[0]) for row in RESULTS["rows"] if row["what"].startswith("batch")}
    first, *_, last = speeds.values()
    figure = card(f"64 rows: {last / first:.0f} times the tokens")
    labels = [f" {speed} tokens/s" for speed in speeds.values()]
    named_bars(figure, speeds, labels, left=0.85, longest=1.9 * last, fontsize=8)
    return figure


def production(model, tokenizer) -> Figure:
    """A question as a client sends it to a server, and the answer."""
    call = answer(model, tokenizer)
    figure = card("A chat over HTTP")
    asked = wrap([(word, "", "user") for word in QUESTION.split(" ")], ROOM)
    answered = wrap(plain(tokenizer, call.new_ids[:-1], "new"), ROOM)
    put_cells(figure, asked, LEFT, TOP - 0.02, 0.2)
    write(figure, "↓ POST /v1/chat/completions", LEFT, TOP + 0.4, fontsize=7)
    put_cells(figure, answered, LEFT, TOP + 0.55, 0.2)
    end = LEFT + LETTER * sum(cell_width(text, note) for text, note, _ in answered[-1])
    write(figure, f"{len(call.new_ids) - 1} tokens, then stop", end + 0.08, TOP + 0.79, fontsize=7)
    return figure


def bench() -> Figure:
    """What the helpers cost: each row of `make bench` with its value and its ratio."""
    rows = [row for row in RESULTS["rows"] if not row["what"].startswith("lesson")]
    figure = card("make bench: medians and ratios of one run", width=8, height=0.75 + 0.2 * len(rows))
    write(figure, RESULTS["machine"], 0.1, 0.32, fontsize=7)
    for place, row in enumerate(rows):
        top = 0.55 + 0.2 * place
        write(figure, row["what"], 0.1, top)
        write(figure, row["value"], 2.7, top)
        write(figure, f"{row['ratio']:.2g} × {row['of']}", 6.0, top)
    return figure


@cache
def go_on(model, tokenizer, text: str, **settings) -> Call:
    """The model's continuation of a text, recorded."""
    return pitfalls.record(model, tokenizer, tokenizer(text, return_tensors="pt"), **settings)


@cache
def answer(model, tokenizer) -> Call:
    """What the model answers to `QUESTION` through its chat template, recorded."""
    chat = [{"role": "user", "content": QUESTION}]
    inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    return pitfalls.record(model, tokenizer, inputs, max_new_tokens=20)


LESSONS = {
    "01_loading": loading,
    "02_tokenizing": tokenizing,
    "03_generating": generating,
    "04_length": length,
    "05_decoding_mode": decoding_mode,
    "06_padding_side": padding_side,
    "07_prompt_template": prompt_template,
    "08_your_own_code": your_own_code,
    "09_next_steps": next_steps,
    "10_under_control": under_control,
    "11_speed_and_memory": speed_and_memory,
    "12_production": production,
}


def main() -> None:
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    folder = pitfalls.fetch_model()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    call = go_on(model, tokenizer, hero.PROMPT, max_new_tokens=30)
    hero.save(IMAGES / "hero.gif", call, tokenizer)
    for name, picture in LESSONS.items():
        save(picture(model, tokenizer), name)
    save(bench(), "bench")


def save(figure: Figure, name: str) -> None:
    figure.savefig(IMAGES / f"{name}.png", dpi=DPI, metadata={"Software": None, "Comment": words(figure)})


if __name__ == "__main__":
    main()
