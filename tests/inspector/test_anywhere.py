"""`watch` around code that knows nothing of it: `python -m pitfalls run`, `%load_ext pitfalls`, `pytest --pitfalls`."""

import json
import os
import signal
import subprocess
import sys
import time

import nbclient
import nbformat
import pytest

import pitfalls
from tests.helpers import tiny_llama
from tools.lessons import ROOT

BEGINNING = """
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained({folder!r})
model = AutoModelForCausalLM.from_pretrained({folder!r})
inputs = tokenizer("What is the capital of France?", return_tensors="pt")
"""
RIGHT = """
batch = tokenizer(["1, 2, 3", "A"], padding=True, padding_side="right", return_tensors="pt")
model.generate(**batch, max_new_tokens=2)
"""


@pytest.fixture(scope="module")
def beginning(tokenizer, tmp_path_factory) -> str:
    """The first lines of a program: a tokenizer, a tiny model and inputs."""
    folder = tmp_path_factory.mktemp("model")
    tiny_llama(len(tokenizer), sharpness=20).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return BEGINNING.format(folder=str(folder))


def python(*arguments: str, cwd, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True, **options
    )


# --- a script ---------------------------------------------------------------------------------------------------


def test_a_script_runs_as_it_is_and_what_is_found_stands_behind_it(beginning, tmp_path):
    code = """
import os, sys
os.environ["HF_HOME"] = "/somewhere/else"  # before transformers is imported, as it must be
import helper
print(sys.argv, __name__, __file__, helper.NAME)
"""
    code += beginning + RIGHT + "import huggingface_hub\nprint(huggingface_hub.constants.HF_HOME)\n"
    code += "def ask():\n    model.generate(**inputs, max_new_tokens=2)\nask()\nsys.exit(5)"
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "ask.py").write_text(code)
    (tmp_path / "work" / "helper.py").write_text("NAME = 'beside the script'")
    arguments = ["work/ask.py", "--json", "x", "-m"]
    plain = python(*arguments, cwd=tmp_path)
    done = python("-m", "pitfalls", "run", "--error", "--json", "found.json", *arguments, cwd=tmp_path)
    assert plain.returncode == done.returncode == 5
    assert plain.stdout == done.stdout and "beside the script" in plain.stdout and "/somewhere/else" in plain.stdout
    assert "pitfalls: 2 generate calls, found:\nerror: padding-side\n" in done.stderr
    line = 1 + code.splitlines().index("    model.generate(**inputs, max_new_tokens=2)")
    assert f"made in: call 1 at ask.py:{line}" in done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["calls"] == 2 and found["findings"][0]["rule"] == "padding-side"
    assert set(found["findings"][0]) == {"rule", "severity", "message", "fix", "lesson", "link", "places"}


def test_a_module_and_its_errors(beginning, tmp_path):
    (tmp_path / "asks.py").write_text(beginning + RIGHT)
    done = python("-m", "pitfalls", "run", "-m", "--error", "asks", cwd=tmp_path)
    assert done.returncode == 1 and "error: padding-side" in done.stderr and "Traceback" not in done.stderr
    done = python("-m", "pitfalls", "run", "--ignore", "padding-side", "--error", "-m", "asks", cwd=tmp_path)
    assert done.returncode == 0 and "padding-side" not in done.stderr


def test_a_script_that_raises_shows_its_own_traceback(beginning, tmp_path):
    (tmp_path / "ask.py").write_text(beginning + "model.generate(**inputs, max_new_token=3)")
    plain = python("ask.py", cwd=tmp_path)
    done = python("-m", "pitfalls", "run", "ask.py", cwd=tmp_path)
    assert plain.returncode == done.returncode == 1
    first = done.stderr[done.stderr.index("Traceback") :].splitlines()[1]
    assert f'"{tmp_path / "ask.py"}"' in first or '"ask.py"' in first
    assert "here it is 'max_new_tokens'" in done.stderr


def test_a_script_without_transformers_costs_nothing(tmp_path):
    (tmp_path / "small.py").write_text("import sys\nprint('torch' in sys.modules)\nraise SystemExit('enough')")
    done = python("-m", "pitfalls", "run", "small.py", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "False\n")
    assert done.stderr == "enough\n\npitfalls: No generate call was seen in this process.\n"


