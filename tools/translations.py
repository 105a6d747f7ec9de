"""The course in other languages: `make translations` brings all of them up to date.

English is the only source. `translations/ar/` holds what translators write, as PO files: one for each lesson, one for
the package, one for the pages. From them come the catalogue from which the package speaks, `README.ar.md`, and
`notebooks/ar/`, whose lessons are run and saved as the English ones are. What is missing or fuzzy stays English.

A new language is a new folder: `mkdir translations/fr; make translations`, then translate what stands there.
"""

import ast
import copy
import hashlib
import io
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from gettext import c2py
from pathlib import Path

import nbformat
from babel import Locale, UnknownLocaleError
from babel.messages import Catalog, Message
from babel.messages.extract import extract_from_dir, extract_from_file
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from nbclient.exceptions import CellExecutionError

from pitfalls import SITE
from pitfalls.language import END, FROM_LEFT, SOURCE, folder, language, right_to_left
from tools import lessons, readable
from tools.fork import ROOT
from tools.readable import ADDRESS, CODE_SPAN, PLACEHOLDER, Translate, shown

FOLDER = ROOT / "translations"
CATALOGUES = ROOT / "pitfalls" / "locale"
PAGES = [ROOT / "README.md", ROOT / "notebooks" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [*(path.stem for path in lessons.LESSONS), "pitfalls", "pages"]  # of a language's PO files
OUTSIDE = [  # speak as the package
    *(ROOT / name for name in ("tools/lessons.py", "tools/site.py", "docs/conf.py")),
    *sorted((ROOT / "workshop").glob("*.py")),
]
KEYWORDS = {"_": None, "N_": None, "ngettext": (1, 2), "nN_": (1, 2)}
UNSAID = re.compile(rb'^(?:"(?!Language: |Plural-|MIME|Content-)[A-Z][\w-]+: |#).*\n', flags=re.MULTILINE)
SWITCH = re.compile(rf"^{readable.LANGUAGES} .*$", flags=re.MULTILINE)
ALIGNED = '<span style="display:block;text-align:right">'


def languages() -> list[str]:
    return sorted(path.name for path in FOLDER.iterdir() if path.is_dir()) if FOLDER.is_dir() else []


# What there is to translate


def templates() -> dict[str, Catalog]:
    """All messages of the course, by the name of the PO file that holds them."""
    made = {path.stem: _catalog(_of_lesson(lessons.read(path))) for path in lessons.LESSONS}
    made["pitfalls"] = _catalog(_of_package())
    pages = (_units(readable.markdown, path.read_text("utf-8")) for path in PAGES)
    made["pages"] = _catalog((unit, "") for units in pages for unit in units)
    return made


def _catalog(messages: Iterator[tuple[str | tuple[str, str], str]]) -> Catalog:
    catalog = Catalog(project="Generation pitfalls", header_comment="")
    for message, place in messages:
        catalog.add(message, locations=[(place, 1)] if place else [])
    return catalog


def _units(translate_in: Callable, text: str, *more: object) -> list[str]:
    found: list[str] = []

    def collect(unit: str) -> str:
        found.append(unit)
        return unit

    translate_in(text, collect, *more)
    return [unit for unit in found if unit]


def strings_shown(notebook: nbformat.NotebookNode) -> set[str]:
    """The strings that a lesson shows: those that the code tells, and those that its metadata names."""
    return set().union(
        *(shown(cell.source) for cell in lessons.code_cells(notebook)), notebook.metadata.get("readable", [])
    )


def _of_lesson(notebook: nbformat.NotebookNode) -> Iterator[tuple[str, str]]:
    strings = strings_shown(notebook)
    for cell in notebook.cells:
        for unit in _units(readable.markdown if cell.cell_type == "markdown" else readable.code, cell.source, strings):
            yield unit, "code" if cell.cell_type == "code" else ""
    for unit in notebook.metadata.get("readable", []):
        yield unit, "code"


def _of_package() -> Iterator[tuple[str | tuple[str, str], str]]:
    """The package's own messages, and the docstrings that it shows: stories of rules, first lines of exercises."""
    package = ROOT / "pitfalls"
    found = list(extract_from_dir(package, [("**.py", "python")], keywords=KEYWORDS, comment_tags=()))
    for tool in OUTSIDE:
        found += [(f"../{tool.relative_to(ROOT)}", *rest) for rest in extract_from_file("python", tool, KEYWORDS)]
    for name, _, message, *_ in found:
        yield message, name.removeprefix("../") if name.startswith("..") else f"pitfalls/{name}"
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and (text := ast.get_docstring(node)):
                decorators = {ast.unparse(made.func) for made in node.decorator_list if isinstance(made, ast.Call)}
                if "rule" in decorators:
                    yield text, str(path.relative_to(ROOT))
                elif "exercise" in decorators:
                    yield text.splitlines()[0], str(path.relative_to(ROOT))


# What translators made of it


def update(locale: str) -> dict[str, Catalog]:
    """The PO files of a language, brought up to date: new units are missing, changed ones fuzzy."""
    made = {}
    for name, template in templates().items():
        path = FOLDER / locale / f"{name}.po"
        catalog = read(locale, name) if path.exists() else Catalog(locale=locale.replace("-", "_"), fuzzy=False)
        catalog.update(template, update_header_comment=False)
        for message in catalog:
            message.previous_id = message.previous_id if message.fuzzy else []
        text = io.BytesIO()
        write_po(text, catalog, width=0, omit_header=False, include_lineno=False, include_previous=True)
        header, blank, body = text.getvalue().partition(b"\n\n")
        path.write_bytes(UNSAID.sub(b"", header).lstrip(b"\n") + blank + body)  # no dates, no names to fill in
        made[name] = catalog
    return made


def read(locale: str, name: str) -> Catalog:
    with (FOLDER / locale / f"{name}.po").open("rb") as file:
        return read_po(file, locale=locale.replace("-", "_"))


def messages(catalog: Catalog) -> list[Message]:
    return [message for message in catalog if message.id]


def missing(message: Message) -> bool:
    return not all(message.string) if isinstance(message.string, tuple) else not message.string


def table(locale: str, catalogs: dict[str, Catalog]) -> str:
    lines = [f"{locale:20} complete  fuzzy  missing"]
    for name, catalog in catalogs.items():
        every = messages(catalog)
        empty, fuzzy = sum(map(missing, every)), sum(it.fuzzy and not missing(it) for it in every)
        complete = 100 * (len(every) - fuzzy - empty) // max(1, len(every))  # 100 only where nothing is left to do
        lines.append(f"{name:20} {complete:6} %  {fuzzy:5}  {empty:7}")
    return "\n".join(lines)


def catalogue(locale: str) -> Path:
    """The file from which the package speaks a language."""
    return CATALOGUES / locale / "LC_MESSAGES" / "pitfalls.mo"


def compile_package(locale: str) -> bytes:
    """The package's catalogue in the form that gettext reads; the same bytes whenever it is made."""
    text, catalog = io.BytesIO(), read(locale, "pitfalls")
    catalog.creation_date = catalog.revision_date = datetime(2026, 1, 1)
    for message in list(filter(missing, messages(catalog))):  # gettext then says the English one
        catalog.delete(message.id)
    write_mo(text, catalog)
    return text.getvalue()


def translated(catalog: Catalog) -> Translate:
    """Looks a unit up; one that is fuzzy or missing stays English."""

    def translate(unit: str) -> str:
        message = catalog.get(unit) if unit else None
        return message.string if message and message.string and not message.fuzzy else unit

    return translate


# What must stay as it was
KEPT = {
    "code": CODE_SPAN,
    "address": ADDRESS,
    "placeholder": PLACEHOLDER,
    "number": re.compile(r"\d+(?:[.,]\d+)*"),
    "tag": re.compile(r"</?\w+[^<>]*>"),
}
# Other digits than 0 to 9, and signs of direction: those that are needed are put in where a text is used.
UNWANTED = re.compile("[\u0660-\u0669\u06f0-\u06f9\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def faults(message: Message, plural: str = "(n != 1)") -> list[str]:
    """What a translation lost or brought in: code, addresses, placeholders and numbers are those of the source.

    `plural` is the rule of the language; a form that serves a single number may leave the number out.
    """
    if not isinstance(message.id, tuple):
        return _compared(message.id, message.string)
    numbers = Counter(map(c2py(plural), range(1000)))
    forms = enumerate(message.string)
    return [it for n, form in forms for it in _compared(message.id[1], form, "{n}" if numbers[n] == 1 else "")]


def _compared(source: str, said: str, optional: str = "") -> list[str]:
    found = []
    for kind, pattern in KEPT.items():
        same = bare if kind == "placeholder" else str
        before, after = (Counter(same(match[0]) for match in pattern.finditer(text)) for text in (source, said))
        if optional in before and optional not in after:
            del before[optional]
        if before != after:
            lost, new = list((before - after).elements()), list((after - before).elements())
            found.append(f"{kind}: lost {lost}, new {new}, in {said!r}")
    if "\n" in said and "\n" not in source:
        found.append(f"a line break that the source has not, in {said!r}")
    rest, was = PLACEHOLDER.sub("", said), PLACEHOLDER.sub("", source)
    found += [f"a lone brace, in {said!r}" for brace in "{}" if rest.count(brace) != was.count(brace)]
    return found + [f"a sign that does not belong here: {sign!r} in {said!r}" for sign in UNWANTED.findall(said)]


def bare(text: str) -> str:
    """A text whose placeholders have lost the strings in them, which may be translated too."""
    return PLACEHOLDER.sub(lambda found: re.sub(r"""(["']).*?\1""", "''", found[0]), text)


# What is built of it


def place(locale: str, path: Path) -> Path:
    """Where a lesson stands in a language: the English one is `path` itself."""
    return path.parent / folder(locale) / path.name


def lesson(locale: str, path: Path) -> nbformat.NotebookNode:
    """An English lesson in another language, not run yet."""
    notebook = copy.deepcopy(lessons.read(path))
    translate, strings = translated(read(locale, path.stem)), strings_shown(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            with speaking(locale):
                text = readable.BUDGET.sub(lambda _: lessons.budget(path.stem), cell.source)
            cell.source = _directed(locale, page(locale, text, translate, strings))
            continue
        cell.source, cell.outputs = readable.code(cell.source, translate, strings), []
        if claims := cell.metadata.get("nbmake", {}).get("post_cell_execute"):
            kept = readable.code("\n".join(claims), translate, strings, comments=False)
            cell.metadata.nbmake.post_cell_execute = kept.split("\n")
    setup = lessons.code_cells(notebook)[0]
    assert "\nMODEL, " in setup.source, (
        "where the language is chosen: after the lesson has looked at the package's version"
    )
    setup.source = setup.source.replace("\nMODEL, ", f'\npitfalls.language("{locale}")\nMODEL, ', 1)
    if right_to_left(locale):  # older versions neither join letters nor order them
        setup.source = setup.source.replace('"torch==', '"matplotlib>=3.11" "torch==', 1)
    notebook.metadata.pop("readable", None)
    notebook.metadata["catalogue"] = hashlib.sha256(catalogue(locale).read_bytes()).hexdigest()[:16]  # for its outputs
    return notebook


@contextmanager
def speaking(locale: str) -> Iterator[None]:
    before = language()
    language(locale)
    try:
        yield
    finally:
        language(before)


def page(locale: str, text: str, translate: Translate, strings: set[str] = frozenset()) -> str:
    """Markdown in another language; its links lead to the lessons and pages in this language."""
    text = readable.markdown(text, translate, strings)
    text = re.sub(r"(blob/main/notebooks/|\]\(notebooks/)(?=\d\d_)", rf"\1{locale}/", text)
    text = text.replace(SITE, f"{SITE}{locale}/")
    return _isolated(text) if right_to_left(locale) else text


def _isolated(text: str) -> str:
    """Code keeps its own order: signs at its ends would be taken for those of the text around it."""
    blocks = re.split(r"(^```.*?^```)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(block if n % 2 else CODE_SPAN.sub(_isolate, block) for n, block in enumerate(blocks))


def _isolate(span: re.Match) -> str:
    return span[0] if re.fullmatch(r"`\w+`", span[0]) else f"{FROM_LEFT}{span[0]}{END}"


def _directed(locale: str, text: str) -> str:
    """From right to left, for all that show Markdown; and each paragraph for JupyterLab, which puts it at the left."""
    if not right_to_left(locale):
        return text
    for piece in sorted(readable.paragraphs(text), reverse=True):
        text = f"{text[: piece.start]}{ALIGNED}{piece.unit}</span>{text[piece.end :]}"
    return f'<div dir="rtl" lang="{locale}">\n\n{text}\n\n</div>'


def undirected(text: str) -> str:
    """The same for a page that has its direction itself."""
    inside = re.sub(r'^<div dir="rtl" lang="[\w-]+">\n\n(.*)\n\n</div>$', r"\1", text, flags=re.DOTALL)
    return re.sub(rf"{re.escape(ALIGNED)}(.*?)</span>", r"\1", inside, flags=re.DOTALL)


def readme(locale: str) -> str:
    """The README in one language; of the English one only the line that leads to the others is written."""
    english = SWITCH.sub(switch(locale), (ROOT / "README.md").read_text("utf-8"))
    if locale == SOURCE:
        return english
    return _directed(locale, page(locale, english, translated(read(locale, "pages")))) + "\n"


def switch(locale: str) -> str:
    """The line of the README that leads to it in other languages; for search engines the site has its own."""
    names = {SOURCE: "README.md", **{code: f"README.{code}.md" for code in languages()}}
    return f"{readable.LANGUAGES} " + " · ".join(
        name if code == locale else f"[{name}]({names[code]})" for code in names for name in [own_name(code)]
    )


def own_name(locale: str) -> str:
    """Of a language, in this language; its code where Babel doesn't know it."""
    try:
        known = Locale.parse(locale, sep="-")
        return known.get_display_name(known) or locale
    except (UnknownLocaleError, ValueError):
        return locale


def sources(notebook: nbformat.NotebookNode) -> list[str]:
    """What a lesson is made of, without what a run writes into it: to compare one that was built with its sources."""
    texts = [cell.source + str(cell.metadata.get("nbmake", "")) for cell in notebook.cells]
    texts.append(notebook.metadata.get("catalogue", ""))
    return [lessons.VERSION.sub("", re.sub(r"(?m)^.*\*[^*\n]+ · [^*\n]+ · [^*\n]+\*.*$", "", text)) for text in texts]


def stale(locale: str, path: Path) -> bool:
    """Whether a lesson must be built again: there is none, or it isn't that of its sources."""
    built = place(locale, path)
    return not built.exists() or sources(lessons.read(built)) != sources(lesson(locale, path))


def build(locale: str, names: list[str]) -> int:
    """The catalogue, the README, and those lessons that are named, or have changed; how many of them stopped."""
    catalogue(locale).parent.mkdir(parents=True, exist_ok=True)
    catalogue(locale).write_bytes(compile_package(locale))
    (ROOT / f"README.{locale}.md").write_text(readme(locale), "utf-8")
    (ROOT / "README.md").write_text(readme(SOURCE), "utf-8")
    stopped = 0
    for path in lessons.LESSONS:
        if any(name in path.name for name in names) or (not names and stale(locale, path)):
            print(f"{locale}/{path.name} …", flush=True)
            try:
                run(locale, path)
            except CellExecutionError as error:
                stopped += 1
                print(f"{locale}/{path.name} stopped, and stays as it was:\n{error}")
    return stopped


def run(locale: str, path: Path) -> None:
    """Build one lesson, run it and save it; what varies from run to run stays as it was saved before."""
    notebook, built = lesson(locale, path), place(locale, path)
    built.parent.mkdir(exist_ok=True)
    saved = {cell.source: cell.outputs for cell in lessons.code_cells(lessons.read(built))} if built.exists() else {}
    for cell in lessons.code_cells(notebook):
        cell.outputs = saved.get(cell.source, [])
    nbformat.write(lessons.execute(notebook, built), built)


def main(arguments: list[str]) -> int:
    names = [name for name in arguments if name not in languages()]
    for name in names:
        if not any(name in path.name for path in lessons.LESSONS):
            print(f"{name!r} is neither a lesson nor one of {', '.join(languages())}.")
            return 2
    stopped = 0
    for locale in [name for name in arguments if name in languages()] or languages():
        catalogs = update(locale)
        print(table(locale, catalogs))
        for name, catalog in catalogs.items():
            for message in messages(catalog):
                for fault in [] if missing(message) or message.fuzzy else faults(message, catalog.plural_expr):
                    print(f"{locale}/{name}.po: {fault}")
        stopped += build(locale, names)
    return min(stopped, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
