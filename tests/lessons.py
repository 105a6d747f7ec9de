"""The lessons as notebooks: list them, read them, execute and normalise them.

`python tests/lessons.py` (`make notebooks`) executes every lesson and writes it back in a normal form, so that a
second run changes only what really changed: no time stamps, no widget state, counts from 1. A cell tagged `varies`,
whose output holds a timing, keeps its old output as long as its source is the same.
"""

import hashlib
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
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
    """Of all code in order: kept with the outputs, it tells whether they belong to this code."""
    return hashlib.sha256("\0".join(cell.source for cell in code_cells(notebook)).encode()).hexdigest()


def execute(path: Path) -> nbformat.NotebookNode:
    """Run one lesson from top to bottom; raises `CellExecutionError` at the first cell that fails."""
    notebook = read(path)
    before = {cell.source: cell.outputs for cell in code_cells(notebook)}
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    return normalise(notebook, before)


def normalise(notebook: nbformat.NotebookNode, before: dict[str, list]) -> nbformat.NotebookNode:
    notebook.metadata = nbformat.from_dict({**METADATA, "outputs_of_code": fingerprint(notebook)})
    for count, cell in enumerate(code_cells(notebook), start=1):
        cell.execution_count = count
        cell.metadata.pop("execution", None)
        cell.outputs = _merge_streams(cell.outputs)
        for output in cell.outputs:
            if "text" in output:  # a warning names the file that it comes from: keep what is the same everywhere
                output.text = re.sub(r"\S*/site-packages/", ".../", output.text)
            if "execution_count" in output:
                output.execution_count = count
            if "data" in output:  # a widget lives in its kernel only; its picture stays, with the words for it
                output.data.pop("application/vnd.jupyter.widget-view+json", None)
                alts = {kind: told["alt"] for kind, told in output.metadata.items() if "alt" in told}
                output.metadata = nbformat.from_dict({kind: {"alt": alt} for kind, alt in alts.items()})
        if "varies" in cell.metadata.get("tags", []) and before.get(cell.source):
            cell.outputs = before[cell.source]
    return notebook


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
            notebook = execute(path)
        except CellExecutionError as error:
            print(f"{path.name} stopped, and stays as it was:\n{error}")
            return 1
        nbformat.write(notebook, path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
