"""The animation at the top of README.md: greedy decoding, token by token, until it goes round in a loop."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from pitfalls.inspector.call import Call
from pitfalls.inspector.rows import Step
from pitfalls.pictures.drawing import cell_width, draw_bars, short, visible
from tools.cards import GREY, LETTER, LINE, card, plain, put_cells, space, words, write

PROMPT = "I am a cat."
LINES = 6  # as many sentences, and as many candidates
WIDTH, HEIGHT, DPI = 4.1, 2.34, 400
LEFT, TOP = 0.1, 0.4  # where the text begins
PANEL, NAMES = 1.98, 0.78  # where the right half begins, and its room for names


class Scene(NamedTuple):
    """One frame: the token that comes next, as its place in a sentence, and what happens to it."""

    sentence: int
    token: int
    taken: bool = False
    flown: float = 0.0  # of its way into the text
    grown: float = 1.0  # of the bars
    seconds: float = 0.05


def sentences(call: Call) -> list[list[Step]]:
    """The steps of each sentence that came to its full stop, the first `LINES` of them."""
    ends = [n + 1 for n, step in enumerate(call.steps) if step.chosen.text == "."][:LINES]
    return [call.steps[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def chances(spoken: list[list[Step]]) -> list[float]:
    """How likely the model was to write each sentence: the product over its tokens."""
    return [math.prod(step.chosen.probability for step in sentence) for sentence in spoken]


def story(spoken: list[list[Step]]) -> Iterator[Scene]:
    """The first sentence slowly, the second faster, the others in passing, and then all of them side by side."""
    for number, sentence in enumerate(spoken):
        reading, flight = [(0.4, 6), (0.14, 4), (0, 0)][min(number, 2)]
        for token in range(len(sentence)):
            scene = Scene(number, token)
            if not reading:
                yield scene._replace(taken=True, seconds=0.08)
                continue
            if number == token == 0:
                yield scene._replace(seconds=1.6)
            else:
                yield from (scene._replace(grown=part / 4) for part in (1, 2, 3))
                yield scene._replace(seconds=reading)
            yield scene._replace(taken=True, seconds=reading / 2)
            yield from (scene._replace(taken=True, flown=part / flight) for part in range(1, flight))
    end = Scene(len(spoken), 0)
    yield from (end._replace(grown=part / 8) for part in range(1, 8))
    yield end._replace(seconds=3.5)


def draw(scene: Scene, prompt: list, spoken: list[list[Step]]) -> Figure:
    """One frame of the story; `prompt` are the boxes of its tokens."""
    figure = card(headline(scene, len(spoken)), WIDTH, HEIGHT)
    lines = [prompt, *([box(step) for step in sentence] for sentence in spoken[: scene.sentence])]
    footer = "SmolLM2-135M-Instruct · model.generate(**inputs)"
    if scene.sentence < len(spoken):
        step = spoken[scene.sentence][scene.token]
        lines.append([box(step) for step in spoken[scene.sentence][: scene.token]] + [("?", "", "special")])
        bars = [(short(candidate.text, 9), candidate.probability) for candidate in step.candidates[:LINES]]
        draw_panel(figure, "probability of the next token", bars, scene, indent=NAMES, reach=1.4)
    else:
        bars = [("", chance) for chance in chances(spoken)]
        draw_panel(figure, "probability of the sentence", bars, scene, indent=0, reach=1)
        footer = "Why that is, and how to get out of it: lesson 5"
    put_cells(figure, lines, LEFT, TOP)
    if scene.flown:
        draw_flight(figure, lines, box(step), scene.flown)
    write(figure, footer, LEFT, HEIGHT - 0.2, color=GREY)
    return figure


def headline(scene: Scene, end: int) -> str:
    if scene.sentence == end:
        return "Each repetition makes the next one likelier."
    if scene.sentence:
        return "… and says the same again …" if scene.sentence == 1 else "… and again, and again …"
    if scene.taken or scene.token:
        return "Greedy decoding takes the likeliest token …"
    return f"“{PROMPT}” What comes next?"


def box(step: Step) -> tuple[str, str, str]:
    return visible(step.chosen.text), "", "new"


def draw_panel(figure: Figure, heading: str, bars: list, scene: Scene, indent: float, reach: float) -> None:
    """Bars beside the lines of the text; their numbers come when they have grown."""
    write(figure, heading, PANEL, TOP + 0.05, color=GREY)
    axis = space(figure, PANEL + indent, TOP + LINE, WIDTH - PANEL - indent - LEFT, LINE * LINES)
    draw_bars(axis, bars, 0 if scene.taken else None)
    axis.set(xlim=(0, reach / scene.grown), ylim=(LINES - 0.5, -0.5))
    for number in axis.texts:
        number.set_visible(scene.grown == 1)


def draw_flight(figure: Figure, lines: list[list], flying: tuple, flown: float) -> None:
    """The taken token on its way from its bar to where the question mark is."""
    written = sum(cell_width(text, "") for text, *_ in lines[-1][:-1])
    start = PANEL + NAMES - cell_width(flying[0], "") * LETTER, TOP + LINE
    end = LEFT + written * LETTER, TOP + LINE * (len(lines) - 1)
    way = flown * flown * (3 - 2 * flown)  # starts and ends gently
    put_cells(figure, [[flying]], *(a + (b - a) * way for a, b in zip(start, end, strict=True)))


def save(path: Path, call: Call, tokenizer) -> None:
    """All frames, in one palette, with the words of the first and the last."""
    prompt, spoken = plain(tokenizer, call.prompt_ids, "prompt"), sentences(call)
    scenes = list(story(spoken))
    first, taken, last = (draw(scenes[place], prompt, spoken) for place in (0, 1, -1))
    together = Image.fromarray(np.concatenate([pixels(figure) for figure in (first, taken, last)]))
    shades = together.quantize(64, Image.Quantize.MAXCOVERAGE)  # this method leaves white as it is
    frames = [
        Image.fromarray(pixels(draw(scene, prompt, spoken))).quantize(palette=shades, dither=Image.Dither.NONE)
        for scene in scenes
    ]
    # GIF and not APNG or WebP: GitHub stops it for readers who want no motion, and it moves everywhere.
    frames[0].save(
        path,
        save_all=True,
        append_images=frames[1:],
        duration=[round(scene.seconds * 1000) for scene in scenes],
        loop=0,
        comment=f"{words(first)} | {words(last)}",
    )


def pixels(figure: Figure) -> np.ndarray:
    """Of shape (height, width, 3)."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
