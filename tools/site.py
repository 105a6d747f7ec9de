"""The course as a web site: `make site` writes it to build/site/, `make serve-site` shows it.

Sphinx reads build/docs/, which is made anew each time: the pages of docs/, the lessons, and what other files tell, such
as a page for each rule of the inspector. Nothing is run: the outputs are those that the notebooks were saved with.
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
from tools.fork import ROOT
from tools.lessons import LESSONS, RESULTS, code_cells, hides_source, read

SOURCE, SITE = ROOT / "build" / "docs", ROOT / "build" / "site"
BADGE = re.compile(r"\[!\[[^]]*\]\(https://colab[^)]*\)\]\((https://colab[^)]*)\)")
TITLES = {path.stem: read(path).cells[0].source.splitlines()[0].removeprefix("# ") for path in LESSONS}


def assemble() -> None:
    """What Sphinx reads."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(ROOT / "docs", SOURCE, ignore=shutil.ignore_patterns("conf.py", "_static"))
    shutil.copytree(ROOT / "images", SOURCE / "images")
    shutil.copytree(ROOT / "notebooks", SOURCE / "notebooks", ignore=shutil.ignore_patterns(".*"))
    for name in ("lessons", "made"):
        (SOURCE / name).mkdir()
    for path in LESSONS:
        nbformat.write(lesson(path), SOURCE / "lessons" / path.name)
    _, instructors = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8").split("\n# For instructors")
    heard = {row.rule: row.transformers for row in catalogue.heard()}
    pages = {
        "lessons/instructors": f"# For instructors{instructors}",
        "made/bench": bench(),
        "made/rules": rules(),
        **{f"rules/{name}": rule(RULES[name], said) for name, said in heard.items()},
    }
    for name, text in pages.items():
        (SOURCE / f"{name}.md").write_text(text, encoding="utf-8")
    (SOURCE / "made" / "slider.html").write_text(living(LESSONS[4], "NextToken("), encoding="utf-8")


def lesson(path: Path) -> nbformat.NotebookNode:
    """A notebook as a page: doors in place of the badge, the setup's code folded, words for whoever sees no picture."""
    page = copy.deepcopy(read(path))
    doors = rf"{{.doors}}\n[Open in Colab](\1) {{download}}`Download the notebook <../notebooks/{path.name}>`"
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


def rule(rule: Rule, said: str) -> str:
    """A page about one rule: story, mistake, fix and source."""
    outside = re.compile(r"<(?=[^`]*(?:`[^`]*`[^`]*)*$)")  # no code: Markdown would take it for HTML
    summary, _, why = outside.sub("&lt;", rule.story).partition("\n")
    kind, _, error = said.partition(": ")
    transformers = {"nothing": "says nothing", "warning": "gives a warning", "error": f"raises `{error}`"}[kind]
    severity = f"an {rule.severity}" if rule.severity == "error" else f"a {rule.severity}"
    return f"""---
orphan: true
---

# `{rule.name}`

**{summary}**

{why.strip()}

Transformers {catalogue.VERSION} {transformers}; the inspector gives {severity}.
The lesson about it: [{TITLES[rule.lesson]}](../lessons/{rule.lesson}.ipynb).

## The mistake

```python
{rule.mistake}
```

## The fix

```python
{rule.fix}
```

## Source

Where the mistake was reported, or the behaviour is described: <{rule.source}>

[All rules](index.md)
"""


def rules() -> str:
    """The table of all rules, each with its page."""
    return re.sub(r"^(\| \d\d \| )(`([\w-]+)`)", r"\1[\2](\3.md)", catalogue.summary(catalogue.heard()), flags=re.M)


def bench() -> str:
    """What `make bench` measured, as a table."""
    results = json.loads(RESULTS.read_text())
    rows = [f"| {row['what']} | {row['value']} | {row['ratio']:.2g} × {row['of']} |" for row in results["rows"]]
    return "\n".join([f"{results['machine']}.", "", "| what | median | compared |", "|---|---|---|", *rows, ""])


def build() -> int:
    """The site, from nothing; the exit status of Sphinx, to which a warning is an error."""
    assemble()
    shutil.rmtree(SITE, ignore_errors=True)
    doctrees = SITE.with_name("doctrees")
    options = ["-q", "-E", "-W", "--keep-going", "-j", "auto", "-c", str(ROOT / "docs"), "-d", str(doctrees)]
    return build_main([*options, str(SOURCE), str(SITE)])


if __name__ == "__main__":
    sys.exit(build())
