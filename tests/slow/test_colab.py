"""Colab as it is: its versions of the packages, the setup cell, and all lessons with their widgets and predictions.

The lessons are those in Arabic: their code differs from the English in words only (tests/course/test_translations.py),
so that one run is for both. `colab.txt` has the versions, and says what is not as there.
"""

import json
import os
import re
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
from filelock import FileLock
from nbclient import NotebookClient
from nbmake.nb_run import NotebookRun

from tools.lessons import LESSONS, REPOSITORY, ROOT, code_cells, read
from tools.translations import place

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="builds the environment as POSIX has it"),
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a clone of the repository, to install from"),
]
IN_ARABIC = [place("ar", path) for path in LESSONS]
COLAB = Path(__file__).with_name("colab.txt")
TORCH = re.compile("torch|triton|nvidia|cuda")  # and what it brings where it is not the small one for CPUs
LIBRARIES = Path(sysconfig.get_path("purelib"))
ENVIRONMENT = {  # of a kernel: the repository's address leads to this clone
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": f"url.{ROOT.as_uri()}.insteadOf",
    "GIT_CONFIG_VALUE_0": REPOSITORY,
    "GIT_CONFIG_KEY_1": "safe.directory",
    "GIT_CONFIG_VALUE_1": "*",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PYTHONDONTWRITEBYTECODE": "",  # each lesson would compile transformers again
    "PYTHONPATH": "",
    "PITFALLS_MODEL": "",
}
VIEW, STATE = (f"application/vnd.jupyter.widget-{part}+json" for part in ("view", "state"))
INSTALLED = "import pitfalls  # the setup cell installs once a session"
# Every choice is made and every control moved as the page does it; what Python answers reaches the page's models.
CLICK = """
from pitfalls.practice.prediction import Prediction

MOVED = {
    "ChatTemplate": {"template": False, "system": True, "prompted": False, "system_text": "Be kind.",
                     "turns": [{"role": "user", "content": "Hello"}]},
    "Length": {"row": 1, "budget": 5},
    "Loop": {"step": 1, "prompt": "I am a cat."},
    "NextToken": {"temperature": 3, "top_k": 5, "top_p": 0.5, "min_p": 0.1, "repetition_penalty": 2, "prompt": "I am"},
    "Padding": {"side": "right", "masked": False, "texts": "A, B, C"},
}
for shown in list(Out.values()):
    if isinstance(shown, Prediction):
        shown._handle_custom_msg({"choose": 0}, [])
        states = [said["state"] for said in shown.data["feedback"]]
        assert states.count("right") == 1 and states.count("not quite") == len(states) - 1, states
    for name, value in MOVED.get(type(shown).__name__, {}).items():
        before = shown.data
        shown.set_state({name: value})
        assert not shown.problem, shown.problem
        assert (shown.data != before) == (name in shown.trait_names(asks=True)), name
    if type(shown).__name__ == "Loop":
        shown._handle_custom_msg({"take": 1}, [])
        assert shown.data["steps"][0]["taken"] == 1
"""


def kernel(python: Path, data: Path) -> None:
    """Let a Python be the kernel named "colab" for whoever has the folder `data` in JUPYTER_PATH."""
    spec = {
        "argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Colab",
        "language": "python",
        "env": ENVIRONMENT,
    }
    (data / "kernels" / "colab").mkdir(parents=True)
    (data / "kernels" / "colab" / "kernel.json").write_text(json.dumps(spec))


def outputs_of_setup_cell(folder: Path) -> list[nbformat.NotebookNode]:
    """Run it in the kernel "colab", in a folder without the course."""
    notebook = nbformat.v4.new_notebook(cells=code_cells(read(LESSONS[0]))[:1])
    client = NotebookClient(notebook, timeout=300, kernel_name="colab", allow_errors=True)
    client.execute(cwd=str(folder))
    return notebook.cells[0].outputs


def build(folder: Path) -> None:
    """An environment with what Colab brings, in which the setup cell has run, and a record of that."""
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    python = folder / "env" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps", "--no-compile"]
    subprocess.run([*pip, "-r", COLAB], check=True)
    (site,) = python.parents[1].glob("lib/python*/site-packages")
    torch = [found for found in metadata.distributions() if TORCH.match(found.name)]
    for name in {file.parts[0] for found in torch for file in found.files} - {"..", "__pycache__"}:
        (site / name).symlink_to(LIBRARIES / name)
    (site / "google" / "colab").mkdir(parents=True)
    (site / "google" / "colab" / "__init__.py").touch()
    (site / "colab.pth").write_text("import google.colab\n")  # Colab's kernel has it imported
    kernel(python, folder / "jupyter")

    before = installed(site)
    outputs = outputs_of_setup_cell(folder)
    record = {"before": before, "after": installed(site), "outputs": outputs}
    (folder / "record.json").write_text(json.dumps(record))


def installed(site: Path) -> dict[str, str]:
    return {found.name: found.version for found in metadata.distributions(path=[str(site)])}


@pytest.fixture(scope="module")
def colab(tmp_path_factory) -> dict:
    """What the setup cell found, left and said. The workers of pytest-xdist share the environment."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder = folder / "colab"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
        with FileLock(folder / "lock"):
            if not (folder / "record.json").exists():
                build(folder)
        yield json.loads((folder / "record.json").read_text())


def test_the_setup_cell_adds_what_colab_lacks_and_replaces_nothing(colab):
    assert not any(output["output_type"] == "error" for output in colab["outputs"]), colab["outputs"]
    assert "SmolLM2-135M-Instruct" in "".join(output.get("text", "") for output in colab["outputs"])
    assert colab["before"].items() <= colab["after"].items(), "what Colab brings stays"
    assert colab["after"].keys() - colab["before"].keys() == {"generation-pitfalls", "bitsandbytes", "gguf", "jedi"}


@pytest.mark.parametrize("path", IN_ARABIC, ids=lambda path: path.stem)
def test_a_lesson_keeps_its_claims_and_its_controls_answer(path, colab, tmp_path):
    notebook = read(path)
    notebook.cells = [nbformat.v4.new_code_cell(INSTALLED), *notebook.cells, nbformat.v4.new_code_cell(CLICK)]
    nbformat.write(notebook, tmp_path / path.name)
    result = NotebookRun(tmp_path / path.name, default_timeout=300, kernel="colab").execute()
    assert result.error is None, result.error.trace
    models = result.nb.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    for cell in code_cells(result.nb)[1:-1]:
        views = [output.data[VIEW] for output in cell.outputs if VIEW in output.get("data", {})]
        drawn = [models[view["model_id"]] for view in views]
        if re.search(r"practice\.predict\(|widgets\.[A-Z]", cell.source):
            model = drawn.pop()
            assert model["model_module"] == "anywidget" and "function render" in model["state"]["_esm"], cell.source
            assert model["state"]["data"] and not model["state"]["problem"], cell.source
        assert not drawn, cell.source


def test_elsewhere_nothing_is_installed_and_the_cell_says_what_to_run(tmp_path, monkeypatch):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    (site,) = python.parents[1].glob("lib/python*/site-packages")
    (site / "elsewhere.pth").write_text(f"{LIBRARIES}\n")  # the course's own .pth file there is not read
    kernel(python, tmp_path / "jupyter")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    (error,) = outputs_of_setup_cell(tmp_path)
    assert error.ename == "ImportError" and "No module named 'pitfalls'" in error.evalue
    assert re.search(rf'%pip install "[^"]*git\+{REPOSITORY}"', error.evalue)
    assert not list(site.glob("generation_pitfalls*"))
