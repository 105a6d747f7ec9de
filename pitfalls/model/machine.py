"""Is this machine ready for the course? `python -m pitfalls` fetches the model if it is not there yet.

Prints one line per check and what to do about each that is not in order.
"""

import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple

MEMORY_BYTES = 2_000_000_000  # most lessons at their largest, measured on CPU; the first and the last say more
INSTALL = (
    'Run `pip install -r requirements.txt` in the course, or `pip install "generation-pitfalls[course]"` elsewhere.'
)


class Check(NamedTuple):
    state: str  # "ok", "note" (it will run, but) or "stop"
    text: str
    advice: str = ""


def python_version() -> Iterator[Check]:
    good = sys.version_info >= (3, 10)
    advice = "" if good else "The course needs Python 3.10 or newer: make a virtual environment with one."
    yield Check("ok" if good else "stop", f"Python {platform.python_version()}", advice)


def packages() -> Iterator[Check]:
    """Each requirement of the course, and JupyterLab, against what is installed."""
    try:
        from packaging.requirements import Requirement

        listed = map(Requirement, metadata.requires("generation-pitfalls") or [])
        needed = [each for each in listed if each.marker is None or each.marker.evaluate({"extra": "course"})]
    except ImportError as error:  # PackageNotFoundError is one too
        yield Check("stop", f"{error.name} is not installed", INSTALL)
        return
    present = []
    for requirement in needed:
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield Check("stop", f"{requirement.name} is missing", INSTALL)
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            advice = f"It must be {requirement.specifier}: run `pip install -r requirements.txt`."
            yield Check("stop", f"{requirement.name} {version}", advice)
        present.append(f"{requirement.name} {version}")
    yield Check("ok", ", ".join(present))
    try:
        yield Check("ok", f"jupyterlab {metadata.version('jupyterlab')}")
    except metadata.PackageNotFoundError:
        yield Check("note", "jupyterlab is missing", "To open the lessons here: `pip install -r requirements.txt`.")


def device() -> Iterator[Check]:
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        yield Check("ok", f"GPU {torch.cuda.get_device_name(0)}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free")
    else:
        yield Check(
            "ok", f"no GPU: lessons run on the CPU with {torch.get_num_threads()} threads, as they are meant to"
        )


def memory() -> Iterator[Check]:
    import psutil

    free = psutil.virtual_memory().available
    short = free < MEMORY_BYTES
    advice = f"Most lessons take up to {MEMORY_BYTES / 1e9:.1f} GB: close other kernels and programs." if short else ""
    yield Check("note" if short else "ok", f"{free / 1e9:.1f} GB of memory free", advice)


def model() -> Iterator[Check]:
    """Disk and the embedded model; each byte of a cached one is read, and a damaged one is fetched again."""
    from pitfalls.model import fetch

    try:
        folder = fetch.cache_folder() / fetch.EMBEDDED
        if folder.exists() and not fetch.is_intact(folder, every_byte=True):
            yield Check("note", f"the model in {folder} is damaged", "It is fetched again now.")
            (folder / fetch.MANIFEST).unlink(missing_ok=True)
        fetch.fetch_embedded()
    except (fetch.ModelError, OSError) as error:
        yield Check("stop", f"the model {fetch.EMBEDDED} can't be had", str(error))
        return
    yield Check("ok", f"model {fetch.EMBEDDED} in {folder}")
    yield Check("ok", f"{shutil.disk_usage(folder).free / 1e9:.1f} GB of disk free there")


def check_machine() -> int:
    """Print every check; 1 where the course can't run, else 0."""
    stopped = False
    for look_at in (python_version, packages, device, memory, model):
        for check in look_at():
            print(f"{check.state:5} {check.text}", flush=True)
            for line in check.advice.splitlines():
                print(f"      {line}", flush=True)
            stopped |= check.state == "stop"
        if stopped:
            print("\nThe course can't run yet: see the line marked `stop`.")
            return 1
    print("\nReady. Open a lesson in notebooks/, or run `make lab`.")
    return 0
