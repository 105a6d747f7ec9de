"""For all pictures: they can be read, complete, without overlaps, in black and white; and say what they can't draw."""

import io

import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image, ImageChops

from pitfalls import pictures, record
from pitfalls.inspector.rows import Candidate, Step
from pitfalls.pictures.drawing import SMALLEST, STYLES, visible
from tests.helpers import tiny_llama
from tests.pictures.reading import (
    boxes,
    call_of,
    check,
    columns,
    names,
    percentages,
    render,
    seen,
    step,
    styled,
    taken,
    title,
    written,
)

AWKWARD = ["$x$", "$$", "$\\frac{a}{b}$", "\\$5 and \\$6", "a_b^c \\n %d {}", "'\"&amp;"]


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
        "bars": pictures.bars({"fp32": 7.6, "nf4": 10.0}, **{"title": "4 bits cost something"} | titled),
        "dots": pictures.dots({"drawn": [0, 0.1], "greedy": [0.8]}, **{"title": "Repeated"} | titled),
        "curves": pictures.curves(
            {"plain": ([1, 2], [3, 4]), "cached": ([1, 2], [3, 3])}, x="tokens", y="ms", **{"title": "Time"} | titled
        ),
    }


def test_every_figure_can_be_read(tokenizer, two_steps, batch):
    for figure in every_figure(tokenizer, two_steps, batch).values():
        check(figure)
    check(pictures.loop(two_steps, tokenizer, 1))


def test_every_figure_says_in_words_what_it_shows(tokenizer, two_steps, batch):
    for name, figure in every_figure(tokenizer, two_steps, batch).items():
        data, told = figure._repr_mimebundle_()
        assert data["image/png"].startswith(b"\x89PNG") and data["text/plain"] == figure.alt, name
        assert told["image/png"]["alt"].startswith(title(figure)) and len(figure.alt) > len(title(figure)) + 10, name


def test_no_text_is_smaller_than_what_can_be_read(tokenizer, two_steps, batch):
    for name, figure in every_figure(tokenizer, two_steps, batch).items():
        assert min(text.get_fontsize() for text in written(figure)) >= SMALLEST, name


def test_a_title_of_ones_own(tokenizer, two_steps, batch):
    text = "Costs $5 or $6, a_b \\alpha"
    for name, figure in every_figure(tokenizer, two_steps, batch, title=text).items():
        assert title(check(figure)) == text, name


def luminance(name: str) -> float:
    red, green, blue = to_rgb(STYLES[name]["facecolor"])
    return 0.299 * red + 0.587 * green + 0.114 * blue


@pytest.mark.parametrize(
    "names",
    [
        ("prompt", "new", "end", "special", "padding"),
        ("prompt", "own", "own special", "special"),
        ("system", "user", "assistant", "special"),
    ],
)
def test_styles_differ_without_colour(names):
    marks = {name: [STYLES[name].get(mark) for mark in ("hatch", "linestyle", "linewidth")] for name in names}
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


def animation(figures) -> tuple[bytes, Image.Image]:
    shown = pictures.animate(figures)
    data, metadata = shown._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == data["text/plain"] == shown.alt
    return data["image/png"], Image.open(io.BytesIO(data["image/png"]))


def test_animation(tokenizer):
    ids = tokenizer("The quick brown fox jumps over the lazy dog").input_ids
    steps = [step(tokenizer, {i: 0.5, 50: 0.2, 60: 0.1, 70: 0.05}, i) for i in ids]
    call = call_of(tokenizer, [50], [ids], steps=steps)
    data, image = animation([pictures.loop(call, tokenizer, n) for n in range(8)])
    assert image.n_frames == 8
    assert image.info["loop"] == 0, "for ever"
    assert len(data) < 400_000


def test_the_paper_of_every_frame_is_white(tokenizer):
    frames = [
        pictures.next_token(torch.linspace(-n, n, 40), tokenizer, top=8, title=f"{n}", most=1) for n in range(1, 8)
    ]
    _, image = animation(frames)
    for n in range(len(frames)):
        image.seek(n)
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


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


def test_animation_takes_figures_alone():
    with pytest.raises(ValueError, match="one figure or more"):
        pictures.animate([])
    for wrong in (7, [7], "text", {"a": 7}):
        with pytest.raises(TypeError, match="takes figures, such as"):
            pictures.animate(wrong)


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
