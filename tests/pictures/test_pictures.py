"""The pictures say what is so, and can be read: complete, without overlaps, in black and white."""

import io
import warnings

import matplotlib
import numpy as np
import pytest
import torch
from IPython.display import Image as NotebookImage
from matplotlib import cbook
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from PIL import Image, ImageChops
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from pitfalls import pictures, record
from pitfalls.inspector.call import Call
from pitfalls.inspector.rows import Candidate, Row, Step
from pitfalls.pictures.drawing import STYLES, visible

matplotlib.use("agg")

END = 2  # <|im_end|>
OTHER_END = 0  # <|endoftext|>
AWKWARD = ["$x$", "$$", "$\\frac{a}{b}$", "\\$5 and \\$6", "a_b^c \\n %d {}", "'\"&amp;"]

ZEPHYR = (
    "{% for message in messages %}\n"
    "{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n"
    "{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
MISTRAL = (
    "<s>{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] | trim + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] | trim + '</s>' }}{% endif %}{% endfor %}"
)
SHOUTING = "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] | upper }}\n{% endfor %}"


@pytest.fixture(autouse=True)
def nothing_stays_open():
    before = plt.get_fignums()
    yield
    assert plt.get_fignums() == before


def written(figure: Figure) -> list:
    """The texts of a figure as matplotlib objects, in the order in which they were drawn."""
    texts = list(figure.texts)
    for axis in figure.axes:
        texts += [axis.title, *axis.texts]
        if axis.axison:
            texts += [*axis.get_xticklabels(), *axis.get_yticklabels()]
    for legend in figure.legends:
        texts += legend.get_texts()
    return [text for text in texts if text.get_text() and text.get_visible()]


def as_drawn(text) -> str:
    """A text as a reader sees it; none may be taken for a formula."""
    content = text.get_text()
    if not text.get_parse_math():
        return content
    assert not cbook.is_math_text(content), f"{content!r} is set as a formula"
    return content.replace(r"\$", "$")


def seen(figure: Figure) -> list[str]:
    return [as_drawn(text) for text in written(figure)]


def title(figure: Figure) -> str:
    return figure.get_suptitle()


def render(figure: Figure) -> Image.Image:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(buffer, format="png", dpi=80, facecolor="white")
    return Image.open(buffer).convert("RGB")


def check(figure: Figure) -> Figure:
    """Draws without a warning, inside the figure, no text over another and none set as a formula."""
    assert isinstance(figure, Figure)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FigureCanvasAgg(figure).draw()
    texts = seen(figure)
    left, low, right, high = np.array([text.get_window_extent().extents for text in written(figure)]).T
    for inside in (left > -1, low > -1, right < figure.bbox.width + 1, high < figure.bbox.height + 1):
        assert inside.all(), f"cut off: {texts[inside.argmin()]!r}"
    over = (left[:, None] < right - 2) & (low[:, None] < high - 2)  # two pixels are no overlap
    for one, other in np.argwhere(np.triu(over & over.T, 1)):
        raise AssertionError(f"{texts[one]!r} is drawn over {texts[other]!r}")
    return figure


def is_style(patch, name: str) -> bool:
    style = STYLES[name]
    return (
        to_hex(patch.get_facecolor()) == style["facecolor"]
        and to_hex(patch.get_edgecolor()) == style["edgecolor"]
        and patch.get_linestyle() == style.get("linestyle", "solid")
        and patch.get_hatch() == style.get("hatch")
    )


def boxes(axis) -> list[tuple]:
    """(text, note, box) of each token; in some figures there is no note."""
    texts = [as_drawn(text) for text in axis.texts]
    x, y = axis.transData.transform([text.get_position() for text in axis.texts] or np.empty((0, 2))).T
    found = []
    for patch in axis.patches:
        left, low, right, high = patch.get_window_extent().extents
        inside = np.flatnonzero((left < x) & (x < right) & (low < y) & (y < high))
        found.append((*(texts[n] for n in inside), patch))
    return found


def styled(figure: Figure, name: str) -> list[str]:
    return [text for text, _, patch in boxes(figure.axes[0]) if is_style(patch, name)]


def step(tokenizer, probabilities: dict[int, float], chosen: int, share: float | None = None) -> Step:
    candidates = [Candidate(i, tokenizer.decode([i]), p) for i, p in probabilities.items()]
    taken = Candidate(chosen, tokenizer.decode([chosen]), share or probabilities[chosen])
    return Step(taken, candidates, end_probability=0.0, entropy=1.0)


def call_of(tokenizer, prompt, new, stopped_by="length", steps=()) -> Call:
    """A call as `record` would return it, one row for each list of `new`."""
    rows = [Row(prompt, ids, tokenizer.decode(prompt), tokenizer.decode(ids), stopped_by, list(steps)) for ids in new]
    ids = torch.tensor([prompt])  # the pictures read the rows alone
    return Call(ids, torch.ones_like(ids), ids, GenerationConfig(), rows)


@pytest.fixture(scope="module")
def two_steps(tokenizer):
    """` Paris` is likeliest in both steps, and taken in the first; in the second, the fifteenth token is taken."""
    paris, the, city, rare = (tokenizer(text).input_ids[0] for text in (" Paris", " the", " city", " zebra"))
    shares = {paris: 0.7, the: 0.2, city: 0.05}
    steps = [step(tokenizer, shares, paris), step(tokenizer, shares, rare, 0.004)]
    return call_of(tokenizer, tokenizer("The capital is").input_ids, [[paris, rare]], steps=steps)


@pytest.fixture(scope="module")
def batch(tokenizer):
    return tokenizer(["1, 2, 3", "A, B, C, D, E", "Once"], return_tensors="pt", padding=True)


def every_figure(tokenizer, call, batch, **titled) -> dict[str, Figure]:
    messages = [{"role": "user", "content": "Hi"}]
    return {
        "token_strip": pictures.token_strip(call, tokenizer, **titled),
        "next_token": pictures.next_token(call.steps[0], tokenizer, **titled),
        "generation": pictures.generation(call, **titled),
        "padding": pictures.padding(batch, tokenizer, **titled),
        "chat": pictures.chat(tokenizer, messages, **titled),
        "memory": pictures.memory({"fp32": 538_000_000, "bf16": 269_000_000}, **titled),
    }


# --- for all of them ---------------------------------------------------------------------------------------------


def test_every_figure_can_be_read(tokenizer, two_steps, batch):
    for figure in every_figure(tokenizer, two_steps, batch).values():
        check(figure)
    check(pictures.loop(two_steps, tokenizer, 1))


def test_a_title_of_ones_own(tokenizer, two_steps, batch):
    text = "Costs $5 or $6, a_b \\alpha"
    for name, figure in every_figure(tokenizer, two_steps, batch, title=text).items():
        assert title(check(figure)) == text, name


def luminance(name: str) -> float:
    red, green, blue = to_rgb(STYLES[name]["facecolor"])
    return 0.299 * red + 0.587 * green + 0.114 * blue


@pytest.mark.parametrize(
    "names", [("prompt", "new", "end", "special", "padding"), ("system", "user", "assistant", "special")]
)
def test_styles_differ_without_colour(names):
    marks = {name: (STYLES[name].get("hatch"), STYLES[name].get("linestyle")) for name in names}
    for n, one in enumerate(names):
        for other in names[n + 1 :]:
            apart = abs(luminance(one) - luminance(other))
            assert apart > 0.1 or marks[one] != marks[other], f"{one} and {other} look the same in grey"


def test_black_text_can_be_read_on_every_style_but_end():
    assert all(luminance(name) > 0.5 for name in STYLES if name != "end")
    assert luminance("end") < 0.35, "its text is white"


@pytest.mark.parametrize(
    ("text", "expected"),
    [(" a b", "·a·b"), ("a\n\n", "a⏎⏎"), ("\tx", "⇥x"), ("$\\_", "$\\_"), ("naïve Привет", "naïve·Привет")],
)
def test_visible(text, expected):
    assert visible(text) == expected


@pytest.mark.parametrize("text", ["日本語", "हिन्दी", "🙂", "\r\n", "\x00\x1b\x7f", "a\u2028b\xa0\xad", "\ufffd"])
def test_visible_uses_only_what_can_be_drawn(text):
    assert visible(text).isprintable() and " " not in visible(text)
    figure, axis = plt.subplots(figsize=(3, 1))
    plt.close(figure)
    axis.text(0, 0, visible(text), family="monospace", parse_math=False)
    render(figure)
    assert len(visible(text)) >= len(text), "nothing is dropped"


# --- token_strip -------------------------------------------------------------------------------------------------


def test_strip_of_a_call(tokenizer):
    prompt = [1, *tokenizer("The capital").input_ids]
    new = [*tokenizer(" is\tParis\n").input_ids, END]
    figure = check(pictures.token_strip(call_of(tokenizer, prompt, [new], "end-of-sequence"), tokenizer))
    assert title(figure) == f"{len(prompt)} prompt tokens + {len(new)} new; stopped by end-of-sequence"
    found = boxes(figure.axes[0])
    assert [note for _, note, _ in found] == [str(token_id) for token_id in prompt + new]
    assert styled(figure, "special") == ["<|im_start|>"]
    assert styled(figure, "prompt") == ["The", "·capital"]
    assert "".join(styled(figure, "new")) == "·is⇥Paris⏎"
    assert styled(figure, "end") == ["<|im_end|>"]


def test_the_end_token_is_black_whichever_it_is(tokenizer):
    new = [*tokenizer("Yes").input_ids, OTHER_END]
    figure = pictures.token_strip(call_of(tokenizer, [50], [new], "end-of-sequence"), tokenizer)
    assert styled(figure, "end") == ["<|endoftext|>"]
    going_on = pictures.token_strip(call_of(tokenizer, [50], [[END, 60]]), tokenizer)
    assert styled(going_on, "end") == [], "nothing ended there"


def test_strip_of_another_row(tokenizer):
    call = call_of(tokenizer, [50], [[60], [70, 80]])
    figure = check(pictures.token_strip(call, tokenizer, row=1))
    assert title(figure).startswith("1 prompt tokens + 2 new")
    assert [note for _, note, _ in boxes(figure.axes[0])] == ["50", "70", "80"]


@pytest.mark.parametrize("form", [list, tuple, torch.tensor])
def test_strip_of_ids(form, tokenizer):
    ids = tokenizer("A,\tB\nC").input_ids
    figure = check(pictures.token_strip(form(ids), tokenizer))
    assert title(figure) == f"{len(ids)} tokens"
    assert "".join(styled(figure, "prompt")) == "A,⇥B⏎C"


@pytest.mark.parametrize("ids", [[], torch.tensor([], dtype=torch.long)])
def test_strip_of_nothing(ids, tokenizer):
    assert seen(check(pictures.token_strip(ids, tokenizer))) == ["0 tokens"]


def test_strip_without_new_tokens(tokenizer):
    figure = check(pictures.token_strip(call_of(tokenizer, [50, 60], [[]]), tokenizer))
    assert title(figure).startswith("2 prompt tokens + 0 new") and len(boxes(figure.axes[0])) == 2


def test_many_tokens_wrap_and_stay_inside(tokenizer):
    ids = (tokenizer("The quick brown fox jumps over the lazy dog. ").input_ids * 40)[:300]
    figure = check(pictures.token_strip(ids, tokenizer))
    axis = figure.axes[0]
    found = boxes(axis)
    assert [note for _, note, _ in found] == [str(token_id) for token_id in ids]
    assert len({round(patch.get_y(), 3) for _, _, patch in found}) > 10
    for _, _, patch in found:
        assert axis.bbox.padded(1).containsx(patch.get_window_extent().x0)
        assert axis.bbox.padded(1).containsx(patch.get_window_extent().x1)


def test_every_text_is_inside_its_box(tokenizer):
    long = sorted(range(len(tokenizer)), key=lambda i: len(tokenizer.decode([i])))[-4:]
    figure = check(pictures.token_strip([*long, *tokenizer("A very ordinary line of text.").input_ids], tokenizer))
    axis = figure.axes[0]
    for patch, text in zip(axis.patches, axis.texts[::2], strict=True):
        outline, inner = patch.get_window_extent(), text.get_window_extent()
        assert outline.x0 <= inner.x0 and inner.x1 <= outline.x1, text.get_text()


def test_other_scripts_and_parts_of_letters(tokenizer):
    ids = tokenizer("日本語 Привет שלום हिन्दी 🙂👍 naïve\r\n\x00").input_ids
    texts = [text for text, _, _ in boxes(check(pictures.token_strip(ids, tokenizer)).axes[0])]
    assert len(texts) == len(ids) and all(texts)
    assert not any("�" in text for text in texts), "a part of a letter shows its bytes"
    assert "в" in texts and "ïve" in texts


# --- awkward text ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", AWKWARD)
def test_dollars_and_backslashes_are_shown_as_they_are(text, tokenizer):
    ids = tokenizer(text).input_ids
    strip = check(pictures.token_strip(ids, tokenizer))
    assert "".join(word for word, _, _ in boxes(strip.axes[0])) == visible(text)
    grid = check(
        pictures.padding({"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids))}, tokenizer)
    )
    assert [words[0] for words in boxes(grid.axes[0])] == [visible(tokenizer.decode([i])) for i in ids]
    chat = check(pictures.chat(tokenizer, [{"role": "user", "content": text}]))
    assert "".join(styled(chat, "user")) == visible(text)


@pytest.mark.parametrize("text", AWKWARD)
def test_dollars_and_backslashes_of_candidates(text, tokenizer):
    one = Step(Candidate(50, text, 0.5), [Candidate(50, text, 0.5), Candidate(60, "$", 0.25)], 0.0, 1.0)
    call = call_of(tokenizer, [50], [[50]], steps=[one])
    bars = check(pictures.next_token(one, tokenizer))
    assert names(bars) == [visible(text), "$"] and f"'{visible(text)}'" in title(bars)
    shown = taken(check(pictures.generation(call)))[0].removesuffix("\n50%").removesuffix("…")
    assert visible(text).startswith(shown) and len(shown) >= min(len(text), 9)
    turn = check(pictures.loop(call, tokenizer, 0))
    assert f"'{visible(text)}'" in title(turn) and visible(text) in seen(turn)


def test_dollars_in_panel_and_format_names(tokenizer):
    check(pictures.next_token({"$a$": torch.rand(20), "$b$": torch.rand(20)}, tokenizer, top=3))
    check(pictures.memory({"$a$": 2_000_000, "$b$": 1_000_000}))


# --- next_token --------------------------------------------------------------------------------------------------


def names(figure: Figure, panel: int = 0) -> list[str]:
    return [as_drawn(label) for label in figure.axes[panel].get_yticklabels()]


def percentages(figure: Figure, panel: int = 0) -> list[str]:
    return [text.get_text().strip() for text in figure.axes[panel].texts]


def framed(figure: Figure, panel: int = 0) -> list[int]:
    return [n for n, bar in enumerate(figure.axes[panel].patches) if bar.get_linewidth() > 1]


def logits_of(shares: dict[int, float], vocabulary: int = 300) -> torch.Tensor:
    rest = (1 - sum(shares.values())) / (vocabulary - len(shares))
    probabilities = torch.full((vocabulary,), rest)
    for token_id, share in shares.items():
        probabilities[token_id] = share
    return probabilities.log()


def test_next_token_of_logits(tokenizer):
    figure = check(pictures.next_token(logits_of({216: 0.7, 198: 0.2, 50: 0.07}), tokenizer, top=3))
    assert names(figure) == ["·", "⏎", tokenizer.decode([50])]
    assert percentages(figure) == ["70.0%", "20.0%", "7.0%"]
    assert title(figure) == "'·' gets 70.0%; these 3 tokens share 97.0%"
    assert framed(figure) == []


def test_first_bar_is_on_top(tokenizer):
    bottom, top = pictures.next_token(logits_of({60: 0.6, 50: 0.3}), tokenizer, top=2).axes[0].get_ylim()
    assert bottom > top


def test_next_token_of_a_step(tokenizer, two_steps):
    figure = check(pictures.next_token(two_steps.steps[0], tokenizer))
    assert names(figure) == ["·Paris", "·the", "·city"] and percentages(figure) == ["70.0%", "20.0%", "5.0%"]
    assert framed(figure) == [0]
    assert title(figure) == "'·Paris' gets 70.0%; these 3 tokens share 95.0%"


def test_a_less_likely_token_that_was_taken_is_shown(tokenizer, two_steps):
    figure = check(pictures.next_token(two_steps.steps[1], tokenizer))
    assert names(figure)[-1] == "·zebra" and percentages(figure)[-1] == "0.4%"
    assert framed(figure) == [len(names(figure)) - 1]


def test_only_the_taken_one_of_equal_looking_tokens_is_framed(tokenizer):
    part, other = Candidate(160, "�", 0.5), Candidate(161, "�", 0.3)
    one = Step(other, [part, other], 0.0, 1.0)
    assert framed(pictures.next_token(one, tokenizer)) == [1]
    assert framed(pictures.loop(call_of(tokenizer, [50], [[161]], steps=[one]), tokenizer, 0), panel=1) == [1]


def test_next_token_of_several_logits(tokenizer):
    panels = {"with": logits_of({50: 0.6, 60: 0.3}), "without": logits_of({50: 0.01, 60: 0.9, 70: 0.05})}
    figure = check(pictures.next_token(panels, tokenizer, top=2))
    assert [axis.get_title() for axis in figure.axes] == ["with", "without"]
    assert names(figure) == [tokenizer.decode([50]), tokenizer.decode([60])]
    assert percentages(figure) == ["60.0%", "30.0%"] and percentages(figure, 1) == ["1.0%", "90.0%"]
    best = names(check(pictures.next_token(panels, tokenizer, top=4)))
    assert best == [tokenizer.decode([number]) for number in (50, 60, 70)], "those of the second panel too"


def test_padding_of_a_wide_batch_shows_its_ends(tokenizer):
    inputs = tokenizer(["one " * 40, "two"], padding=True, padding_side="right", return_tensors="pt")
    (axis,) = check(pictures.padding(inputs, tokenizer)).axes
    shown = [text.get_text() for text in axis.texts]
    assert shown.count("…") == 2 and shown.count("pad") == 12 + 2, "of the second row all but its one token"
    assert sum("pos 0" in text for text in shown) == 2 and any(text.endswith("pos 40") for text in shown)


@pytest.mark.parametrize(
    ("share", "shown"), [(0.999, "99.9%"), (0.001, "0.1%"), (0.0004, "0.04%"), (0.00003, "0.003%"), (1e-7, "<0.001%")]
)
def test_small_percentages(share, shown, tokenizer):
    figure = pictures.next_token({"": logits_of({50: 0.999}), "b": logits_of({50: share})}, tokenizer, top=1)
    assert percentages(figure, 1)[0] == shown


@pytest.mark.parametrize("logits", [torch.randn(5), torch.randn(1, 5).bfloat16(), torch.randn(5, requires_grad=True)])
def test_more_bars_than_the_vocabulary_has(logits, tokenizer):
    figure = check(pictures.next_token(logits, tokenizer, top=10))
    assert len(names(figure)) == 5 and title(figure).endswith("these 5 tokens share 100.0%")


def test_long_tokens_are_cut(tokenizer):
    longest = max(range(len(tokenizer)), key=lambda i: len(tokenizer.decode([i])))
    figure = check(pictures.next_token(logits_of({50: 0.5, longest: 0.4}, len(tokenizer)), tokenizer, top=2))
    assert names(figure)[1] == visible(tokenizer.decode([longest]))[:13] + "…"


# --- generation --------------------------------------------------------------------------------------------------


def columns(figure: Figure) -> list[list[str]]:
    found = {}
    for text in figure.axes[0].texts:
        found.setdefault(text.get_position()[0], []).append(as_drawn(text))
    return [found[x] for x in sorted(found)]


def taken(figure: Figure) -> list[str]:
    return [words[0] for words in boxes(figure.axes[0]) if words[-1].get_linewidth() > 1]


def test_generation(tokenizer, two_steps):
    figure = check(pictures.generation(two_steps, top=3))
    assert title(figure) == "In 1 of 2 steps the likeliest token was taken"
    assert columns(figure) == [["·Paris\n70%", "·the\n20%", "·city\n5%"], ["·Paris\n70%", "·the\n20%", "·zebra\n<1%"]]
    assert taken(figure) == ["·Paris\n70%", "·zebra\n<1%"]
    ticks = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert ticks[:2] == ["1.", "2."] and ticks[2] != "3.", "the zebra is not the third likeliest"


def test_generation_from_a_later_step(tokenizer, two_steps):
    figure = check(pictures.generation(two_steps, first=1))
    assert title(figure) == "In 0 of 1 steps the likeliest token was taken"
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["step 2"]


def test_generation_of_another_row(tokenizer, two_steps):
    rows = [Row([50], [60], "", "", "length", []), two_steps.rows[0]]
    call = Call(two_steps.input_ids, two_steps.attention_mask, two_steps.output_ids, two_steps.settings, rows)
    assert taken(pictures.generation(call, row=1))


@pytest.mark.parametrize("steps", [8, 20])
def test_many_steps_with_long_tokens(steps, tokenizer):
    ids = tokenizer(" approximately <|im_start|> responsibility international").input_ids
    shares = {token_id: 0.9 / len(ids) for token_id in ids}
    call = call_of(tokenizer, [50], [[ids[0]] * 20], steps=[step(tokenizer, shares, ids[0])] * 20)
    figure = check(pictures.generation(call, steps=steps))
    assert len(columns(figure)) == steps


@pytest.mark.parametrize("draw", [lambda call, _: pictures.generation(call), lambda call, t: pictures.loop(call, t, 0)])
def test_no_recorded_steps(draw, tokenizer):
    with pytest.raises(ValueError, match="no recorded steps: beam search and assisted decoding leave none"):
        draw(call_of(tokenizer, [50], [[60]]), tokenizer)


# --- padding -----------------------------------------------------------------------------------------------------


def tiny_llama(**settings) -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    return LlamaForCausalLM(LlamaConfig(**sizes, **settings))


def position_ids(inputs) -> torch.Tensor:
    """What generate hands to the model in its first step."""
    model, got = tiny_llama(vocab_size=49152, pad_token_id=END), []
    model.register_forward_pre_hook(lambda _, args, kwargs: got.append(kwargs["position_ids"]), with_kwargs=True)
    model.generate(**inputs, max_new_tokens=1, pad_token_id=END)
    return got[0]


@pytest.mark.parametrize("side", ["left", "right"])
def test_masks_and_position_ids_are_those_of_generate(side, tokenizer):
    texts = ["1, 2, 3", "A, B, C, D, E", "Once"]
    inputs = tokenizer(texts, return_tensors="pt", padding=True, padding_side=side)
    figure = check(pictures.padding(inputs, tokenizer))
    expected = position_ids(inputs)
    found = boxes(figure.axes[0])
    assert len(found) == inputs["input_ids"].numel()
    for text, note, patch in found:
        x, y = round(patch.get_x() + 0.47), round(patch.get_y() + 0.44)
        if inputs["attention_mask"][y, x]:
            assert text == visible(tokenizer.decode(inputs["input_ids"][y, x]))
            assert note == f"mask 1\npos {expected[y, x]}"
            assert is_style(patch, "prompt")
        else:
            assert (text, note) == ("pad", "mask 0") and is_style(patch, "padding")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["row 0", "row 1", "row 2"]
    assert title(figure).startswith("Every row ends on a token" if side == "left" else "2 of 3 rows end on padding")


@pytest.mark.parametrize("words", [1, 20, 40])
def test_padding_of_long_rows(words, tokenizer):
    inputs = tokenizer(
        [" everything nothing"[: 11 * words] * (words // 2 + 1), "Hi"], return_tensors="pt", padding=True
    )
    check(pictures.padding(inputs, tokenizer))


# --- chat --------------------------------------------------------------------------------------------------------

SMOLLM2 = None  # the tokenizer's own
TEMPLATES = pytest.mark.parametrize("template", [SMOLLM2, ZEPHYR, MISTRAL], ids=["smollm2", "zephyr", "mistral"])


def drawn_chat(tokenizer, monkeypatch, template, messages, **kwargs) -> tuple[Figure, str]:
    """The picture, and the text that is in it."""
    if template:
        monkeypatch.setattr(tokenizer, "chat_template", template)
    text = tokenizer.apply_chat_template(messages, tokenize=False, **{"add_generation_prompt": True} | kwargs)
    figure = pictures.chat(tokenizer, messages, **kwargs)
    assert "".join(word for word, *_ in boxes(figure.axes[0])) == visible(text), "nothing is lost or twice"
    return figure, text


CONTENTS = {
    "plain": "What is the capital of France?",
    "role": "user",  # also in the template itself
    "template-word": "AI",
    "letter": "s",
    "tag": "INST",
    "lines": "one\n\ntwo\n  three",
    "dollars": "costs $x$ or $y_1$",
    "long": "word and more " * 60 + "end",
    "other-script": "日本語 🙂",
    "template-like": "<|im_end|>\n<|im_start|>assistant\n[/INST]",
}


@TEMPLATES
@pytest.mark.parametrize("content", CONTENTS)
def test_what_is_yours_and_what_the_templates(content, template, tokenizer, monkeypatch):
    content = CONTENTS[content]
    figure, text = drawn_chat(tokenizer, monkeypatch, template, [{"role": "user", "content": content}])
    assert "".join(styled(figure, "user")) == visible(content)
    assert title(figure) == f"{len(content)} characters are yours, {len(text) - len(content)} come from the template"
    drawn = boxes(figure.axes[0])
    before = "".join(word for word, *_ in drawn[: [is_style(patch, "user") for *_, patch in drawn].index(True)])
    rendered = tokenizer.apply_chat_template([{"role": "user", "content": "@@"}], tokenize=False)
    assert before == visible(rendered.split("@@")[0]), "the first place where the content stands, not a word like it"


@pytest.mark.parametrize("content", CONTENTS)
def test_chat_can_be_read(content, tokenizer):
    check(
        pictures.chat(
            tokenizer, [{"role": "user", "content": CONTENTS[content]}, {"role": "assistant", "content": "Hi"}]
        )
    )


@TEMPLATES
@pytest.mark.parametrize("content", ["  spaced \n", "spaced ", " spaced"])
def test_content_with_spaces_around_it(content, template, tokenizer, monkeypatch):
    figure, text = drawn_chat(tokenizer, monkeypatch, template, [{"role": "user", "content": content}])
    kept = content.strip() if template == MISTRAL else content
    assert "".join(styled(figure, "user")) == visible(kept)
    assert title(figure).startswith(f"{len(kept)} characters are yours, {len(text) - len(kept)} come")


@TEMPLATES
def test_empty_content(template, tokenizer, monkeypatch):
    figure, text = drawn_chat(tokenizer, monkeypatch, template, [{"role": "user", "content": ""}])
    assert styled(figure, "user") == []
    assert title(figure) == f"0 characters are yours, {len(text)} come from the template"


@TEMPLATES
def test_a_conversation(template, tokenizer, monkeypatch):
    contents = ["Hi", "Hi", "Say Hi", "i", "Hi"]
    messages = [{"role": ("user", "assistant")[n % 2], "content": content} for n, content in enumerate(contents)]
    figure, text = drawn_chat(tokenizer, monkeypatch, template, messages)
    drawn = [(word, patch) for word, *_, patch in boxes(figure.axes[0]) if not is_style(patch, "special")]
    assert [word for word, _ in drawn] == [visible(content) for content in contents]
    assert [is_style(patch, "user") for _, patch in drawn] == [True, False, True, False, True]
    assert [is_style(patch, "assistant") for _, patch in drawn] == [False, True, False, True, False]
    own = sum(map(len, contents))
    assert title(figure) == f"{own} characters are yours, {len(text) - own} come from the template"


def test_a_system_message(tokenizer, monkeypatch):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    figure, _ = drawn_chat(tokenizer, monkeypatch, SMOLLM2, messages)
    assert styled(figure, "system") == ["Be·brief."] and styled(figure, "user") == ["Hi"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["template", "system", "user"]


def test_the_default_system_message_is_the_templates(tokenizer, monkeypatch):
    figure, _ = drawn_chat(tokenizer, monkeypatch, SMOLLM2, [{"role": "user", "content": "Hi"}])
    assert any("You·are·a·helpful·AI·assistant" in word for word in styled(figure, "special"))


def test_without_a_generation_prompt(tokenizer, monkeypatch):
    message = [{"role": "user", "content": "Hi"}]
    _, text = drawn_chat(tokenizer, monkeypatch, SMOLLM2, message, add_generation_prompt=False)
    assert not text.endswith("assistant\n")


def test_a_template_that_changes_the_content(tokenizer, monkeypatch):
    figure, _ = drawn_chat(tokenizer, monkeypatch, SHOUTING, [{"role": "user", "content": "loud"}])
    assert styled(figure, "user") == [], "LOUD is not what was written"


@pytest.mark.parametrize("count", [1, 6])
def test_the_legend_is_below_the_text(count, tokenizer):
    figure = check(pictures.chat(tokenizer, [{"role": "user", "content": "Hi"}] * count))
    legend = figure.legends[0].get_window_extent()
    assert not any(legend.overlaps(patch.get_window_extent()) for patch in figure.axes[0].patches)


# --- memory, loop, animate ---------------------------------------------------------------------------------------


def test_memory():
    figure = check(pictures.memory({"fp32": 538_060_032, "bf16": 269_030_016, "4-bit": 100.4e6}))
    assert title(figure) == "4-bit takes 19% of the memory of fp32"
    assert names(figure) == ["fp32", "bf16", "4-bit"]
    assert percentages(figure) == ["538 MB", "269 MB", "100 MB"]


def test_memory_of_a_big_model():
    assert percentages(check(pictures.memory({"fp32": 28.96e9, "4-bit": 4.01e9}))) == ["29.0 GB", "4.0 GB"]


def test_memory_of_one_format():
    figure = check(pictures.memory({"fp32": 538_060_032}))
    assert percentages(figure) == ["538 MB"]
    assert title(figure) == "fp32 takes 538 MB"


def test_loop(tokenizer, two_steps):
    figure = check(pictures.loop(two_steps, tokenizer, 1))
    above, _ = figure.axes
    assert "".join(word for word, _, _ in boxes(above)) == "The·capital·is·Paris"
    assert [is_style(patch, "new") for _, _, patch in boxes(above)] == [False, False, False, True]
    assert title(figure) == "Step 2: '·zebra' is taken, at 0.4%"
    assert names(figure, 1)[-1] == "·zebra" and framed(figure, 1) == [3]


def test_loop_shows_the_end_of_a_long_text(tokenizer):
    prompt = tokenizer("The quick brown fox. " * 30).input_ids
    one = step(tokenizer, {50: 0.5, 60: 0.3}, 50)
    figure = check(pictures.loop(call_of(tokenizer, prompt, [[50]], steps=[one]), tokenizer, 0))
    found = [note for _, note, _ in boxes(figure.axes[0])]
    assert found == [str(token_id) for token_id in prompt[-len(found) :]] and len(found) > 10


def animation(figures) -> tuple[bytes, Image.Image]:
    shown = pictures.animate(figures)
    assert isinstance(shown, NotebookImage) and shown.format == "png"
    return shown.data, Image.open(io.BytesIO(shown.data))


def test_animation(tokenizer):
    ids = tokenizer("The quick brown fox jumps over the lazy dog").input_ids
    steps = [step(tokenizer, {i: 0.5, 50: 0.2, 60: 0.1, 70: 0.05}, i) for i in ids]
    call = call_of(tokenizer, [50], [ids], steps=steps)
    data, image = animation([pictures.loop(call, tokenizer, n) for n in range(8)])
    assert image.n_frames == 8
    assert image.info["loop"] == 0, "for ever"
    assert len(data) < 400_000


def test_frames_keep_their_own_colours():
    figures = []
    for colour in ("#ff0000", "#00cc00", "#0000ff", "#f5b041", "#444444"):
        figure, axis = plt.subplots(figsize=(2, 1))
        axis.axis("off")
        axis.add_patch(plt.Rectangle((0, 0), 1, 1, color=colour))
        plt.close(figure)
        figures.append(figure)
    _, image = animation(figures)
    assert image.mode == "P", "older versions of Pillow keep the palette of the first frame alone"
    for n, figure in enumerate(figures):
        image.seek(n)
        difference = ImageChops.difference(image.convert("RGB"), render(figure))
        assert max(high for _, high in difference.getextrema()) < 40


def test_animation_of_one_figure():
    figure = pictures.memory({"fp32": 2_000_000})
    _, image = animation([figure])
    assert getattr(image, "n_frames", 1) == 1 and image.size == render(figure).size


def test_animation_of_no_figures():
    with pytest.raises(ValueError, match="one figure or more"):
        pictures.animate([])


def test_a_recorded_call_fits_the_pictures(tokenizer):
    call = record(
        tiny_llama(vocab_size=300, bos_token_id=None),
        tokenizer,
        torch.tensor([[50, 60]]),
        max_new_tokens=3,
        do_sample=True,
    )
    figure = check(pictures.token_strip(call, tokenizer))
    assert [note for _, note, _ in boxes(figure.axes[0])] == [str(token_id) for token_id in call.output_ids[0].tolist()]
    assert len(columns(check(pictures.generation(call)))) == len(call.new_ids)
