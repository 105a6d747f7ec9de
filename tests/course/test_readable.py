"""What of Markdown and code is read, how it comes back translated, and what a translation may not do."""

import ast
import importlib
import warnings

import pytest
from babel import Locale
from babel.messages import Message

import pitfalls
from pitfalls.language import FROM_RIGHT_TO_LEFT
from tools import lessons, readable, translations

LANGUAGE = importlib.import_module("pitfalls.language")  # the package gives its function by this name


def units(look, text: str, *more) -> list[str]:
    found: list[str] = []
    assert look(text, lambda unit: found.append(unit) or unit, *more) == text
    return [unit for unit in found if unit]


MARKDOWN = """# A title

Two lines
of one paragraph, with `code` and [a link](https://a.b/c).

- a point
- `code_alone`

| head | 1.5 |
|---|---|
| a cell | `x` |

<details><summary>A hint</summary>

folded

```python
x = 1  # a comment
```

</details>
"""


def test_the_units_of_markdown():
    assert units(readable.markdown, MARKDOWN.replace("Two lines\n", "Two lines ")) == [
        *("A title", "Two lines of one paragraph, with `code` and [a link](https://a.b/c).", "a point"),
        *("head", "a cell", "A hint", "folded", "a comment"),
    ]
    translated = readable.markdown(MARKDOWN, str.upper)
    assert "# A TITLE\n" in translated and "\n- A POINT\n- `code_alone`" in translated and "# A COMMENT" in translated


CODE = """
%pip install x
prompt = "A list of colors"  # what the model reads
title = f"{n} tokens, " f"{share['left pads']:.0%} of all"
print("new tokens:", n, tokenizer.decode("Once upon"), sep="and so")
bars({"left pads": 1}, title)
chat = [{"role": "user"}]
"""


def test_what_of_code_is_read():
    assert readable.shown(CODE) == {"{n} tokens, {share['left pads']:.0%} of all", "new tokens:"}
    strings = readable.shown(CODE) | {"left pads"}
    translated = readable.code(CODE, lambda unit: f"<{unit}>", strings)
    assert '"A list of colors"  # <what the model reads>' in translated and '"Once upon"' in translated
    assert "<{n} tokens, {share['<left pads>']:.0%} of all>" in translated
    assert '{"<left pads>": 1}' in translated and 'sep="and so"' in translated and "%pip install x" in translated


def test_a_translation_that_breaks_the_code_is_refused():
    with pytest.raises(SyntaxError):
        readable.code('print(f"all {n} rows")', lambda unit: "{n rows", {"all {n} rows"})
    assert ast.parse(readable.code('print("all rows")', lambda unit: 'the "rows"', {"all rows"}))


@pytest.mark.parametrize("path", lessons.LESSONS, ids=lambda path: path.stem)
def test_what_is_shown_stands_nowhere_as_something_else(path):
    """A string is translated wherever it stands, so it must not also be a prompt or a name."""
    notebook = lessons.read(path)
    strings = [string for cell in lessons.code_cells(notebook) for string in readable._strings(cell.source)]
    known = set(notebook.metadata.get("readable", []))
    both = {it.body for it in strings if it.shown and readable._says_something(it.body)} - known
    assert not both & {it.body for it in strings if not it.shown}


FAULTS = {
    ("`x` is 3", "`y` ist 3"): "code",
    ("[a](b.md) has {n}", "[a](c.md) hat {n}"): "address",
    ("{n} of {all:.0%}", "{n} von {all}"): "placeholder",
    ("3 rows", "drei Zeilen"): "number",
    ("a <b>row</b>", "eine Zeile"): "tag",
    ("{n} rows", "{n} Zeilen }"): "brace",
    ("a row", "eine\nZeile"): "line break",
    ("5 rows", "\u0665 rows"): "sign",
}


@pytest.mark.parametrize(("source", "said"), FAULTS)
def test_what_a_translation_lost_is_named(source, said):
    assert FAULTS[source, said] in " ".join(translations.faults(Message(source, said)))


def test_only_a_form_for_one_number_may_leave_it_out():
    arabic = "(n==0 ? 0 : n==1 ? 1 : n==2 ? 2 : n%100>=3 && n%100<=10 ? 3 : n%100>=11 ? 4 : 5)"
    rows = Message(("{n} row", "{n} rows"), ("none", "one", "two", "{n} few", "{n} many", "{n} other"))
    assert translations.faults(rows, arabic) == []
    rows.string = (*rows.string[:3], "few", *rows.string[4:])
    assert "placeholder" in translations.faults(rows, arabic)[0]
    assert translations.faults(Message(("{n} row", "{n} rows"), ("une ligne", "des lignes")), "(n > 1)")


@pytest.mark.parametrize(("locale", "name"), {"ar": "العربية", "pt-BR": "português (Brasil)", "en-XA": "en-XA"}.items())
def test_a_language_is_called_by_its_own_name(locale, name):
    assert translations.own_name(locale) == name


def test_directions_are_those_that_babel_knows():
    known = {code.split("_")[0] for code in Locale("en").languages}
    for code in FROM_RIGHT_TO_LEFT & known - {"arc", "nqo", "syr"}:  # of which Babel has no data
        assert Locale.parse(code).text_direction == "rtl"


def test_the_readme_leads_to_each_language():
    assert translations.readme("en") == (lessons.ROOT / "README.md").read_text("utf-8"), "run `make translations`"


def test_an_unknown_language_is_said_and_is_english(monkeypatch):
    monkeypatch.setattr(LANGUAGE, "_chosen", None)
    monkeypatch.setenv("PITFALLS_LANGUAGE", "xx")
    with pytest.warns(UserWarning, match="'xx' is none of en"):
        assert pitfalls.language() == "en"
    monkeypatch.setattr(LANGUAGE, "_chosen", None)
    monkeypatch.setenv("PITFALLS_LANGUAGE", "")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pitfalls.language() == "en"
    with pytest.raises(ValueError, match="speaks en"):
        pitfalls.language("xx")
