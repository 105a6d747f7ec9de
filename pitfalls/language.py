"""The language in which the package speaks: English, or one that it has a catalogue for.

Messages stand in the code in English, whole, with named placeholders, and are looked up where they are said:

    _("{left} tokens are left to answer.", left=5)
    ngettext("{n} row is cut off.", "{n} rows are cut off.", 3)
    LEGEND = {"end": N_("end token")}         # marked for translation here …
    _(LEGEND["end"])                          # … and looked up here
    CUT = nN_("{n} row", "{n} rows")          # the same where the words depend on a number
    counted(CUT, 3)

`tools/translations.py` collects them; `translations/` holds what translators make of them.

Each of these gives a `Message`, which knows its source: what was said in English, without the values in it.
"""

import gettext as catalogues
import os
import re
import string
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, SupportsIndex

SOURCE = "en"
FROM_RIGHT_TO_LEFT = {"ar", "arc", "ckb", "dv", "fa", "he", "ks", "nqo", "ps", "sd", "syr", "ug", "ur", "yi"}
# Signs that none sees: from here to END a text is read from the left, from the right, or as its first letter says.
FROM_LEFT, FROM_RIGHT, ISOLATE, END = "\u2066", "\u2067", "\u2068", "\u2069"
_SIGNS = r"(?:[!-'*-~]|\u2068[!-~]*\u2069)"
_WORD = rf"(?:[<>+~−-](?=\w)|\w)(?:{_SIGNS}*(?:[\w%]|\u2068[!-~]*\u2069))?(?:\(\))?"  # top_k=3, 4-bit, <1%, -inf, end()
CODE = re.compile(  # in a text from right to left
    r"\u2068[^\u2068\u2069]*\u2069"  # a value, which is isolated as it is
    r"|`[^`]+`"
    r"|\\n"
    r"|'[ ·]?[!-&(-~·⏎]+(?: [!-&(-~·⏎]+)*'|“[ -~·⏎]+”|·\w+"  # ' blue', “1, 2, 3”, ·Tokyo
    r"|\('?\w+'?(?:, '?\w+'?)+\)"  # ('bf16', 'vLLM')
    r"|[A-Za-z_][\w.]*"  # logits[0, -1], model(ids), padding_side='left'
    r"(?:\((?:[^()\n\u0600-\u06ff]|\([^()\n\u0600-\u06ff]*\))*\)|\[[^]\n\u0600-\u06ff]*]|=\"[^\"]*\"|='[^']*'|\.\w+)+"
    rf"|{_WORD}(?:[,:]? {_WORD})*",  # 16 GB; IndexError: index out of range
    flags=re.ASCII,
)

_chosen: str | None = None  # None: nobody has chosen yet


class Message(str):
    """What the package says. `source` is the same in English, and of its values holds only those that are messages.

    So it never holds what a reader wrote, and may be told to others. A sum keeps the sources of its parts, and of plain
    text between them only white space; a slice keeps the whole source.
    """

    source: str

    def __new__(cls, text: str, source: str) -> "Message":
        made = super().__new__(cls, text)
        made.source = source
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return Message, (str(self), self.source)

    def __getitem__(self, part: SupportsIndex | slice) -> "Message":
        return Message(super().__getitem__(part), self.source)

    def __add__(self, other: str) -> "Message":
        return Message(super().__add__(other), self.source + _source_of(other))

    def __radd__(self, other: str) -> "Message":
        return Message(other + str(self), _source_of(other) + self.source)


class _Values(string.Formatter):
    """Fills placeholders in; in a text from right to left, code and numbers among them keep their own order."""

    def format_field(self, value: object, format_spec: str) -> str:
        return isolated(super().format_field(value, format_spec))


def language(code: str | None = None) -> str:
    """Let the package speak this language from here on, such as "ar"; without a code, tell which one it speaks.

    $PITFALLS_LANGUAGE chooses one too. Raises `ValueError` for a language that it has no catalogue for.
    """
    global _chosen
    if code is not None:
        if code not in languages():
            raise ValueError(f"There is no translation into {code!r}; the package speaks {', '.join(languages())}.")
        _chosen = code
    if _chosen is None:
        asked = os.environ.get("PITFALLS_LANGUAGE") or SOURCE
        _chosen = asked if asked in languages() else SOURCE
        if asked != _chosen:
            known = ", ".join(languages())
            warnings.warn(f"PITFALLS_LANGUAGE={asked!r} is none of {known}: English it is.", stacklevel=2)
    return _chosen


