"""The animation that README.md and the site begin with: greedy decoding, token by token, until it goes in a loop."""

from collections.abc import Iterator

from matplotlib.figure import Figure

from pitfalls.inspector.call import Call
from pitfalls.pictures.animation import as_image, in_one_palette
from tools.pictures import (
    IMAGES,
    Row,
    boxes,
    candidate_bars,
    card,
    go_on,
    sentence_bars,
    sentences,
    text,
    tokens,
    words,
)

PROMPT = "I am a cat."
SIZE = {"width": 4.1, "height": 2.34}
LINES = 4  # of token boxes
HEADLINES = ["Greedy decoding takes the likeliest token …", "… and says the same again …", "… and again, and again …"]
READING = [(0.6, 0.4), (0.2, 0.2), (0, 0.1)]  # seconds for a token: its candidates, then the taken one


def story(call: Call, tokenizer) -> Iterator[tuple[Figure, float]]:
    """Frames with their seconds: the first sentence slowly, the second faster, the others in passing, then all."""
    spoken, cells = sentences(call), tokens(tokenizer, call.prompt_ids, "prompt")
    yield frame(f"“{PROMPT}” What comes next?", cells, candidate_bars(call.steps[0], 5, None, full=1)), 1.6
    for number, sentence in enumerate(spoken):
        headline, (reading, taking) = HEADLINES[min(number, 2)], READING[min(number, 2)]
        for step in sentence:
            if reading and len(cells) > len(call.prompt_ids):  # the first token has had its frame
                yield frame(headline, cells, candidate_bars(step, 5, None, full=1)), reading
            yield frame(headline, cells, candidate_bars(step, 5, full=1)), taking
            cells = cells + tokens(tokenizer, [step.chosen.token_id], "new")
    what, footer = text("probability of the sentence"), text("Why that is, and how to get out of it: lesson 5")
    yield card("Each repetition makes the next one likelier.", what, sentence_bars(spoken), footer, **SIZE), 3.5


def frame(title: str, cells: list, bars: Row) -> Figure:
    """The text so far, and what may come next."""
    what, footer = text("probability of the next token"), text("SmolLM2-135M-Instruct · model.generate(**inputs)")
    return card(title, boxes([*cells, ("?", "", "special")], SIZE["width"], LINES), what, bars, footer, **SIZE)


def save(model, tokenizer) -> None:
    """All frames, with the words of the first and the last."""
    figures, seconds = zip(*story(go_on(model, tokenizer, PROMPT, max_new_tokens=30), tokenizer), strict=True)
    frames = in_one_palette(as_image(figure, dpi=400) for figure in figures)
    # GIF and not APNG or WebP: GitHub stops it for readers who want no motion, and it moves everywhere.
    frames[0].save(
        IMAGES / "hero.gif",
        save_all=True,
        append_images=frames[1:],
        duration=[round(1000 * time) for time in seconds],
        loop=0,
        comment=f"{words(figures[0])} | {words(figures[-1])}",
    )
