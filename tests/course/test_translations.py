"""What is shipped in other languages is whole, fresh, and says what the English says."""

import ast
import json
import re

import pytest

from tools import lessons, readable, translations

LANGUAGES = translations.languages()
FILES = [(locale, name) for locale in LANGUAGES for name in translations.NAMES]
LESSONS = [(locale, path) for locale in LANGUAGES for path in lessons.LESSONS]
in_files = pytest.mark.parametrize(("locale", "name"), FILES, ids=lambda it: it)
in_lessons = pytest.mark.parametrize(("locale", "path"), LESSONS, ids=lambda it: getattr(it, "stem", it))


@pytest.fixture(scope="module")
def templates():
    return translations.templates()


def test_each_message_in_the_code_is_found(templates):
    """Babel sees none inside an f-string."""
    sources = [*(lessons.ROOT / "pitfalls").rglob("*.py"), *translations.OUTSIDE]
    lost = [
        node.args[0].value
        for path in sources
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in translations.KEYWORDS
        and isinstance(node.args[0], ast.Constant)
        and not templates["pitfalls"].get(node.args[0].value)
    ]
    assert not lost


@in_files
def test_nothing_is_missing_or_fuzzy(locale, name, templates):
    catalog = translations.read(locale, name)
    open_ = [message.id for message in templates[name] if message.id and not catalog.get(message.id)]
    open_ += [it.id for it in translations.messages(catalog) if it.fuzzy or translations.missing(it)]
    assert not open_, f"{locale}/{name}.po: run `make translations`, then translate these: {open_[:5]}"


@in_files
def test_code_addresses_placeholders_and_numbers_are_those_of_the_source(locale, name):
    catalog = translations.read(locale, name)
    done = [it for it in translations.messages(catalog) if not translations.missing(it)]
    assert not [fault for message in done for fault in translations.faults(message, catalog.plural_expr)]


@in_lessons
def test_a_lesson_is_built_from_its_sources_and_has_the_outputs_of_its_code(locale, path):
    built = translations.place(locale, path)
    assert not translations.stale(locale, path), "run `make translations`"
    notebook = lessons.read(built)
    assert notebook.metadata["outputs_of_code"] == lessons.fingerprint(notebook), "run `make translations`"


@in_lessons
def test_only_comments_and_what_is_read_differs_in_code(locale, path):
    english, other = (lessons.code_cells(lessons.read(it)) for it in (path, translations.place(locale, path)))
    setting = f'pitfalls.language("{locale}")\n'
    shown = translations.strings_shown(lessons.read(path))
    for cell, translated in zip(english, other, strict=True):
        before, strings = skeleton(cell.source)
        after, others = skeleton(translated.source.replace(setting, ""))
        assert after == before
        pairs = zip(strings, others, strict=True)
        changed = {one for one, two in pairs if translations.bare(one) != translations.bare(two)}
        assert changed <= shown, changed - shown


def skeleton(code: str) -> tuple[str, list[str]]:
    """Code without its comments and with empty strings; and the strings, as they are written."""
    found = sorted(readable._strings(code))
    tree = ast.parse(readable._python(code))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
        if isinstance(node, ast.JoinedStr):
            node.values = [part for part in node.values if isinstance(part, ast.FormattedValue)]
            node.values.sort(key=lambda part: json.dumps(ast.dump(part)))  # words may stand in another order
    return ast.dump(tree), [string.body for string in found]


@pytest.mark.parametrize("locale", LANGUAGES)
def test_the_package_speaks_from_what_is_translated(locale):
    assert translations.catalogue(locale).read_bytes() == translations.compile_package(locale), (
        "run `make translations`"
    )


@pytest.mark.parametrize("locale", LANGUAGES)
def test_the_readme_is_that_of_its_sources(locale):
    made = lessons.ROOT / f"README.{locale}.md"
    assert made.read_text("utf-8") == translations.readme(locale), "run `make translations`"


@in_lessons
def test_a_hint_quotes_what_the_check_says(locale, path, templates):
    """The summary of a folded hint names a message of the exercise, in each language the same one."""
    said = {it.id: it.string for it in translations.messages(translations.read(locale, "pitfalls"))}
    for message in translations.messages(translations.read(locale, path.stem)):
        asked = re.match(r"Hint: if the check says “(.*)”$", str(message.id))
        if asked:
            quoted = re.search(r"[«“](.*)[»”]$", message.string)[1]
            found = [ours for english, ours in said.items() if plain(asked[1]) in plain(str(english))]
            assert any(plain(quoted) in plain(str(ours)) for ours in found), (asked[1], found)


def plain(text: str) -> str:
    """Without what differs between a message and its quotation: code font and places to fill in."""
    return re.sub(r"`|\{[^}]*\}", "", text).lower()
