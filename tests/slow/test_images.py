"""The pictures of README.md: all there, small, legible on any page, and what the model says now."""

import re
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops

from tests.pictures.test_pictures import check, is_style
from tools import cards, draw, hero
from tools.lessons import LESSONS, ROOT

README = (ROOT / "README.md").read_text()
FILES = sorted((ROOT / "images").iterdir())
LIGHT, DARK = (255, 255, 255), (13, 17, 23)  # pages of GitHub
NAMES = [path.name for path in FILES]


@pytest.fixture(scope="module")
def drawn(model, tokenizer) -> dict:
    """The pictures of the lessons as the model gives them now; the first by its formula, without loading anything."""
    weights = model.num_parameters()
    packed = sum(layer.weight.numel() for layer in model.model.modules() if isinstance(layer, torch.nn.Linear))
    sizes = {"32 bits": 4 * weights, "16 bits": 2 * weights, "4 bits": packed / 2 + 4 * (weights - packed)}
    others = {name: picture for name, picture in draw.LESSONS.items() if picture is not draw.loading}
    return {"01_loading": draw.memory(sizes)} | {name: picture(model, tokenizer) for name, picture in others.items()}


@pytest.fixture(scope="module")
def story(model, tokenizer) -> list:
    """The scenes of the animation that stand still, with their figures."""
    call = draw.go_on(model, tokenizer, hero.PROMPT, max_new_tokens=30)
    spoken, prompt = hero.sentences(call), cards.plain(tokenizer, call.prompt_ids, "prompt")
    still = [scene for scene in hero.story(spoken) if scene.seconds > 0.05]
    return [(scene, hero.draw(scene, prompt, spoken)) for scene in [*still[:2], *still[2::7], still[-1]]]


@pytest.fixture(scope="module")
def probabilities(model, tokenizer):
    """Of the tokens after a text: a tensor of shape (tokens of the text, vocabulary)."""

    @torch.no_grad()
    def read(text: str) -> torch.Tensor:
        return model(tokenizer(text, return_tensors="pt").input_ids).logits[0].softmax(dim=-1)

    return read


def kept_words(path) -> str:
    """The words that `draw.py` left in the file."""
    comment = Image.open(path).info.get("comment") or Image.open(path).text["Comment"]
    return comment.decode() if isinstance(comment, bytes) else comment


def numbers(text: str) -> list[str]:
    return re.findall(r"\d+(?:[.,]\d+)*", text)


def percentages(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"([\d.]+)%", text)]


def used(name: str) -> tuple[int, str, str]:
    """Width, alternative text and link of a picture in the README."""
    (found,) = re.findall(rf'\[<img src="images/{name}" width="(\d+)" alt="([^"]*)">\]\(([^)]+)\)', README)
    return int(found[0]), *found[1:]


def contrast(one, other) -> float:
    """Between two colours, as WCAG 2 defines it: from 1 to 21."""

    def light(colour) -> float:
        parts = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in np.divide(colour, 255)
        ]
        return float(np.dot(parts, [0.2126, 0.7152, 0.0722]))

    darker, lighter = sorted([light(one), light(other)])
    return (lighter + 0.05) / (darker + 0.05)


# --- the files -----------------------------------------------------------------------------------------------------


def test_there_is_one_picture_per_lesson_and_the_animation():
    assert set(NAMES) == {"hero.gif", "bench.png", *(f"{path.stem}.png" for path in LESSONS)}
    assert list(draw.LESSONS) == [path.stem for path in LESSONS]


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_picture_is_small_and_sharp(path):
    assert path.stat().st_size < {"hero.gif": 1_000_000, "bench.png": 200_000}.get(path.name, 60_000)
    assert Image.open(path).width >= 2 * used(path.name)[0], "screens show two pixels for one"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_the_readme_shows_it_says_what_it_shows_and_links_it_to_its_lesson(path):
    _, alternative, link = used(path.name)
    lesson = f"notebooks/{'05_decoding_mode' if path.stem == 'hero' else path.stem}.ipynb"
    assert link == ("tools/bench.json" if path.stem == "bench" else lesson)
    assert 60 < len(alternative) < 300 and alternative.endswith((".", "”"))
    assert numbers(alternative) and set(numbers(alternative)) <= set(numbers(kept_words(path)))


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_it_can_be_read_on_a_light_and_on_a_dark_page(path):
    pixels = np.asarray(Image.open(path).convert("RGBA"))
    assert pixels[..., 3].min() == 255, "the page shines through"
    colours = Counter(map(tuple, pixels[::3, ::3, :3].reshape(-1, 3).tolist()))
    card = colours.most_common(1)[0][0]
    ink = min(colours, key=sum)
    assert contrast(ink, card) > 7
    edges = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    (edge,) = {tuple(pixel) for side in edges for pixel in side[:, :3].tolist()}
    assert min(contrast(edge, page) for page in (LIGHT, DARK)) > 3


