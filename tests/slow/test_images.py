"""The lessons' pictures and the animation: all there, small, legible on any page, and what the model says now."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pictures.reading import check
from tools import hero, pictures
from tools.lessons import ROOT

PAGES = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("index.md", "lessons.md"))
FILES = sorted((ROOT / "images").iterdir())
LESSON = {"hero": "05_decoding_mode"}


def opened(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes()))  # leaves no file open


def kept_words(name: str) -> str:
    """The words that were left in the file when it was drawn."""
    told = opened(next(path for path in FILES if path.stem == name)).info
    return told["comment"].decode() if "comment" in told else told["Comment"]


def assert_same_words(old: str, new: str) -> None:
    """Apart from the last digit of a percentage, which depends on the processor."""
    percentage = re.compile(r"([\d.]+)%")
    assert percentage.sub("%", old) == percentage.sub("%", new), "run `make images`"
    old, new = ([float(number) for number in percentage.findall(words)] for words in (old, new))
    assert old == pytest.approx(new, abs=0.15), "run `make images`"


def test_there_is_one_picture_per_lesson_and_the_animation():
    assert {path.stem for path in FILES} == {"hero", *pictures.LESSONS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_small_and_sharp_and_its_page_says_what_it_shows(path):
    ((said, link),) = set(re.findall(rf"\[!\[(.*)\]\(images/{path.name}\)\]\((.+)\)", PAGES))
    assert link == f"lessons/{LESSON.get(path.stem, path.stem)}.ipynb"
    assert path.stat().st_size < (1_000_000 if path.stem == "hero" else 60_000)
    assert opened(path).width >= (1600 if path.stem == "hero" else 600), "screens show two pixels for one"
    assert 60 < len(said) < 300
    words = kept_words(path.stem).replace("·", " ").split(" | ")
    texts = "".join(words), "".join(word for word in words if not word.isdigit())  # with token ids, and without
    assert all(any(quoted in text for text in texts) for quoted in re.findall(r"“(.+?)”", said))
    number = re.compile(r"\d+(?:[.,]\d+)*")
    assert number.search(said) and set(number.findall(said)) <= set(number.findall(" ".join(words)))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_a_white_card_with_a_border_for_light_pages_and_dark_ones(path):
    pixels = np.asarray(opened(path).convert("RGBA"))
    assert pixels[..., 3].min() == 255, "the page shines through"
    assert (pixels[12:20, 12:-12] == 255).all(), "paper"
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])[:, :3]
    assert np.ptp(edge, axis=0).max() <= 8 and 120 < edge.mean() < 150


@pytest.mark.parametrize("name", pictures.LESSONS)
def test_a_picture_says_what_the_model_says_now(name, model, tokenizer):
    figure = pictures.LESSONS[name](model, tokenizer)
    assert_same_words(kept_words(name), pictures.words(figure))
    check(figure)


def test_the_readme_says_the_same_of_the_animation():
    (said,) = re.findall(r'images/hero.gif" width="820" alt="(.*)">', (ROOT / "README.md").read_text(encoding="utf-8"))
    assert f"[![{said}](" in PAGES


def test_the_animation_says_what_the_model_says_now(model, tokenizer):
    call = pictures.go_on(model, tokenizer, hero.PROMPT, max_new_tokens=30)
    figures, seconds = zip(*hero.story(call, tokenizer), strict=True)
    assert_same_words(kept_words("hero"), f"{pictures.words(figures[0])} | {pictures.words(figures[-1])}")
    for figure in (figures[0], *figures[1::8], figures[-1]):
        check(figure)
    image = opened(ROOT / "images" / "hero.gif")
    assert image.info["loop"] == 0, "for ever"
    assert image.n_frames == len(figures), "Pillow drops a frame that shows nothing new"
    assert 10 < sum(seconds) < 15 and seconds[-1] == max(seconds)
