"""Is this machine ready for the course? `python -m pitfalls` fetches the model if it is not there yet.

Prints one line per check and what to do about each that is not in order.
"""

import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple

from pitfalls.language import N_, _, ngettext

MEMORY_BYTES = 2_000_000_000  # most lessons at their largest, measured on CPU; the first and the last say more
INSTALL = N_(
    'Run `pip install -r requirements.txt` in the course, or `pip install "generation-pitfalls[course]"` elsewhere.'
)
STATES = {"ok": N_("ok"), "note": N_("note"), "stop": N_("stop")}


class Check(NamedTuple):
    state: str  # "ok", "note" (it will run, but) or "stop"
    text: str
    advice: str = ""


def python_version() -> Iterator[Check]:
    good = sys.version_info >= (3, 10)
    advice = "" if good else _("The course needs Python 3.10 or newer: make a virtual environment with one.")
    yield Check("ok" if good else "stop", f"Python {platform.python_version()}", advice)


def packages() -> Iterator[Check]:
    """Each requirement of the course, and JupyterLab, against what is installed."""
    try:
        from packaging.requirements import Requirement

        listed = map(Requirement, metadata.requires("generation-pitfalls") or [])
        needed = [each for each in listed if each.marker is None or each.marker.evaluate({"extra": "course"})]
    except ImportError as error:  # PackageNotFoundError is one too
        yield Check("stop", _("{package} is not installed", package=error.name), _(INSTALL))
        return
    present = []
    for requirement in needed:
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield Check("stop", _("{package} is missing", package=requirement.name), _(INSTALL))
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            needs = str(requirement.specifier)
            advice = _("It must be {version}: run `pip install -r requirements.txt`.", version=needs)
            yield Check("stop", f"{requirement.name} {version}", advice)
        present.append(f"{requirement.name} {version}")
    yield Check("ok", ", ".join(present))
    try:
        yield Check("ok", f"jupyterlab {metadata.version('jupyterlab')}")
    except metadata.PackageNotFoundError:
        advice = _("To open the lessons here: `pip install -r requirements.txt`.")
        yield Check("note", _("{package} is missing", package="jupyterlab"), advice)


def device() -> Iterator[Check]:
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name(0)
        size = {"free": free / 1e9, "total": total / 1e9}
        yield Check("ok", _("GPU {name}, {free:.1f} of {total:.1f} GB free", name=name, **size))
    else:
        yield Check(
            "ok",
            ngettext(
                "no GPU: lessons run on the CPU with {n} threads, as they are meant to",
                "no GPU: lessons run on the CPU with {n} threads, as they are meant to",
                torch.get_num_threads(),
            ),
        )


def memory() -> Iterator[Check]:
    import psutil

    free = psutil.virtual_memory().available
    told, most = _("{gigabytes:.1f} GB of memory free", gigabytes=free / 1e9), MEMORY_BYTES / 1e9
    if free < MEMORY_BYTES:
        advice = _("Most lessons take up to {gigabytes:.1f} GB: close other kernels and programs.", gigabytes=most)
        yield Check("note", told, advice)
    else:
        yield Check("ok", told)


def model() -> Iterator[Check]:
    """Disk and the embedded model; each byte of a cached one is read, and a damaged one is fetched again."""
    from pitfalls.model import fetch

    try:
        folder = fetch.cache_folder() / fetch.EMBEDDED
        if folder.exists() and not fetch.is_intact(folder, every_byte=True):
            yield Check("note", _("the model in {folder} is damaged", folder=folder), _("It is fetched again now."))
            (folder / fetch.MANIFEST).unlink(missing_ok=True)
        fetch.fetch_embedded()
    except (fetch.ModelError, OSError) as error:
        yield Check("stop", _("the model {model} can't be had", model=fetch.EMBEDDED), str(error))
        return
    yield Check("ok", _("model {model} in {folder}", model=fetch.EMBEDDED, folder=folder))
    free = shutil.disk_usage(folder).free / 1e9
    yield Check("ok", _("{gigabytes:.1f} GB of disk free there", gigabytes=free))


def check_machine() -> int:
    """Print every check; 1 where the course can't run, else 0."""
    stopped = False
    for look_at in (python_version, packages, device, memory, model):
        for check in look_at():
            print(f"{_(STATES[check.state]):5} {check.text}", flush=True)
            for line in check.advice.splitlines():
                print(f"      {line}", flush=True)
            stopped |= check.state == "stop"
        if stopped:
            print("\n" + _("The course can't run yet: see the line marked `stop`."))
            return 1
    print("\n" + _("Ready. Open a lesson in notebooks/, or run `make lab`."))
    return 0