def test_the_animation_moves_for_ten_seconds_and_rests_at_its_end():
    image = Image.open(ROOT / "images" / "hero.gif")
    assert image.info["loop"] == 0, "for ever"
    times, before = [], None
    for place in range(image.n_frames):
        image.seek(place)
        times.append(image.info["duration"] / 1000)
        frame = image.convert("RGB")
        assert before is None or ImageChops.difference(frame, before).getbbox(), f"frame {place} shows nothing new"
        before = frame
    assert len(times) > 50 and 10 < sum(times) < 15
    assert max(times) == times[-1] >= 3 and times[0] >= 1


# --- what is in them -----------------------------------------------------------------------------------------------


def same_words(old: str, new: str) -> bool:
    """Apart from the last digit of a percentage, which depends on the processor."""
    return re.sub(r"[\d.]+%", "%", old) == re.sub(r"[\d.]+%", "%", new) and percentages(old) == pytest.approx(
        percentages(new), abs=0.15
    )


@pytest.mark.parametrize("name", draw.LESSONS)
def test_the_file_says_what_the_model_says_now(drawn, name):
    assert same_words(kept_words(ROOT / "images" / f"{name}.png"), cards.words(drawn[name])), "run `make images`"


def test_the_picture_of_the_benchmark_says_what_is_in_its_results():
    figure = draw.bench()
    assert kept_words(ROOT / "images" / "bench.png") == cards.words(figure), "run `make bench`"
    check(figure)


def test_the_animation_says_what_the_model_says_now(story):
    first, last = (cards.words(figure) for _, figure in (story[0], story[-1]))
    assert same_words(kept_words(ROOT / "images" / "hero.gif"), f"{first} | {last}"), "run `make images`"


@pytest.mark.parametrize("name", draw.LESSONS)
def test_a_picture_is_complete_and_nothing_lies_over_another(drawn, name):
    check(drawn[name])


def test_the_animation_is_complete_and_nothing_lies_over_another(story):
    for _, figure in story:
        check(figure)


def test_tokenizing_shows_the_ids(drawn, tokenizer):
    long, short = (tokenizer(text).input_ids for text in ("A list of colors: red, blue", "Portugal is"))
    shown = [text.get_text() for axis in drawn["02_tokenizing"].axes for text in axis.texts[1::2]]
    assert shown == [str(token_id) for token_id in long + short]
    assert f"{len(long)} tokens ≠ {len(short)} tokens" in cards.words(drawn["02_tokenizing"])


def test_generating_shows_the_likeliest_next_tokens(drawn, tokenizer, probabilities):
    given = probabilities("A list of colors: red, blue,")[-1]
    best = given.topk(3)
    words = cards.words(drawn["03_generating"])
    assert percentages(words) == pytest.approx((100 * best.values).tolist(), abs=0.15)
    assert " | ".join(tokenizer.decode([token_id]).replace(" ", "·") for token_id in best.indices) in words
    assert f"{len(given):,} scores" in words


def test_length_shows_the_cut_after_the_default_of_20(drawn, tokenizer, probabilities):
    (axis,) = drawn["04_length"].axes
    texts = [text.get_text() for text in axis.texts if text.get_text()]
    start = len(tokenizer("A sequence of numbers: 1, 2").input_ids)
    assert texts.index("✂") == start + 20 and sum(is_style(patch, "new") for patch in axis.patches) == 20
    text = "".join(texts).replace("✂", "").replace("·", " ")
    assert text.startswith("A sequence of numbers: 1, 2, 3, 4, 5, 6, 7, 8, 9")
    likeliest = probabilities(text)[start - 1 : -1].argmax(dim=-1).tolist()
    assert tokenizer(text).input_ids[start:] == likeliest, "greedy decoding, seen in one pass"


