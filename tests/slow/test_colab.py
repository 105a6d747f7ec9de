"""A lesson as the badge opens it: one notebook alone, where the big libraries are and the course is not."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import nbformat
import pytest

from tools.lessons import LESSONS, REPOSITORY, ROOT, code_cells, output_text, read

LESSON = LESSONS[1]
LOOK = "import transformers\nprint(*(module.__file__ for module in (pitfalls, torch, transformers)), sep='\\n')"
LIBRARIES = sysconfig.get_path("purelib")


def environment(folder: Path, colab: bool) -> Path:
    """A virtual environment's Python that sees the libraries of this one, but not the course's package."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    lines = [LIBRARIES]  # a path in a .pth file: the .pth files that lie there, the course's among them, are not read
    if colab:
        (site / "google" / "colab").mkdir(parents=True)
        (site / "google" / "colab" / "__init__.py").touch()
        lines.append("import google.colab")
    (site / "elsewhere.pth").write_text("\n".join(lines) + "\n")
    return folder / "bin" / "python"


def execute(notebook, folder: Path, python: Path, *flags: str) -> nbformat.NotebookNode:
    """Run a notebook that lies alone in `folder`; the repository's address leads to this clone."""
    git = {
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": f"url.{ROOT.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": REPOSITORY,
        "GIT_CONFIG_KEY_1": "safe.directory",
        "GIT_CONFIG_VALUE_1": "*",
    }
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PITFALLS_MODEL")}
    nbformat.write(notebook, folder / "lesson.ipynb")
    command = [python, "-m", "nbconvert", "--execute", "--to=notebook", "--output=done.ipynb", *flags, "lesson.ipynb"]
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    process = subprocess.run(command, cwd=folder, env=kept | git | quiet, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-3000:]
    return nbformat.read(folder / "done.ipynb", as_version=4)


@pytest.mark.skipif(os.name != "posix", reason="builds the environment as POSIX has it")
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a clone of the repository, to install from")
def test_the_badge_opens_a_lesson_that_runs_as_it_stands(tmp_path):
    python = environment(tmp_path / "env", colab=True)
    notebook = read(LESSON)
    notebook.cells.append(nbformat.v4.new_code_cell(LOOK))
    (tmp_path / "content").mkdir()
    first, *_, last = code_cells(execute(notebook, tmp_path / "content", python))
    assert "SmolLM2-135M-Instruct" in output_text(first)
    package, *libraries = [Path(line) for line in output_text(last).split()]
    assert package.is_relative_to(tmp_path / "env")
    assert all(library.is_relative_to(LIBRARIES) for library in libraries), "Colab's own torch and transformers stay"
    installed = {path.name.split("-")[0] for path in python.parents[1].glob("lib/python*/site-packages/*.dist-info")}
    assert installed - {"pip", "setuptools"} == {"generation_pitfalls"}


@pytest.mark.skipif(os.name != "posix", reason="builds the environment as POSIX has it")
def test_elsewhere_nothing_is_installed_and_the_cell_says_what_to_run(tmp_path):
    python = environment(tmp_path / "env", colab=False)
    notebook = read(LESSON)
    notebook.cells = code_cells(notebook)[:1]
    (tmp_path / "content").mkdir()
    (cell,) = execute(notebook, tmp_path / "content", python, "--allow-errors").cells
    (error,) = cell.outputs
    assert error.ename == "ImportError" and "No module named 'pitfalls'" in error.evalue
    assert f'%pip install "git+{REPOSITORY}"' in error.evalue
    assert not list(python.parents[1].glob("lib/python*/site-packages/generation_pitfalls*"))
