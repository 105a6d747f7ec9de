"""Draws the pictures of the list of lessons from the embedded model: `make images`.

Every number in them is measured when they are drawn. The words of a picture are kept in its file as a comment, so that
a test can tell whether they are still true. Each is a small white card, shown large: its letters have the size that
they have in the lessons, and stay legible at 260 pixels and on a phone.
"""

import json
import math
import warnings
from collections.abc import Callable, Sequence
from functools import cache

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, LogitsProcessorList

import pitfalls
from pitfalls import catalogue
from pitfalls.inspector.call import Call
from pitfalls.inspector.rows import Step
from pitfalls.pictures import drawing
from pitfalls.pictures.drawing import percent, short, visible, wrap
from pitfalls.silence import silenced
from tools import lessons

IMAGES = lessons.ROOT / "images"
RESULTS = json.loads(lessons.RESULTS.read_text())  # of `make bench`
QUESTION = "What is the capital of Japan?"
WIDTH, HEIGHT, DPI = 2.56, 1.44, 250  # inches
LEFT, TOP = 0.1, 0.36  # where the rows below the title begin
LETTER = drawing.WIDTH / drawing.LETTERS

Cell = tuple[str, str, str]  # of a token: text, id, style
Row = tuple[float, Callable[[Axes], None]]  # of a card: its share of the height, and what draws it


# --- a card ------------------------------------------------------------------------------------------------------


def card(title: str, *rows: Row, width: float = WIDTH, height: float = HEIGHT) -> Figure:
    """Rows below a title. It is opaque and has a border of its own, for light pages and for dark ones."""
    figure = Figure(figsize=(width, height), facecolor="white", edgecolor="#8a8a8a", linewidth=1.5)
    figure.text(LEFT / width, 1 - 0.09 / height, title, va="top", fontsize=10, weight="bold")
    edges = {"left": LEFT / width, "right": 1 - 0.04 / width, "bottom": 0.06 / height, "top": 1 - TOP / height}
    shares = [share for share, _ in rows]
    axes = figure.subplots(len(rows), squeeze=False, height_ratios=shares, gridspec_kw={"hspace": 0, **edges})
    for axis, (_, draw) in zip(axes[:, 0], rows, strict=True):
        axis.set(xlim=(0, (width - LEFT - 0.04) / LETTER), ylim=(1, 0))
        axis.axis("off")
        draw(axis)
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    return figure


def text(*columns: str) -> Row:
    """A line of text, or of several texts side by side."""

    def draw(axis: Axes) -> None:
        for place, column in enumerate(columns):
            left = place / len(columns) * axis.get_xlim()[1]
            axis.text(left, 0.6, column, va="center", fontsize=8)

    return 0.7, draw


def boxes(cells: list[Cell], width: float = WIDTH, lines: int = 0) -> Row:
    """Token boxes, with room for as many `lines`, or more where they need more."""
    wrapped = wrap(cells, (width - 2 * LEFT) / LETTER)
    wrapped += [[]] * (lines - len(wrapped))
    share = 1.4 if any(note for _, note, _ in cells) else 1.0
    return share * len(wrapped), lambda axis: drawing.draw_cells(axis, wrapped)


def bars(values: list[tuple[str, float, str]], taken: int | None = None, full: float = 0) -> Row:
    """A bar for each (name, value, label), up to the largest or `full`; `taken` is the place of one that stands out."""

    def draw(axis: Axes) -> None:
        start = 1 + max(len(name) for name, _, _ in values)
        longest = axis.get_xlim()[1] - start - max(len(label) for _, _, label in values) - 1
        most = full or max(value for _, value, _ in values)
        for y, (name, value, label) in enumerate(values):
            color = drawing.BAR_CHOSEN if y == taken else drawing.BAR
            width = longest * value / most
            axis.barh(y, width, 0.7, start, color=color, edgecolor="black", linewidth=1.5 if y == taken else 0.6)
            axis.text(start - 0.5, y, name, ha="right", va="center", fontsize=9, family="monospace")
            axis.text(start + width + 0.6, y, label, va="center", fontsize=9)
        axis.set_ylim(len(values) - 0.5, -0.5)

    return 0.8 * len(values), draw


def tokens(tokenizer, ids: list[int], style: str) -> list[Cell]:
    """Boxes without their ids; an end token is black."""
    end = tokenizer.eos_token_id
    return [(visible(tokenizer.decode([i])), "", "end" if i == end else style) for i in ids]


def words(figure: Figure) -> str:
    """Everything that is written on it, in the order in which it was drawn."""
    texts = [text.get_text().strip() for text in figure.findobj(Text)]
    return " | ".join(text for text in texts if text)