@pytest.mark.parametrize("place", ["the lesson", "the animation"])
def test_the_sentences_of_the_loop_have_the_products_of_their_tokens(drawn, story, tokenizer, probabilities, place):
    """One forward pass over the whole text gives them too."""
    prompt, sentence, times = "I am a cat.", " She is a cat.", 6
    start, length = (len(tokenizer(text).input_ids) for text in (prompt, sentence))
    ids = torch.tensor(tokenizer(prompt + sentence * times).input_ids[start:])
    taken = probabilities(prompt + sentence * times)[start - 1 : -1].gather(1, ids[:, None])
    expected = taken.reshape(times, length).prod(dim=1)
    words = cards.words(drawn["05_decoding_mode"] if place == "the lesson" else story[-1][1])
    assert percentages(words) == pytest.approx((100 * expected).tolist(), abs=0.15)
    assert percentages(words) == sorted(percentages(words)), "each repetition is likelier than the last"
    assert words.replace(" | ", "").replace("·", " ").count(sentence.strip()) == times


def test_the_animation_shows_the_likeliest_tokens_of_each_step(story, probabilities):
    text = "I am a cat." + " She is a cat." * 6
    steps = probabilities(text)[4:]
    for scene, figure in story[:-1]:
        best = steps[5 * scene.sentence + scene.token].topk(6).values
        assert percentages(cards.words(figure)) == pytest.approx((100 * best).tolist(), abs=0.15)


def test_padding_side_shows_how_a_row_derails(drawn, model, tokenizer):
    batch = tokenizer(["1, 2, 3", "A, B, C, D, E"], padding=True, padding_side="right", return_tensors="pt")
    new_ids = model.generate(**batch, max_new_tokens=8)[:, batch["input_ids"].shape[1] :]
    derailed, fine = (text.replace(" ", "·").replace("\n", "⏎") for text in tokenizer.batch_decode(new_ids))
    figure = drawn["06_padding_side"]
    lines = ["".join(text.get_text() for text in axis.texts) for axis in figure.axes]
    assert lines[0] == "1,·2,·3" + "pad" * int((batch["attention_mask"][0] == 0).sum())
    assert lines[2] == "A,·B,·C,·D,·E"
    assert derailed.startswith(lines[1]) and "answer" in lines[1]
    assert fine.startswith(lines[3]) and "F,·G,·H" in lines[3]
    assert [text.get_text() for text in figure.texts if text.get_text() in "✓✗"] == ["✗", "✓"]


def test_prompt_template_shows_the_chance_of_an_end_at_once(drawn, tokenizer, probabilities):
    question = "What is the capital of France?"
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    raw, templated = (probabilities(text)[-1, tokenizer.eos_token_id].item() for text in (question, chat))
    words = cards.words(drawn["07_prompt_template"])
    assert percentages(words) == pytest.approx([100 * raw, 0.001], abs=0.15) and templated < 1e-5
    assert "The | ·capital | ·of | ·France | ·is | ·Paris | ." in words


def test_your_own_code_counts_the_table_of_the_readme(drawn):
    """`tests/test_catalogue.py` holds the table to what transformers says."""
    rules = "\n".join(re.findall(r"^\| \d\d \| .*", README, flags=re.MULTILINE))
    said = [rules.count(text) for text in ("| nothing |", "| warning | ", "| raises `")]
    words = cards.words(drawn["08_your_own_code"])
    mistakes, *legend = drawn["08_your_own_code"].axes
    boxes = [sum(is_style(patch, style) for patch in mistakes.patches) for style in ("end", "user", "special")]
    assert boxes == said and len(legend) == 3
    assert f"Silent on {said[0]} of {sum(said)} mistakes" in words
    assert "nothing {} | warning {} | raises {}".format(*said) in words
