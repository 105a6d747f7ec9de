"""What a reader reads of a lesson or a page: each unit of it, found in Markdown and in code, and put back translated.

A unit is a paragraph, a heading, a list item, a table's cell, a summary, a comment, or a string that the code shows.
Names, prompts to the model and all that changes what the code does are none.
"""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator, Set
from functools import partial
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

Translate = Callable[[str], str]  # of one unit; one that returns it as it is can collect them

MARKDOWN = MarkdownIt("commonmark").enable("table")
CODE_SPAN = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)")
ADDRESS = re.compile(r"(?<=\]\()[^)\s]+(?=\))|<https?://[^>]+>")
DIRECTIVE = re.compile(  # lines of MyST, which no one reads
    r"\A---\n.*\n---$|^(?::::.*|\{[.#][^}]*\}|:\w+:.*)$", flags=re.MULTILINE
)
ALT = re.compile(r'(?<= alt=")[^"]+')
CAPTION = re.compile(r"(?<=^:caption: ).+$", flags=re.MULTILINE)
SUMMARY = re.compile(r"(?<=<summary>).*?(?=</summary>)", re.DOTALL)
LANGUAGES = "🌐"  # begins the line that leads to a README in other languages
BUDGET = re.compile(r"^\*\d+ minutes to read.*\*$", flags=re.MULTILINE)  # of a lesson: tools/lessons.py writes it
LITERAL = re.compile(r"""([rbfRBF]{0,2})("{3}|'{3}|"|')((?:\\.|(?!\2).)*)\2""", re.DOTALL)  # one piece of a string
PLACEHOLDER = re.compile(r"\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}")
PRAGMA = re.compile(r"#\s*(noqa|fmt:|type:|@param)")
NO_WORDS = re.compile(r"\b\w*(?:Error|Exception)\b|\\[nt]|\b[MGk]B\b|\bms\b")
IDENTIFIER = re.compile(r"\W*[\w.\-]*[\d_][\w.\-]*\W*|\S+\(.*\)|\S+=\S+|\{\".*")
SHOWN = {"title", "label"}  # what variables of these names hold stands in a picture
UNREAD = {"sep", "end", "form", "order", "marked"}  # arguments of `print` and of pictures that hold no words


class Piece(NamedTuple):
    """text[start:end] holds a unit; `form` writes its translation there."""

    start: int
    end: int
    unit: str
    form: Callable[[str], str] = str

    def moved(self, by: int) -> "Piece":
        return self._replace(start=self.start + by, end=self.end + by)


def _put_back(text: str, pieces: list[Piece], translate: Translate) -> str:
    done, at = [], 0
    for piece in sorted(pieces):
        done += [text[at : piece.start], piece.form(translate(piece.unit))]
        at = piece.end
    return "".join([*done, text[at:]])


def _line_starts(text: str) -> list[int]:
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return starts


def has_words(unit: str) -> bool:
    """Whether anything is left to translate without code, addresses, tags, formulas and numbers."""
    for pattern in (CODE_SPAN, ADDRESS, re.compile(r"<[^>]*>|\$[^$]*\$")):
        unit = pattern.sub("", unit)
    return bool(re.search(r"[^\W\d_]{2,}", unit))


def markdown(text: str, translate: Translate, readable: Set[str] = frozenset()) -> str:
    """A text with each of its units translated; `readable` are the strings that Python code in it shows."""
    return _put_back(text, list(_in_markdown(text, translate, readable)), translate)


def _in_markdown(text: str, translate: Translate, readable: Set[str]) -> Iterator[Piece]:
    starts = _line_starts(text)
    for token, begin, end in _blocks(text):
        if token.type == "html_block":
            yield from (Piece(*found.span(), found[0]) for found in SUMMARY.finditer(text, begin, end))
        elif token.type == "fence" and token.info == "{toctree}":
            yield from (Piece(*found.span(), found[0]) for found in CAPTION.finditer(text, begin, end))
        elif token.type == "fence" and token.info == "python":
            inside = starts[token.map[0] + 1]
            yield from (piece.moved(inside) for piece in _in_code(token.content, translate, readable))
        elif token.type == "inline":
            unit = " ".join(token.content.split("\n"))
            if not has_words(unit):
                yield from (Piece(*found.span(), found[0]) for found in ALT.finditer(text, begin, end))
            elif not BUDGET.fullmatch(unit) and not unit.startswith(LANGUAGES):
                yield Piece(begin, end, unit)


def paragraphs(text: str) -> Iterator[Piece]:
    """Where Markdown makes a paragraph of lines: not in headings, tables and close lists."""
    opened = None
    for token, begin, end in _blocks(text):
        if token.type == "inline" and opened is not None and opened.type == "paragraph_open" and not opened.hidden:
            yield Piece(begin, end, text[begin:end])
        opened = token


def _blocks(text: str) -> Iterator[tuple[Token, int, int]]:
    """The parts of a Markdown text, each with where it begins and ends: what is inline, without the signs before it."""
    starts = _line_starts(text)
    at, row = 0, -1
    for token in MARKDOWN.parse(DIRECTIVE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)):
        if token.map is None:
            continue
        begin, end = starts[token.map[0]], starts[token.map[1]]
        if token.type == "inline" and token.content:
            at, row = (at, row) if token.map[0] == row else (begin, token.map[0])
            lines = token.content.split("\n")
            begin = text.index(lines[0], at)
            end = at = begin + len(lines[0])
            if len(lines) > 1:
                end = at = text.index(lines[-1], starts[token.map[0] + len(lines) - 1]) + len(lines[-1])
        yield token, begin, end