@pytest.mark.skipif(sys.platform == "win32", reason="signals are of another kind there")
def test_an_interrupted_script_ends_as_one(tmp_path):
    (tmp_path / "wait.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(60)")
    command = [sys.executable, "-m", "pitfalls", "run", "wait.py"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=tmp_path, stdout=-1, stderr=-1, text=True, env=environment)
    assert process.stdout.readline() == "here\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT and "KeyboardInterrupt" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.py"], "There is no script 'nowhere.py'"),
        (["--ignore", "pading-side", __file__], "Did you mean 'padding-side'?"),
        (["--json", "nowhere/found.json", __file__], "There is no folder for"),
    ],
)
def test_a_wrong_command_says_what_to_do(arguments, words, capsys):
    from pitfalls.__main__ import main

    assert main(["run", *arguments]) == 2
    assert words in capsys.readouterr().err


# --- a notebook -------------------------------------------------------------------------------------------------


def test_the_cells_of_a_notebook(beginning, tmp_path):
    cells = [
        "%load_ext pitfalls",
        beginning,
        RIGHT,
        "model.generate(**inputs, max_new_tokens=2, do_sample=False, eos_token_id=2);",
        "%pitfalls ignore padding-side",
        RIGHT,
        "%pitfalls ignore pading-side",
        "%pitfalls off",
        RIGHT,
        "%pitfalls",
        "%pitfalls on",
        "tokenizer.apply_chat_template([{'role': 'user', 'content': []}])",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in cells])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    os.environ["PYTHONPATH"] = str(ROOT)
    nbclient.NotebookClient(book, timeout=300, allow_errors=True).execute()
    said = ["".join(str(output) for output in cell.outputs) for cell in book.cells]
    assert "padding-side" in said[2] and "text/html" in said[2] and "<table" in said[2]
    assert "prompt-template" in said[3] or said[3]
    assert "padding-side" not in said[5]
    assert "Did you mean 'padding-side'?" in said[6]
    assert "padding-side" not in said[8] and "pitfalls is off, without padding-side" in said[9]
    assert "message-content" in said[11] and "tokenizer_calls" not in said[11], "no frame of ours in the traceback"


# --- tests ------------------------------------------------------------------------------------------------------

TESTS = """
import pytest, torch

def test_right(): model.generate(**batch, max_new_tokens=2)
def test_left(): model.generate(**inputs, max_new_tokens=2)
def test_nothing(): pass

@pytest.mark.pitfalls_ignore("padding-side")
def test_on_purpose(): model.generate(**batch, max_new_tokens=2)

def test_one(pitfalls_watch):
    model.generate(**batch, max_new_tokens=2)
    assert pitfalls_watch[0].report.rules >= {"padding-side"}

def test_expects():
    with pytest.raises(ValueError):
        model.generate(**inputs, max_new_tokens=2, do_sample=True, temperature=0.0)

def test_fails(pitfalls_watch):
    model.generate(**inputs, max_new_tokens=2, temperature=0.2)
    assert False
"""


def outcomes(*options: str, folder) -> tuple[dict[str, str], str]:
    done = python("-m", "pytest", "-q", "-rA", "--no-header", "-p", "no:cacheprovider", *options, cwd=folder)
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith(("PASSED", "FAILED", "ERROR"))]
    return {line[1].partition("::test_")[2]: line[0] for line in lines}, done.stdout


def test_pytest(beginning, tmp_path):
    (tmp_path / "test_it.py").write_text(beginning + RIGHT.rpartition("model")[0] + TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    passing = {
        "nothing": "PASSED",
        "left": "PASSED",
        "on_purpose": "PASSED",
        "fails": "FAILED",
        "one": "FAILED",
        "expects": "PASSED",
    }
    plain, said = outcomes(folder=tmp_path)
    assert plain == passing | {"right": "PASSED"}
    assert "ignored-sampling-flags" in said, "the report of the test that fails"
    watched, said = outcomes("--pitfalls", folder=tmp_path)
    assert watched == passing | {"right": "FAILED"}
    assert "error: padding-side in 2 tests" in said and "fix:   tokenizer.padding_side" in said
    ignored, _ = outcomes("--pitfalls", "--pitfalls-ignore=padding-side", folder=tmp_path)
    assert ignored == passing | {"right": "PASSED", "one": "FAILED"}


def test_the_plugin_imports_neither_torch_nor_transformers():
    code = "import sys, pitfalls.pytest_plugin; print({'torch', 'transformers'} & set(sys.modules))"
    assert python("-c", code, cwd=ROOT).stdout == "set()\n"
    assert pitfalls.load_ipython_extension