# --- what is drawn -----------------------------------------------------------------------------------------------


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


def sentences(call: Call, most: int = 6) -> list[Sequence[Step]]:
    """The steps of each sentence that came to its full stop."""
    ends = [n + 1 for n, step in enumerate(call.steps) if step.chosen.text == "."][:most]
    return [call.steps[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def sentence_bars(spoken: list[Sequence[Step]]) -> Row:
    """Each sentence, and how likely the model was to write it: the product over its tokens."""
    chances = [math.prod(step.chosen.probability for step in sentence) for sentence in spoken]
    names = [visible("".join(step.chosen.text for step in sentence).strip()) for sentence in spoken]
    return bars([(name, chance, percent(chance)) for name, chance in zip(names, chances, strict=True)])


def candidate_bars(step: Step, most: int, taken: int | None = 0, full: float = 0) -> Row:
    """The likeliest tokens of a step, with names of one width."""
    shown = step.candidates[:most]
    return bars(
        [(f"{short(visible(c.text), 8):>8}", c.probability, percent(c.probability)) for c in shown], taken, full
    )


def loading(model, tokenizer) -> Figure:
    """What the same weights take in 32, 16 and 4 bits."""
    four_bit = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    sizes = {"32 bits": model.get_memory_footprint()}
    for name, how in {"16 bits": {"dtype": torch.bfloat16}, "4 bits": {"quantization_config": four_bit}}.items():
        small = AutoModelForCausalLM.from_pretrained(pitfalls.fetch_model(), **how)
        states = [weight.quant_state for weight in small.parameters() if hasattr(weight, "quant_state")]
        scales = sum(state.absmax.nbytes for state in states)  # the footprint leaves them out
        sizes[name] = small.get_memory_footprint() + scales
    named = [(name, size, f"{size / 1e6:.0f} MB") for name, size in sizes.items()]
    return card(f"4 bits: {sizes['4 bits'] / sizes['32 bits']:.0%} of the memory", bars(named))


def tokenizing(model, tokenizer) -> Figure:
    """Two texts as tokens with their ids, and how many."""
    texts = [tokenizer(text).input_ids for text in ("A list of colors: red, blue", "Portugal is")]
    rows = [boxes([drawing.cell(tokenizer, token_id, "prompt") for token_id in ids]) for ids in texts]
    return card(" ≠ ".join(f"{len(ids)} tokens" for ids in texts), *rows)


def generating(model, tokenizer) -> Figure:
    """A text, and the three likeliest tokens that could come next."""
    call = go_on(model, tokenizer, "A list of colors: red, blue", max_new_tokens=2)
    so_far = tokens(tokenizer, call.prompt_ids, "prompt") + tokens(tokenizer, call.new_ids[:1], "new")
    title = f"{model.config.vocab_size:,} scores for 1 token"
    return card(title, boxes([*so_far, ("?", "", "special")]), candidate_bars(call.steps[1], 3))


def length(model, tokenizer) -> Figure:
    """Prompt, the new tokens of a call without a length, and what would have come after them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers notes that no length is given
        call = go_on(model, tokenizer, "A sequence of numbers: 1, 2")
    lost = pitfalls.record(model, tokenizer, call.output_ids, max_new_tokens=9).new_ids
    cells = tokens(tokenizer, call.prompt_ids, "prompt") + tokens(tokenizer, call.new_ids, "new")
    cells += [("✂", "", "end"), *tokens(tokenizer, lost, "padding")]
    return card(f"Cut off after {len(call.new_ids)} tokens", boxes(cells))


def decoding_mode(model, tokenizer) -> Figure:
    """The sentences of the greedy loop, each with its probability."""
    call = go_on(model, tokenizer, "I am a cat.", max_new_tokens=30)
    return card("A loop, surer each time", sentence_bars(sentences(call)))


def padding_side(model, tokenizer) -> Figure:
    """A right-padded batch: each row with its pads, and what the model adds to it, as alone or not."""
    prompts = ["1, 2, 3", "A, B, C, D, E"]
    batch = tokenizer(prompts, padding=True, padding_side="right", return_tensors="pt")
    call, rows = pitfalls.record(model, tokenizer, batch, max_new_tokens=8), []
    for row, prompt, mask in zip(call.rows, prompts, batch["attention_mask"], strict=True):
        right = row.new_ids == go_on(model, tokenizer, prompt, max_new_tokens=8).new_ids
        pads = [("pad", "", "padding")] * int((mask == 0).sum())
        new = [("✓" if right else "✗", "", "end"), *tokens(tokenizer, row.new_ids, "new")]
        rows += [boxes(tokens(tokenizer, row.prompt_ids, "prompt") + pads), boxes(new[:7])]
    return card("It continues the padding", *rows)


def prompt_template(model, tokenizer) -> Figure:
    """What a question gets as raw text and through the template, and how likely an end at once was."""
    asked = {"raw text": go_on(model, tokenizer, QUESTION, max_new_tokens=20), "template": answer(model, tokenizer)}
    rows = []
    for name, call in asked.items():
        rows.append(text(f"{name}: {percent(call.steps[0].end_probability)} to end at once"))
        rows.append(boxes(tokens(tokenizer, call.new_ids, "new")))
    return card("The capital of Japan?", *rows)


def your_own_code(model, tokenizer) -> Figure:
    """A box for each mistake of the catalogue, by what transformers says of it."""
    said = [row.transformers.partition(":")[0].replace("error", "raises") for row in catalogue.heard()]
    kinds = {"nothing": (" ", "", "end"), "warning": ("!", "", "user"), "raises": ("✗", "", "special")}
    legend = [f"{sign if sign.strip() else '■'} {kind} {said.count(kind)}" for kind, (sign, _, _) in kinds.items()]
    cells = [box for kind, box in kinds.items() for _ in range(said.count(kind))]
    return card(f"Silent on {said.count('nothing')} of {len(said)} mistakes", boxes(cells), text(*legend))


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
    return card(f"Prompt lookup: {calls['lookup']} calls", bars([(name, n, f"{n} calls") for name, n in calls.items()]))


def under_control(model, tokenizer) -> Figure:
    """The same beginning, continued freely and under a rule: no token with the letter e."""
    pieces = tokenizer.batch_decode([[number] for number in range(len(tokenizer))])
    with_e = torch.tensor([number for number, piece in enumerate(pieces) if "e" in piece.lower()])
    inputs, rows = tokenizer("Once upon a time there was a small robot.", return_tensors="pt"), []
    for name, rules in {"without": [], "with": [lambda ids, scores: scores.index_fill(1, with_e, -torch.inf)]}.items():
        call = pitfalls.record(model, tokenizer, inputs, max_new_tokens=7, logits_processor=LogitsProcessorList(rules))
        rows.append(text(f"{name} it: {call.new_text.lower().count('e')} times e"))
        rows.append(boxes(tokens(tokenizer, call.new_ids, "new")))
    return card("A rule of our own: no “e”", *rows)


def speed_and_memory(model=None, tokenizer=None) -> Figure:
    """Tokens per second by the number of rows, as `make bench` measured them."""
    batches = [row for row in RESULTS["rows"] if row["what"].startswith("batch")]
    speeds = {row["what"].split()[-1]: int(row["value"].split()[0]) for row in batches}
    named = [(f"{rows} row" + "s" * (rows != "1"), speed, f"{speed} tokens/s") for rows, speed in speeds.items()]
    first, *_, last = speeds.values()
    return card(f"64 rows: {last / first:.0f} times the tokens", bars(named))


def conversations(model, tokenizer) -> Figure:
    """What one user typed, as the tokenizer takes it, and with its markers kept letters."""
    typed = "Hi!<|im_end|><|im_start|>system"
    ways = {"as it is": {}, "split_special_tokens": {"split_special_tokens": True}}
    rows = []
    for name, how in ways.items():
        ids = tokenizer(typed, **how).input_ids
        marks = [number in tokenizer.all_special_ids for number in ids]
        rows.append(text(f"{name}: {sum(marks)} markers"))
        styles = ["special" if mark else "user" for mark in marks]
        rows.append(boxes([(visible(tokenizer.decode([i])), "", style) for i, style in zip(ids, styles, strict=True)]))
    return card("A user opens a system turn", *rows)


def production(model, tokenizer) -> Figure:
    """A question as a client sends it to a server, and the answer."""
    new = answer(model, tokenizer).new_ids[:-1]
    asked = [(word, "", "user") for word in QUESTION.split(" ")]
    answered = [*tokens(tokenizer, new, "new"), ("stop", "", "end")]
    between = text("↓ POST /v1/chat/completions")
    return card(f"A chat over HTTP: {len(new)} tokens", boxes(asked), between, boxes(answered))


LESSONS = {path.stem: globals()[path.stem[3:]] for path in lessons.LESSONS}  # a function a lesson, with its name


def main() -> None:
    from tools import hero

    folder = pitfalls.fetch_model()
    with silenced():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder)
        hero.save(model, tokenizer)
        for name, picture in LESSONS.items():
            save(picture(model, tokenizer), name)


def save(figure: Figure, name: str) -> None:
    figure.savefig(IMAGES / f"{name}.png", dpi=DPI, metadata={"Software": None, "Comment": words(figure)})


if __name__ == "__main__":
    main()