def languages() -> list[str]:
    """Those that the package speaks: English, and each with a catalogue."""
    return [SOURCE, *sorted(path.parts[-3] for path in _folder().glob("*/LC_MESSAGES/pitfalls.mo"))]


def right_to_left(code: str | None = None) -> bool:
    """Whether a language, such as "ar", is written that way; without a code, the chosen one."""
    return re.split("[-_]", code or language())[0] in FROM_RIGHT_TO_LEFT


def folder(code: str | None = None) -> str:
    """Where the pages of a language stand on the site; without a code, those of the chosen one. English is the root."""
    code = code or language()
    return "" if code == SOURCE else f"{code}/"


def html_language() -> str:
    """The attributes of an HTML element that holds text of the package, with a space before them; none for English."""
    if language() == SOURCE:
        return ""
    return f' lang="{language()}"' + (' dir="rtl"' if right_to_left() else "")


def html_code() -> str:
    """The attribute of an HTML element that holds code among such text, with a space before it, where it needs one."""
    return ' dir="ltr"' if right_to_left() else ""


def isolated(text: str) -> str:
    """A value, or code: inside a text from right to left it keeps its own order."""
    return f"{ISOLATE}{text}{END}" if text and right_to_left() else text


def ordered(text: str) -> str:
    """A text in which whatever looks like code keeps its own order."""
    if not right_to_left():
        return text
    return CODE.sub(_ordered, text)


def _ordered(found: re.Match[str]) -> str:
    alone = found[0][0] == ISOLATE or len(found[0]) == 1
    return found[0] if alone else f"{FROM_LEFT}{found[0]}{END}"


def directed(text: str) -> str:
    """Lines of prose for a terminal: where the language runs from right to left, each says so. Code stays as it is.

    What a line begins it ends, too: of a value that goes on in the next line, each part keeps its own order.
    """
    if not right_to_left():
        return text
    lines, inside = [], 0
    for line in text.split("\n"):
        before, inside = inside, max(0, inside + unclosed(line))
        told = line.lstrip(" ")
        lines.append(f"{FROM_RIGHT}{' ' * (len(line) - len(told))}{ISOLATE * before}{told}{END * inside}{END}")
    return "\n".join(lines)


def _(message: str, /, **values: object) -> str:
    """The message in the chosen language, with its placeholders filled in."""
    told = _catalogue(language()).gettext(message) if message else ""
    if not values:
        return Message(ordered(told), message)
    return Message(ordered(_Values().vformat(told, (), values)), _source(message, values))


def ngettext(one: str, many: str, n: int, /, **values: object) -> str:
    """As `_`, where the words depend on a number, the placeholder {n}; many languages have more than two forms.

    The source is the same for all numbers.
    """
    told = _catalogue(language()).ngettext(one, many, n)
    return Message(ordered(_Values().vformat(told, (), {"n": n, **values})), _source(many, values))


def N_(message: str) -> str:
    """Marks a message that `_` looks up later: one in a constant, which is made before a language is chosen."""
    return message


def nN_(one: str, many: str) -> tuple[str, str]:
    """Marks a message that `counted` looks up later, as `N_` does for `_`."""
    return one, many


def counted(forms: tuple[str, str], n: int, /, **values: object) -> str:
    """As `ngettext`, of a message that `nN_` has marked."""
    return ngettext(*forms, n, **values)


def _source(message: str, values: Mapping[str, object]) -> str:
    """The message as it is looked up; where values are messages themselves, with these, and any other closed."""
    if not any(isinstance(value, Message) for value in values.values()):
        return message
    parts = []
    for text, name, _spec, conversion in string.Formatter().parse(message):
        value = values.get(name) if name and not conversion else None
        parts += [text, "" if name is None else value.source if isinstance(value, Message) else "…"]
    return "".join(parts)


def _source_of(text: str) -> str:
    return text.source if isinstance(text, Message) else text if text.isspace() else ""


def _folder() -> Path:
    return Path(os.environ.get("PITFALLS_LOCALE") or Path(__file__).with_name("locale"))


def unclosed(line: str) -> int:
    """How many more signs begin something in this line than end it."""
    return sum(map(line.count, (FROM_LEFT, FROM_RIGHT, ISOLATE))) - line.count(END)


@cache
def _catalogue(code: str) -> catalogues.NullTranslations:
    file = _folder() / code / "LC_MESSAGES" / "pitfalls.mo"
    if not file.exists():
        return catalogues.NullTranslations()
    with file.open("rb") as opened:
        return catalogues.GNUTranslations(opened)
