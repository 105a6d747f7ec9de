"""Every generate call of the lessons, inspected: the wrong ones are found, the right ones pass in silence.

A cell that makes a mistake on purpose names the rules that must find it in its metadata, under `findings`;
["*"] is for cells that make mistakes only to see what is said of them.
"""

import json

import nbformat
import pytest
from lessons import LESSONS, code_cells, output_text, read
from nbclient import NotebookClient

LOOK = """
import pitfalls, pitfalls.watching, transformers
_watch = pitfalls.watch(tokenizer=transformers.AutoTokenizer.from_pretrained(pitfalls.fetch_model()))
_calls = _watch.__enter__()

def _found(result):
    import json
    print("FOUND" + json.dumps([sorted(_calls.report.rules), str(_calls.report)]))
    _calls.clear()
    _watch.watcher.tokenizer = get_ipython().user_ns.get("tokenizer", _watch.watcher.tokenizer)

get_ipython().events.register("post_run_cell", _found)
"""


def found(cell) -> tuple[list[str], str]:
    line = next(line for line in output_text(cell).splitlines() if line.startswith("FOUND"))
    return json.loads(line.removeprefix("FOUND"))


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_the_inspector_finds_what_a_lesson_does_wrong_and_nothing_else(path):
    notebook = read(path)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(LOOK))
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    for cell in code_cells(notebook)[1:]:
        rules, report = found(cell)
        expected = cell.metadata.get("findings", [])
        assert expected == ["*"] or rules == sorted(expected), f"{cell.source}\n\n{report}"
