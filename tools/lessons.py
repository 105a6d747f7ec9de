"""The lessons as notebooks: list them, read them, execute and normalise them.

`python -m tools.lessons` (`make notebooks`) executes every lesson and writes it back in a normal form, so that a
second run changes only what really changed: no time stamps, no widget state, counts from 1. A cell tagged `varies`,
whose output holds a timing, keeps its old output as long as its source is the same. The budget line in the header
says what `make bench` measured. The setup cell and the metadata say which version of the package ran.
"""

import base64
import hashlib
import io
import json
import math
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

import pitfalls
from pitfalls.language import _, ngettext
from tools.fork import REPOSITORY, ROOT
from tools.readable import BUDGET

LESSONS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
BEYOND = range(9, 14)  # lessons about what comes next
RESULTS = ROOT / "tools" / "bench.json"  # what `make bench` measured
VERSION = re.compile(r'(?<=lesson := ")[^"]+')  # in the setup cell
KEPT = ("readable", "catalogue")  # for translators: strings that are shown; of the package's words, as they were
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def output_text(cell: nbformat.NotebookNode) -> str:
    """What a cell shows as text: streams, results and errors."""
    parts = []
    for output in cell.outputs:
        parts.append(output.get("text", ""))
        parts.append(output.get("data", {}).get("text/plain", ""))
        parts.extend(output.get("traceback", []))
    return "\n".join(parts)


def fingerprint(notebook: nbformat.NotebookNode) -> str:
    """Of all code in order: kept with the outputs, it tells whether they belong to this code.

    Without the repository's address, as a fork has the same outputs, and without the version of the package.
    """
    code = "\0".join(cell.source for cell in code_cells(notebook))
    return hashlib.sha256(VERSION.sub("", code.replace(REPOSITORY, "")).encode()).hexdigest()


def minutes(notebook: nbformat.NotebookNode) -> tuple[int, int]:
    """To read a lesson, at 150 words and 15 lines of code a minute; and for its exercises, as their cards say."""
    texts = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    words = len(re.sub(r"<details>.*?</details>", "", texts, flags=re.DOTALL).split())
    lines = sum(len(cell.source.splitlines()) for cell in code_cells(notebook)[1:] if not hides_source(cell))
    exercises = re.findall(r"^\*★.*?(\d+) minutes\*$", texts, flags=re.MULTILINE)
    return math.ceil(words / 150 + lines / 15), sum(map(int, exercises))


def hides_source(cell: nbformat.NotebookNode) -> bool:
    return bool(cell.metadata.get("jupyter", {}).get("source_hidden"))


def budget(name: str) -> str:
    """The line in a lesson's header. Raises KeyError for a lesson that `make bench` has not measured."""
    measured = json.loads(RESULTS.read_text())["lessons"][name]
    reading, practising = minutes(read(ROOT / "notebooks" / f"{name}.ipynb"))
    told = [ngettext("{n} minute to read", "{n} minutes to read", reading)]
    if practising:
        told = [_("{reading} minutes to read, {practising} for the exercises", reading=reading, practising=practising)]
    seconds = 5 * math.ceil(measured["seconds"] / 5)
    told.append(_("{seconds} seconds of computing on 2 CPU cores", seconds=seconds))
    told.append(_("{gigabytes:g} GB of memory", gigabytes=math.ceil(2 * measured["memory"] / 1e9) / 2))
    told.append(_("93 MB to download, once for the whole course"))
    return f"*{' · '.join(told)}*"


def execute(notebook: nbformat.NotebookNode, path: Path) -> nbformat.NotebookNode:
    """Run a lesson from top to bottom beside `path`; raises `CellExecutionError` at the first cell that fails."""
    setup = code_cells(notebook)[0]
    setup.source = VERSION.sub(pitfalls.__version__, setup.source)
    before = {cell.source: cell.outputs for cell in code_cells(notebook)}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PITFALLS_PROGRESS"] = f"{folder}/progress.json"  # a lesson is saved as a new reader sees it
        os.environ["PITFALLS_SAVING"] = "1"  # a prediction then knows its answer on a page without a kernel
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    header = notebook.cells[0]
    header.source = BUDGET.sub(lambda _: budget(path.stem), header.source)
    return normalise(notebook, before)


def normalise(notebook: nbformat.NotebookNode, before: dict[str, list]) -> nbformat.NotebookNode:
    saved = {"outputs_of_code": fingerprint(notebook), "saved_with": f"generation-pitfalls {pitfalls.__version__}"}
    kept = {name: notebook.metadata[name] for name in KEPT if name in notebook.metadata}
    notebook.metadata = nbformat.from_dict(METADATA | kept | saved)
    for count, cell in enumerate(code_cells(notebook), start=1):
        cell.execution_count = count
        cell.metadata.pop("execution", None)
        if "varies" in cell.metadata.get("tags", []) and before.get(cell.source):
            cell.outputs = before[cell.source]
        cell.outputs = _merge_streams(cell.outputs)
        for output in cell.outputs:
            if "text" in output:  # a warning names the file that it comes from: keep what is the same everywhere
                output.text = re.sub(r"\S*/site-packages/", ".../", output.text)
            if "execution_count" in output:
                output.execution_count = count
            if "data" in output:  # a widget's view lives in its kernel only; its HTML and its picture stay
                output.data.pop("application/vnd.jupyter.widget-view+json", None)
                alts = {kind: told["alt"] for kind, told in output.metadata.items() if "alt" in told}
                output.metadata = nbformat.from_dict({kind: {"alt": alt} for kind, alt in alts.items()})
                if "image/png" in output.data:
                    output.data["image/png"] = _smaller(output.data["image/png"])
    return notebook


def _smaller(picture: str) -> str:
    """A picture, in base64, in few colours; one that has few stays as it is."""
    from pitfalls.widgets.play import few_colours  # with it comes transformers, for which no other tool should wait

    png = base64.b64decode(picture)
    return picture if Image.open(io.BytesIO(png)).mode == "P" else base64.b64encode(few_colours(png)).decode()


def _merge_streams(outputs: list) -> list:
    """Consecutive pieces of the same stream as one: how they are cut depends on the machine's mood."""
    merged = []
    for output in outputs:
        if merged and output.output_type == "stream" == merged[-1].output_type and output.name == merged[-1].name:
            merged[-1].text += output.text
        else:
            merged.append(output)
    return merged


def main(names: list[str]) -> int:
    for path in LESSONS:
        if names and not any(name in path.name for name in names):
            continue
        print(f"{path.name} …", flush=True)
        try:
            notebook = execute(read(path), path)
        except KeyError as lesson:
            print(f"{lesson} has not been measured yet, so its budget is not known: run `make bench`.")
            return 1
        except CellExecutionError as error:
            print(f"{path.name} stopped, and stays as it was:\n{error}")
            return 1
        nbformat.write(notebook, path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
