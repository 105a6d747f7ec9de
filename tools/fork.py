"""Point every badge, setup cell and link of the course at another repository: `make fork REPO=owner/name`.

The address is `REPOSITORY` in pitfalls/__init__.py, and `SITE` is where GitHub publishes its pages. Whatever else names
them follows from there, pyproject.toml too, and so does whatever the lessons' saved outputs show of them. Needs nothing
but Python and git, so that .github/workflows/fork.yml can run it where nothing is installed.
"""

import re
import subprocess
import sys
from pathlib import Path

from pitfalls import REPOSITORY

ROOT = Path(__file__).resolve().parent.parent
OWNER_AND_NAME = REPOSITORY.removeprefix("https://github.com/")
NAME = r"(?P<owner>[A-Za-z0-9](?:-?[A-Za-z0-9]){0,38})/(?P<name>[\w.-]{1,100})"  # as GitHub allows them


def files() -> list[str]:
    """The text files of the repository that may hold its address."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in names.stdout.split("\0") if name.endswith((".ipynb", ".md", ".po", ".py", ".toml"))]


def repoint(text: str, old: str, new: str) -> str:
    """`old` to `new`, both `owner/name`, wherever GitHub or Colab are asked for it; a longer name is another one."""
    text = re.sub(rf"(?<=github\.com/|com/github/|\.org/v2/gh/){re.escape(old)}(?![\w-]|\.(?!git\b)\w)", new, text)
    return text.replace(site(old), site(new))


def site(repository: str) -> str:
    """Where GitHub publishes the pages of `owner/name`."""
    return "https://{}.github.io/{}/".format(*repository.split("/"))


def strays(text: str) -> list[str]:
    """The addresses in a text that should lead to this repository, and lead to another."""
    ours = r"colab\.research\.google\.com/github/{0}/|git\+https://github\.com/{0}|github\.com/{0}/(?:raw|blob)/main/"
    found = re.finditer(ours.format(r"([\w.-]+/[\w.-]+)"), text)
    return [match[0] for match in found if OWNER_AND_NAME not in match.groups()]


def main(arguments: list[str]) -> int:
    wanted = " ".join(arguments)
    match = re.fullmatch(NAME, wanted, flags=re.ASCII)
    if not match or match["name"] in (".", "..") or match["name"].endswith(".git"):
        print(f"{wanted!r} is no repository. Give the two words of its address on GitHub: make fork REPO=owner/name")
        return 2
    changed = 0
    for name in files():
        path = ROOT / name
        before = path.read_bytes().decode()
        after = repoint(before, OWNER_AND_NAME, wanted)
        if after != before:
            path.write_bytes(after.encode())
            changed += 1
    print(f"{changed} files lead to https://github.com/{wanted} now.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
