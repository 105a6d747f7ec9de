"""What the package and the course need: declared, pinned, and not asked for where it is not needed."""

import ast
import inspect
import re
import subprocess
import sys
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import pitfalls
from tools.lessons import ROOT

COURSE_ONLY = ("model", "pictures", "widgets", "practice")
# Nobody imports them here: transformers does, for 4-bit weights, `device_map` and `transformers serve`.
FOR_TRANSFORMERS = {"accelerate", "bitsandbytes", "fastapi", "openai", "pydantic", "uvicorn"}

WITHOUT = """
import sys
from importlib.machinery import PathFinder

missing = sys.argv[1].split()

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in missing else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
"""
INSPECT = """
import torch, transformers, pitfalls
from pitfalls.__main__ import main

config = transformers.LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
    num_attention_heads=1, eos_token_id=1, pad_token_id=0, bos_token_id=2)
model = transformers.LlamaForCausalLM(config).eval()
inputs, settings = torch.tensor([[3, 4, 5]]), {"max_new_tokens": 2, "temperature": 0.5}
assert pitfalls.check(model, None, inputs, **settings).rules == {"ignored-sampling-flags"}
with pitfalls.watch(model) as calls:
    model.generate(inputs, **settings)
assert calls.report.rules == {"ignored-sampling-flags"}
assert main(["rules"]) == 0
"""
NEEDS_THE_COURSE = [
    "pitfalls.pictures",
    "from pitfalls import widgets",
    "import pitfalls.practice",
    "pitfalls.fetch_model()",
    "pitfalls.choose_model()",
]
SAY = """
for code in sys.argv[2:]:
    try:
        exec(code)
    except ImportError as error:
        assert error.__suppress_context__
        print("said:", error)
print("status:", main(["rules", "--table"]))
"""


def declared(*extras: str) -> dict[str, Requirement]:
    """The package's requirements with these extras, by name."""
    everything = map(Requirement, metadata.requires("generation-pitfalls"))
    wanted = [r for r in everything if r.marker is None or any(r.marker.evaluate({"extra": e}) for e in extras)]
    return {canonicalize_name(requirement.name): requirement for requirement in wanted}


def imported(*parts: str) -> set[str]:
    """The distributions that modules under these paths of the package import, wherever in the module."""
    files = [file for part in parts for file in sorted((ROOT / "pitfalls").glob(part))]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    modules = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"pitfalls"}
    homes = metadata.packages_distributions()
    return {canonicalize_name(home) for module in modules for home in homes[module]}


def needs(*names: str) -> set[str]:
    """These distributions and whatever they require themselves, as far as it is installed."""
    found, waiting = set(), list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        try:
            listed = map(Requirement, metadata.requires(name) or [])
        except metadata.PackageNotFoundError:
            continue
        found.add(name)
        waiting += [each.name for each in listed if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


def modules_of(distributions: set[str]) -> set[str]:
    homes = metadata.packages_distributions()
    return {module for module, names in homes.items() if {canonicalize_name(name) for name in names} & distributions}


def test_the_base_declares_what_it_imports():
    hosts = {"ipython", "pytest"}  # they call `notebook.py` and `pytest_plugin.py`
    assert imported("*.py", "inspector/**/*.py") == set(declared()) | hosts


def test_the_course_declares_what_it_imports():
    course = imported(*(f"{part}/**/*.py" for part in COURSE_ONLY)) - set(declared())
    assert course | FOR_TRANSFORMERS == declared("course").keys() - set(declared())


def test_every_part_of_the_package_belongs_to_one_of_the_two():
    folders = {path.parent.name for path in (ROOT / "pitfalls").glob("*/__init__.py")}
    assert folders == {*COURSE_ONLY, "inspector"}


def test_every_pin_is_exact_and_within_the_ranges():
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]
    assert [line for line in lines if "==" not in line] == ["-e .[course,test]"]
    pinned = dict(line.split(";")[0].split("==") for line in lines if "==" in line)  # a marker: no wheel elsewhere
    for name, requirement in declared("course", "test", "dev").items():
        assert name in map(canonicalize_name, pinned), f"{name} is not pinned"
        version = next(pinned[key] for key in pinned if canonicalize_name(key) == name)
        assert requirement.specifier.contains(version), requirement
    assert {name: metadata.version(name).split("+")[0] for name in pinned} == pinned, "run `make lab` once more"


def test_the_inspector_works_without_the_course_and_the_rest_says_how_to_get_it():
    missing = modules_of(declared("course").keys() - needs(*declared()))
    assert {"matplotlib", "anywidget", "gguf", "platformdirs"} <= missing
    command = [sys.executable, "-c", WITHOUT + INSPECT + SAY, " ".join(missing), *NEEDS_THE_COURSE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(pitfalls.RULES) <= set(done.stdout.split())
    sentence = r"No module named '\w+': it comes with  pip install \"generation-pitfalls\[course\]\""
    said = [line.removeprefix("said: ") for line in done.stdout.splitlines() if line.startswith("said: ")]
    assert len(said) == len(NEEDS_THE_COURSE)
    assert all(re.fullmatch(sentence, line) for line in said), said
    assert done.stdout.endswith("status: 1\n") and re.fullmatch(sentence, done.stderr.splitlines()[-1])
    assert "Traceback" not in done.stderr


def test_editors_know_the_lazy_names_at_their_homes():
    tree = ast.parse((ROOT / "pitfalls" / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    shown = {}
    for node in block.body:
        for alias in node.names:
            assert alias.asname == alias.name, "only `name as name` is public to a type checker"
            shown[alias.name] = node.module.removeprefix("pitfalls").removeprefix(".")
    homes = {name: home.removesuffix(name).removesuffix(".") for name, home in pitfalls._HOME.items()}
    assert shown == homes


def test_public_names_have_their_types():
    """Those of exercises are for mypy: what a reader answers can be anything."""
    public = [
        getattr(place, name) for place in (pitfalls, pitfalls.pictures, pitfalls.widgets) for name in place.__all__
    ]
    untyped = []
    for thing in filter(callable, public):
        function = vars(thing).get("__init__") if isinstance(thing, type) else thing
        for each in inspect.signature(function).parameters.values() if function else ():
            if each.annotation is each.empty and each.name != "self":
                untyped.append(f"{thing.__name__}({each})")
    assert untyped == []
