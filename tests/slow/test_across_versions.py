"""The oldest transformers that the package accepts, beside the pinned one that everything else is tested with."""

import os
import re
import subprocess
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from pitfalls import catalogue
from tools.lessons import ROOT

# What pip chooses for it; the other libraries are those of this environment.
OLDEST = ["transformers==5.0.0", "tokenizers==0.22.2", "huggingface_hub==1.33.0"]
NEWEST = metadata.version("transformers")
SETUP = (ROOT / "docs" / "setup.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """Run a Python command with the oldest transformers in front of the installed one."""
    folder = tmp_path_factory.mktemp("oldest")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *OLDEST]
    subprocess.run(install, check=True, capture_output=True)

    def run(*command: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(folder)}
        done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
        return done.stdout

    assert run("-c", "import transformers; print(transformers.__version__)").strip() == "5.0.0"
    return run


def rows(table: str) -> dict[str, str]:
    """What transformers says of each rule, from a table of rules."""
    return dict(re.findall(r"^\| \d\d \| `([\w-]+)` \|[^|]*\| ([^|]+) \|", table, flags=re.MULTILINE))


def test_the_oldest_is_the_lowest_that_the_package_accepts():
    (wanted,) = [r for r in map(Requirement, metadata.requires("generation-pitfalls")) if r.name == "transformers"]
    assert wanted.specifier.contains("5.0.0") and not wanted.specifier.contains("4.57.6")
    assert wanted.specifier.contains(NEWEST)


def test_the_page_about_versions_says_what_the_oldest_says_otherwise(old):
    then, now = rows(old("-m", "pitfalls", "rules", "--table")), rows(catalogue.HEARD.read_text(encoding="utf-8"))
    assert then.keys() == now.keys()
    said = re.findall(r"^\| \[`([\w-]+)`\]\(\S+\) \| ([^|]+) \| ([^|]+) \|$", SETUP, flags=re.MULTILINE)
    assert said == [(name, then[name], now[name]) for name in now if then[name] != now[name]]
    minor = catalogue.VERSION
    assert f"| rule | transformers 5.0 | transformers {minor} |" in SETUP


def test_the_package_works_with_the_oldest(old):
    """What is not promised to stay, and every rule on the mistakes that people reported."""
    tests = ["tests/inspector/test_seams.py", "tests/inspector/test_cases.py"]
    old("-m", "pytest", "-W", "default", "-p", "no:cacheprovider", *tests)


def test_a_lesson_runs_on_the_oldest(old):
    tests = ["tests/course/test_course.py", "-k", "07_prompt_template"]
    old("-m", "pytest", "-W", "default", "-p", "no:cacheprovider", *tests)
