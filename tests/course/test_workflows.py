"""GitHub's workflows can't run here: they are checked against GitHub's own schema, which check-jsonschema carries."""

import subprocess
import sys

import pytest

from tools.fork import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("schema", ["vendor.github-workflows", "custom.github-workflows-require-timeout"])
def test_the_workflows_are_valid(schema):
    assert {path.stem for path in WORKFLOWS} == {"tests", "fork", "site"}
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *WORKFLOWS]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_what_a_workflow_runs_is_there(path):
    words = path.read_text(encoding="utf-8").split()
    files = [word for word in words if word.startswith(("tests/", ".ci/"))]
    modules = [after for before, after in zip(words, words[1:], strict=False) if before == "-m" and "." in after]
    assert files or modules
    for name in files + [f"{module.replace('.', '/')}.py" for module in modules]:
        assert (ROOT / name).exists(), name
