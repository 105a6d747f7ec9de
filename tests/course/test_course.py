"""Every lesson from top to bottom, by nbmake: it runs, its hidden asserts hold, it warns of nothing that the saved
lesson does not show, and the inspector finds its mistakes.

A cell that makes a mistake on purpose names the rules that must find it in its metadata, under `findings`;
["*"] is for cells that make mistakes only to see what is said of them. Every other call must pass in silence.
"""

import json

import nbformat
import pytest
from nbmake.nb_run import NotebookRun

from tools.lessons import LESSONS, RESULTS, code_cells, output_text, read

SECONDS = {name: measured["seconds"] for name, measured in json.loads(RESULTS.read_text())["lessons"].items()}
LONGEST_FIRST = sorted(LESSONS, key=lambda path: -SECONDS.get(path.stem, 1000))  # so that none is left alone at the end

LOOK = """
import pitfalls, transformers
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


def warnings(cell) -> str:
    return "".join(output.text for output in cell.outputs if output.get("name") == "stderr")


@pytest.mark.parametrize("path", LONGEST_FIRST, ids=lambda path: path.stem)
def test_a_lesson_runs_keeps_its_claims_and_makes_no_mistake_but_those_it_shows(path, tmp_path):
    notebook, saved = read(path), code_cells(read(path))
    notebook.cells.insert(0, nbformat.v4.new_code_cell(LOOK))
    nbformat.write(notebook, tmp_path / path.name)
    result = NotebookRun(tmp_path / path.name, default_timeout=300).execute()
    assert result.error is None, result.error.trace
    for cell, before in zip(code_cells(result.nb)[1:], saved, strict=True):
        rules, report = found(cell)
        expected = cell.metadata.get("findings", [])
        assert expected == ["*"] or rules == sorted(expected), f"{cell.source}\n\n{report}"
        assert not warnings(cell) or warnings(before), f"{cell.source}\n\n{warnings(cell)}"
