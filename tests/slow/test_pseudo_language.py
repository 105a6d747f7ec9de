"""A new language is a folder and no code: one that no one speaks, in which each text is marked and longer.

What comes out unmarked could not be translated.
"""

import re
import warnings

import nbformat
import pytest
from babel.messages.pofile import write_po
from nbmake.nb_run import NotebookRun

from tests.slow.browser.conftest import ask_for_a_browser
from tools import lessons, readable, site, translations
from tools.lab import chromium

LOCALE, START, END = "en-XA", "⟦", "⟧"
LESSONS = ["07_prompt_template"]  # short, with a widget, exercises and findings
PAGES = ["index", "lessons", "lessons/04_length", "lessons/instructors", "package", "rules/index", "setup"]
# In pages: what is told in English only, and why.
ENGLISH = "pre, code, script, style, svg, dl.py, .cell_input, .cell_output, .languages, a.external"


def marked(text: str) -> str:
    return f"{START}{text} ~~~~~{END}"


@pytest.fixture(scope="module")
def pseudo(tmp_path_factory):
    """The language, as translators and `make translations` would make it."""
    folder = tmp_path_factory.mktemp("pseudo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(translations, "FOLDER", folder / "translations")
        patch.setattr(translations, "CATALOGUES", folder / "locale")
        patch.setenv("PITFALLS_LOCALE", str(folder / "locale"))
        (folder / "translations" / LOCALE).mkdir(parents=True)
        for name, catalog in translations.update(LOCALE).items():
            for message in translations.messages(catalog):
                forms = message.id if isinstance(message.id, tuple) else (message.id,)
                message.string = tuple(map(marked, forms)) if isinstance(message.id, tuple) else marked(message.id)
            with (translations.FOLDER / LOCALE / f"{name}.po").open("wb") as file:
                write_po(file, catalog, width=0)
        made = translations.catalogue(LOCALE)
        made.parent.mkdir(parents=True)
        made.write_bytes(translations.compile_package(LOCALE))
        yield folder


@pytest.mark.parametrize("path", lessons.LESSONS, ids=lambda path: path.stem)
def test_each_unit_of_a_lesson_is_marked(path, pseudo):
    notebook = translations.lesson(LOCALE, path)
    units: list[str] = []
    for cell in notebook.cells:
        look = readable.markdown if cell.cell_type == "markdown" else readable.code
        look(cell.source, lambda unit: units.append(unit) or unit, translations.strings_shown(notebook))
    assert len(units) > 80 and all(START in unit for unit in filter(None, units))


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_runs_keeps_its_claims_and_shows_nothing_unmarked(name, pseudo, tmp_path, monkeypatch):
    monkeypatch.setenv("PITFALLS_SAVING", "1")
    path = next(path for path in lessons.LESSONS if path.stem == name)
    nbformat.write(translations.lesson(LOCALE, path), tmp_path / path.name)
    result = NotebookRun(tmp_path / path.name, default_timeout=300).execute()
    assert result.error is None, result.error.trace
    for cell in lessons.code_cells(result.nb):
        for output in cell.outputs:
            told = [meta["alt"] for meta in output.get("metadata", {}).values() if "alt" in meta]
            page = output.get("data", {}).get("text/html", "")
            told += re.findall(r"<(?:p|summary|b|small)>([^<]+)<", page)
            for text in filter(readable.has_words, told):
                assert START in text or is_a_value(text), (cell.source, text)


def is_a_value(text: str) -> bool:
    """Text of the model, a name or a number: what has one form in all languages."""
    return bool(re.fullmatch(r"[\w.·'\"\-]+", text.strip()))


@pytest.fixture(scope="module")
def pages(pseudo, tmp_path_factory):
    """The site with this language; its lessons are not run."""
    made = tmp_path_factory.mktemp("notebooks")
    for path in lessons.LESSONS:
        notebook = translations.lesson(LOCALE, path)
        for cell, saved in zip(lessons.code_cells(notebook), lessons.code_cells(lessons.read(path)), strict=True):
            cell.outputs = saved.outputs
        nbformat.write(notebook, made / path.name)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what Sphinx's extensions use of Sphinx
        patch.setattr(site, "lessons_in", lambda locale: sorted(made.iterdir()))
        patch.setattr(site, "DOCS", pseudo / "docs")
        patch.setattr(site, "SITE", pseudo / "site")
        assert site.build_in(LOCALE) == 0
    return pseudo / "site" / LOCALE


@pytest.mark.parametrize("name", PAGES)
def test_nothing_on_a_page_is_unmarked_or_cut_off(name, pages):
    ask_for_a_browser()
    with chromium() as browser:
        page = browser.new_page()
        page.goto((pages / f"{name}.html").as_uri())
        page.evaluate(f"document.querySelectorAll('{ENGLISH}').forEach(element => element.remove())")
        texts = page.evaluate(TEXTS)
        assert len(texts) > 10
        assert not [text for text in texts if readable.has_words(text) and START not in text]
        for width in (1280, 400):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, f"at {width} pixels"


# The text of each block of a page.
TEXTS = """[...document.querySelectorAll('h1, h2, h3, p, li, td, th, button, label, .title, .toc-title, .caption-text')]
    .filter(block => !block.querySelector('p, li, td')).map(block => block.textContent.trim())"""