def code(text: str, translate: Translate, readable: Set[str], comments: bool = True) -> str:
    """Code with its comments translated, and of its strings those that are `readable`, wherever they stand.

    Raises `SyntaxError` where a translation, with a quote or a brace of its own, breaks the code.
    """
    translated = _put_back(text, list(_in_code(text, translate, readable, comments)), translate)
    ast.parse(_python(translated))
    return translated


def shown(text: str) -> set[str]:
    """The strings that this code shows to the reader, as they are written between their quotes."""
    return {string.body for string in _strings(text) if string.shown and _says_something(string.body)}


class String(NamedTuple):
    start: int
    end: int
    parts: list[re.Match]  # Python joins what stands side by side
    shown: bool

    @property
    def body(self) -> str:
        return "".join(part[3] for part in self.parts)


def _in_code(text: str, translate: Translate, readable: Set[str], comments: bool = True) -> Iterator[Piece]:
    if comments:
        yield from _comments(text)
    for string in _strings(text):
        inner = partial(_inside, translate=translate, readable=readable)
        write = partial(_write, string, text[string.start : string.end])
        if string.body in readable:
            yield Piece(string.start, string.end, string.body, lambda said, w=write, i=inner: w(i(said)))
        elif inner(string.body) != string.body:
            yield Piece(string.start, string.end, "", lambda _, w=write, i=inner, b=string.body: w(i(b)))


def _comments(text: str) -> Iterator[Piece]:
    starts = _line_starts(text)
    for token in tokenize.generate_tokens(io.StringIO(_python(text)).readline):
        if token.type != tokenize.COMMENT or PRAGMA.match(token.string):
            continue
        begin, end = (starts[line - 1] + column for line, column in (token.start, token.end))
        begin += len(re.match(r"#\s*(@(title|markdown)\s+)?", token.string)[0])
        if has_words(text[begin:end]):
            yield Piece(begin, end, text[begin:end])


def _strings(text: str) -> Iterator[String]:
    tree = ast.parse(_python(text))
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    lines, starts = text.splitlines(keepends=True), _line_starts(text)

    def place(line: int, column: int) -> int:  # ast counts bytes
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    for node in ast.walk(tree):
        whole = isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
        if whole and not any(isinstance(above, ast.JoinedStr) for above in _above(node, parents)):
            begin, end = place(node.lineno, node.col_offset), place(node.end_lineno, node.end_col_offset)
            yield String(begin, end, list(LITERAL.finditer(text, begin, end)), _is_shown(node, parents))


def _python(text: str) -> str:
    """A cell without IPython's own commands, each letter in its place."""
    return re.sub(r"^(\s*)[%!].*$", lambda line: f"{line[1]}pass".ljust(len(line[0])), text, flags=re.MULTILINE)


def _above(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> Iterator[ast.AST]:
    while node in parents:
        node = parents[node]
        yield node


def _is_shown(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether a string is printed, raised, or stands in a picture."""
    below = node
    for above in _above(node, parents):
        if isinstance(above, ast.Call) and not (isinstance(above.func, ast.Attribute) and below is above.func):
            name = ast.unparse(above.func)
            return name == "print" or name.endswith("Error") or "pictures." in name
        if isinstance(above, ast.keyword) and above.arg in UNREAD:
            return False
        if isinstance(above, ast.Assign | ast.AugAssign):
            target = above.targets[0] if isinstance(above, ast.Assign) else above.target
            return isinstance(target, ast.Name) and target.id in SHOWN
        if isinstance(above, ast.Subscript | ast.Compare) and below is not above:
            return False
        below = above
    return False


def _says_something(body: str) -> bool:
    rest = NO_WORDS.sub("", PLACEHOLDER.sub("", body))
    return bool(re.search(r"[^\W\d_]{2,}", rest)) and not IDENTIFIER.fullmatch(rest)


def _inside(body: str, translate: Translate, readable: Set[str]) -> str:
    """A string with those that its placeholders name, as in "{share['left pads']:.0%}", translated as well."""

    def name(found: re.Match) -> str:
        return f"{found[1]}{translate(found[2])}{found[1]}" if found[2] in readable else found[0]

    return PLACEHOLDER.sub(lambda placeholder: re.sub(r"""(["'])(.*?)\1""", name, placeholder[0]), body)


def _write(string: String, source: str, body: str) -> str:
    """A string as the old one was written: prefix, quotes, and on several lines where it stood on several."""
    if body == string.body:
        return source
    first = string.parts[0]
    prefix, quote = max((part[1] for part in string.parts), key=len), first[2]
    if len(quote) == 1 and "r" not in prefix.lower():
        body = re.sub(rf"(?<!\\){quote}", rf"\\{quote}", body)
    between = source[first.end() - string.start : string.parts[1].start() - string.start] if string.parts[1:] else ""
    pieces = _lines(body) if "\n" in between else [body]
    return between.join(f"{prefix}{quote}{piece}{quote}" for piece in pieces)


def _lines(body: str, width: int = 70) -> list[str]:
    """A long string in pieces, cut at spaces; a placeholder stays whole."""
    lines = [""]
    for word in re.findall(rf"(?:{PLACEHOLDER.pattern}|[^\s{{}}]|[{{}}])+\s*|\s+", body):
        lines[-1:] = [lines[-1] + word] if len(lines[-1] + word) <= width else [lines[-1], word]
    return [line for line in lines if line]
