"""The course as a web site: `make site` writes it to build/site/, `make serve-site` shows it.

Sphinx reads build/docs/, which is made anew each time: the pages of docs/, the lessons, and what other files tell, such
as a page for each rule of the inspector. Nothing is run: the outputs are those that the notebooks were saved with.
English stands at the root, each other language in a folder of its own with the same pages.
"""

import copy
import json
import re
import shutil
import sys
from pathlib import Path

import nbformat
from sphinx.cmd.build import build_main

from pitfalls.inspector import catalogue
from pitfalls.inspector.rule import Rule
from pitfalls.inspector.rules import RULES
from pitfalls.language import SOURCE, _, folder
from tools import translations
from tools.fork import ROOT
from tools.lessons import LESSONS, RESULTS, code_cells, hides_source, read

DOCS, SITE = ROOT / "build" / "docs", ROOT / "build" / "site"
BADGE = re.compile(r"\[!\[[^]]*\]\(https://colab[^)]*\)\]\((https://colab[^)]*)\)")


def assemble(locale: str) -> None:
    """What Sphinx reads for one language."""
    home = DOCS / locale
    shutil.copytree(ROOT / "docs", home, ignore=shutil.ignore_patterns("conf.py", "_*"))
    shutil.copytree(ROOT / "images", home / "images")
    for name in ("lessons", "made", "notebooks"):
        (home / name).mkdir()
    for path in lessons_in(locale):
        shutil.copy(path, home / "notebooks")
        nbformat.write(lesson(path), home / "lessons" / path.name)
    readme = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
    instructors = readme[readme.index("\n# For instructors") :]
    (home / "lessons" / "instructors.md").write_text(instructors, encoding="utf-8")
    if locale != SOURCE:
        translate = translations.translated(translations.read(locale, "pages"))
        for path in home.rglob("*.md"):
            text = translations.page(locale, path.read_text(encoding="utf-8"), translate)
            path.write_text(text, encoding="utf-8")
    heard = {row.rule: row.transformers for row in catalogue.heard()}
    titles = {path.stem: title(path) for path in lessons_in(locale)}
    pages = {
        "made/bench": bench(),
        "made/rules": rules(),
        **{f"rules/{name}": rule(RULES[name], said, titles) for name, said in heard.items()},
    }
    for name, text in pages.items():
        (home / f"{name}.md").write_text(text, encoding="utf-8")
    (home / "made" / "slider.html").write_text(living(lessons_in(locale)[4], "NextToken("), encoding="utf-8")


def lessons_in(locale: str) -> list[Path]:
    return [translations.place(locale, path) for path in LESSONS]


def title(path: Path) -> str:
    return translations.undirected(read(path).cells[0].source).splitlines()[0].removeprefix("# ")


def lesson(path: Path) -> nbformat.NotebookNode:
    """A notebook as a page: doors in place of the badge, the setup's code folded, words for whoever sees no picture."""
    page = copy.deepcopy(read(path))
    for cell in page.cells:
        cell.source = translations.undirected(cell.source)
    colab, download = _("Open in Colab"), _("Download the notebook")
    doors = rf"{{.doors}}\n[{colab}](\1) {{download}}`{download} <../notebooks/{path.name}>`"
    page.cells[0].source = BADGE.sub(doors, page.cells[0].source)
    for number, cell in enumerate(code_cells(page)):
        alts = [told["alt"] for output in cell.outputs for told in output.get("metadata", {}).values() if "alt" in told]
        cell.metadata = nbformat.from_dict({"mystnb": {"image": {"alt": alts[0]}}} if alts else {})
        if number == 0 or hides_source(cell):
            cell.metadata["tags"] = ["hide-input"]
    return page


def living(path: Path, call: str) -> str:
    """The output of a lesson's cell that makes this call as HTML, which may hold a script; or its picture."""
    (output,) = next(cell.outputs for cell in code_cells(read(path)) if call in cell.source)
    if "text/html" in output.data:
        return "".join(output.data["text/html"])
    alt = output.metadata["image/png"]["alt"].replace('"', "&quot;")
    return f'<img alt="{alt}" src="data:image/png;base64,{output.data["image/png"].strip()}">'


def rule(rule: Rule, said: str, titles: dict[str, str]) -> str:
    """A page about one rule: story, mistake, fix and source."""
    outside = re.compile(r"<(?=[^`]*(?:`[^`]*`[^`]*)*$)")  # no code: Markdown would take it for HTML
    summary, _line, why = outside.sub("&lt;", _(rule.story)).partition("\n")
    kind, _colon, error = said.partition(": ")
    if kind == "error":
        heard = _("Transformers {version} raises `{error}`.", version=catalogue.VERSION, error=error)
    elif kind == "warning":
        heard = _("Transformers {version} gives a warning.", version=catalogue.VERSION)
    else:
        heard = _("Transformers {version} says nothing.", version=catalogue.VERSION)
    lesson = f"[{titles[rule.lesson]}](../lessons/{rule.lesson}.ipynb)"
    words = {
        "severity": _("The inspector's finding: {severity}.", severity=_(rule.severity)),
        "about": _("The lesson about it: {lesson}.", lesson=lesson),
        "mistake": _("The mistake"),
        "fix": _("The fix"),
        "source": _("Source"),
        "where": _("Where the mistake was reported, or the behaviour is described:"),
        "all": _("All rules"),
    }
    return f"""---
orphan: true
---

# `{rule.name}`

**{summary}**

{why.strip()}

{heard} {words["severity"]}
{words["about"]}

## {words["mistake"]}

```python
{rule.mistake}
```

## {words["fix"]}

```python
{rule.fix}
```

## {words["source"]}

{words["where"]} <{rule.source}>

[{words["all"]}](index.md)
"""


def rules() -> str:
    """The table of all rules, each with its page."""
    return re.sub(r"^(\| \d\d \| )(`([\w-]+)`)", r"\1[\2](\3.md)", catalogue.summary(catalogue.heard()), flags=re.M)


def bench() -> str:
    """What `make bench` measured, as a table."""
    results = json.loads(RESULTS.read_text())
    rows = [f"| {row['what']} | {row['value']} | {row['ratio']:.2g} × {row['of']} |" for row in results["rows"]]
    head = " | ".join([_("what"), _("median"), _("compared")])
    return "\n".join([f"{results['machine']}.", "", f"| {head} |", "|---|---|---|", *rows, ""])


def build() -> int:
    """The site, from nothing; the exit status of Sphinx, to which a warning is an error."""
    shutil.rmtree(SITE, ignore_errors=True)
    return max(map(build_in, [SOURCE, *translations.languages()]))


def build_in(locale: str) -> int:
    """The pages of one language."""
    shutil.rmtree(DOCS / locale, ignore_errors=True)
    with translations.speaking(locale):
        assemble(locale)
        doctrees, target = DOCS.with_name("doctrees") / locale, SITE / folder(locale)
        options = ["-q", "-E", "-W", "--keep-going", "-j", "auto", "-c", str(ROOT / "docs"), "-d", str(doctrees)]
        return build_main([*options, str(DOCS / locale), str(target)])


if __name__ == "__main__":
    sys.exit(build())
