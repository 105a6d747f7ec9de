"""The course's address: the same everywhere, and re-pointed by one command."""

import re
import subprocess
import sys

import pytest

import pitfalls
from tools.fork import OWNER_AND_NAME, ROOT, files, main, repoint, site, strays
from tools.lessons import LESSONS

README = (ROOT / "README.md").read_text()
OTHER = f"not-{OWNER_AND_NAME}"


def address(pyproject: str) -> str:
    return re.search(r'^Repository = "https://github.com/(.+)"$', pyproject, flags=re.MULTILINE)[1]


clone_only = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a clone of the repository")


def test_the_site_is_that_of_the_repository():
    assert site(OWNER_AND_NAME) == pitfalls.SITE


@clone_only
def test_every_address_is_that_of_the_project():
    assert address((ROOT / "pyproject.toml").read_text()) == OWNER_AND_NAME
    assert {name: found for name in files() if (found := strays((ROOT / name).read_text()))} == {}


@pytest.mark.parametrize(
    "text",
    [
        f"[badge](https://colab.research.google.com/github/{OTHER}/blob/main/notebooks/01_loading.ipynb)",
        f'COURSE = "generation-pitfalls[course] @ git+https://github.com/{OTHER}"',
        f"replacement = 'src=\"https://github.com/{OTHER}/raw/main/\\1\"'",
        f"https://github.com/{OTHER}/blob/main/notebooks/04_length.ipynb",
    ],
)
def test_an_address_that_disagrees_is_found(text):
    assert strays(text) and not strays(repoint(text, OTHER, OWNER_AND_NAME))


def test_the_badge_of_each_row_in_the_readme_opens_that_lesson():
    rows = [line for line in README.splitlines() if "colab-badge" in line]
    assert len(rows) == len(LESSONS)
    for row, path in zip(rows, LESSONS, strict=True):
        assert set(re.findall(r"notebooks/([\w.]+\.ipynb)", row)) == {path.name}


@pytest.mark.parametrize(
    "words", ["", "owner", "owner/", "a/b/c", "https://github.com/a/b", "a b/c", "a/..", "a/b.git"]
)
def test_what_is_no_repository_is_refused(words, capsys):
    assert main(words.split(" ")) == 2
    assert "make fork REPO=owner/name" in capsys.readouterr().out


def test_only_the_whole_name_is_replaced():
    same = "https://github.com/a/b-more https://github.com/a/b.js https://github.com/x/a/b a/b"
    assert repoint(same, "a/b", OTHER) == same
    assert repoint("https://github.com/a/b.git", "a/b", OTHER) == f"https://github.com/{OTHER}.git"
    assert repoint("https://a.github.io/b/rules/x.html", "a/b", "c/d") == "https://c.github.io/d/rules/x.html"


@clone_only
def test_a_fork_differs_in_its_addresses_only_and_passes_the_guards(tmp_path):
    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path / "fork", capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    subprocess.run(["git", "clone", "--quiet", ROOT, tmp_path / "fork"], check=True)
    old = address((tmp_path / "fork" / "pyproject.toml").read_text())  # of the last commit, which may be a fork's too
    new = f"fork-of-{old}"
    assert f"lead to https://github.com/{new}" in run(sys.executable, "-m", "tools.fork", new)
    diff = run("git", "diff", "--unified=0").splitlines()
    before = [line[1:] for line in diff if re.match(r"-(?!--)", line)]
    after = [line[1:] for line in diff if re.match(r"\+(?!\+\+)", line)]
    assert len(before) > 3 * len(LESSONS)
    assert after == [line.replace(f"/{old}", f"/{new}").replace(site(old), site(new)) for line in before]
    assert f"/{old}" not in run("git", "grep", "-h", "github.com/", "--", "*.ipynb", "*.md", "*.toml")
    assert site(old) not in run("git", "grep", "-h", "github.io/", "--", "*.ipynb", "*.md", "*.toml", "pitfalls")
    run(
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "tests/course/test_notebooks.py",
        "tests/slow/test_fork.py",
        "-k",
        "not fork_differs",
    )
    run("git", "add", "--all")
    assert "0 files" in run(sys.executable, "-m", "tools.fork", new)
    assert run("git", "diff") == ""
