"""`python -m pitfalls`: is this machine ready for the course? Fetches the model if it is not there yet.

Prints one line per check and what to do about each that is not in order. Exit status 1 when the course can't run.
`python -m pitfalls rules` lists the rules of the inspector, `python -m pitfalls rules padding-side` shows one in full.
"""

import argparse
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple

MEMORY_BYTES = 2_000_000_000  # most lessons at their largest, measured on CPU; the first and the last say more


class Finding(NamedTuple):
    state: str  # "ok", "note" (it will run, but) or "stop"
    text: str
    advice: str = ""


def python_version() -> Iterator[Finding]:
    good = sys.version_info >= (3, 10)
    advice = "" if good else "The course needs Python 3.10 or newer: make a virtual environment with one."
    yield Finding("ok" if good else "stop", f"Python {platform.python_version()}", advice)


def packages() -> Iterator[Finding]:
    """Each requirement of the package, and JupyterLab, against what is installed."""
    try:
        from packaging.requirements import Requirement

        needed = [Requirement(line) for line in metadata.requires("generation-pitfalls") or []]
    except ImportError as error:  # PackageNotFoundError is one too
        yield Finding("stop", f"{error.name} is not installed", "Run `pip install -r requirements.txt`.")
        return
    present = []
    for requirement in needed:
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield Finding("stop", f"{requirement.name} is missing", "Run `pip install -r requirements.txt`.")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            advice = f"It must be {requirement.specifier}: run `pip install -r requirements.txt`."
            yield Finding("stop", f"{requirement.name} {version}", advice)
        present.append(f"{requirement.name} {version}")
    yield Finding("ok", ", ".join(present))
    try:
        yield Finding("ok", f"jupyterlab {metadata.version('jupyterlab')}")
    except metadata.PackageNotFoundError:
        yield Finding("note", "jupyterlab is missing", "To open the lessons here: `pip install -r requirements.txt`.")


def device() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        yield Finding("ok", f"GPU {torch.cuda.get_device_name(0)}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free")
    else:
        yield Finding(
            "ok", f"no GPU: lessons run on the CPU with {torch.get_num_threads()} threads, as they are meant to"
        )


def memory() -> Iterator[Finding]:
    import psutil

    free = psutil.virtual_memory().available
    short = free < MEMORY_BYTES
    advice = f"Most lessons take up to {MEMORY_BYTES / 1e9:.1f} GB: close other kernels and programs." if short else ""
    yield Finding("note" if short else "ok", f"{free / 1e9:.1f} GB of memory free", advice)


def model() -> Iterator[Finding]:
    """Disk and the embedded model; each byte of a cached one is read, and a damaged one is fetched again."""
    from pitfalls import embedded

    folder = embedded.cache_folder() / embedded.EMBEDDED
    try:
        if folder.exists() and not embedded.is_intact(folder, every_byte=True):
            yield Finding("note", f"the model in {folder} is damaged", "It is fetched again now.")
            (folder / embedded.MANIFEST).unlink(missing_ok=True)
        embedded.fetch_embedded()
    except (embedded.ModelError, OSError) as error:
        yield Finding("stop", f"the model {embedded.EMBEDDED} can't be had", str(error))
        return
    yield Finding("ok", f"model {embedded.EMBEDDED} in {folder}")
    yield Finding("ok", f"{shutil.disk_usage(folder).free / 1e9:.1f} GB of disk free there")


def check_machine() -> int:
    stopped = False
    for check in (python_version, packages, device, memory, model):
        for finding in check():
            print(f"{finding.state:5} {finding.text}", flush=True)
            for line in finding.advice.splitlines():
                print(f"      {line}", flush=True)
            stopped |= finding.state == "stop"
        if stopped:
            print("\nThe course can't run yet: see the line marked `stop`.")
            return 1
    print("\nReady. Open a lesson in notebooks/, or run `make lab`.")
    return 0


def show_rules(name: str | None, table: bool) -> int:
    from pitfalls import catalogue

    if table:
        print(catalogue.summary(_comparisons()))
    elif name is None:
        print(catalogue.listing())
    else:
        try:
            print(catalogue.describe(name))
        except KeyError as error:
            print(error.args[0], file=sys.stderr)
            return 2
    return 0


def _comparisons() -> list:
    """Every mistake of the catalogue, made with the embedded model: half a minute."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pitfalls import catalogue, fetch_model

    path = fetch_model()
    return list(catalogue.compare(AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pitfalls", description="Is this machine ready for the course?")
    rules = parser.add_subparsers(dest="command").add_parser("rules", help="the rules of the inspector")
    rules.add_argument("rule", nargs="?", help="the name of one, such as padding-side, to see it in full")
    rules.add_argument("--table", action="store_true", help="make each mistake, and print what is said of it")
    asked = parser.parse_args(arguments)
    return show_rules(asked.rule, asked.table) if asked.command == "rules" else check_machine()


if __name__ == "__main__":
    sys.exit(main())
