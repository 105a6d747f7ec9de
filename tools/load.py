"""A load generator: plays N learners over real HTTP and websockets against a running hub, and measures what they see.

    python -m tools.load http://127.0.0.1:8000 --password CLASSWORD --learners 10 --baseline --record

Each logs in, starts a server as the pages say, opens a lesson, runs its cells with thinking time between them, answers
an exercise wrongly and then rightly, and saves as JupyterLab does. Their names are learner01 and so on. A name belongs
to the browser that came with it first: a second run against the same class takes others (`--name`). On the hub's own
machine memory is measured too, as far as this account may look. The status is 1 where there was an error or an output
was lost, and else 0.
"""

import argparse
import asyncio
import ipaddress
import json
import math
import os
import socket
import statistics
import sys
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from yarl import URL

from tools.learner import Learner
from tools.lessons import LESSONS, ROOT

RECORD = ROOT / "workshop" / "load.json"
NOTICED = 0.1  # seconds
BEGIN = 2  # the setup cell and the one that loads the model
SHOWN = {
    "spawn": "server started, s",
    "kernel": "kernel started, s",
    "begin": "setup and model cells, s",
    "first": "a cell's first output, s",
    "cell": "a cell, s",
}


# memory, in GB of 10**9 bytes
def measure_memory(learners: list[Learner]) -> None:
    """What each learner's server and kernels have for themselves, and their part of what they share with others."""
    by_name: dict[str, set[int]] = {learner.name: {learner.pid} - {None} for learner in learners}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # it has ended, or is another's
            names = {process.username(), process.environ().get("JUPYTERHUB_USER")}
            for name in names & set(by_name):
                by_name[name].add(process.pid)
    for learner in learners:
        sizes = list(filter(None, map(_private_and_shared, by_name[learner.name])))
        if sizes:
            learner.memory = tuple(sum(part) / 1e9 for part in zip(*sizes, strict=True))


def _private_and_shared(pid: int) -> tuple[int, int] | None:
    """Bytes that only this process has and the system can't take back, and its part of everything else.

    Parts, so that the sum over processes is what they take. A library's pages count as shared for one alone, too.
    """
    with suppress(psutil.Error, OSError):
        maps = psutil.Process(pid).memory_maps()
        private = sum(one.private_dirty for one in maps)
        return private, sum(one.pss for one in maps) - private
    return None


# a run
async def play(asked: argparse.Namespace, names: list[str]) -> list[Learner]:
    """All learners from login to logout."""
    learners = [Learner(name, asked) for name in names]
    try:
        async with asyncio.timeout(asked.limit):
            await (burst if asked.burst else stagger)(learners, asked)
    except TimeoutError:
        for learner in learners:
            if not learner.finished and not learner.errors:
                learner.errors.append(f"not through after {asked.limit:g} s (--limit)")
    finally:
        if not asked.elsewhere:
            await asyncio.to_thread(measure_memory, learners)
        await asyncio.gather(*(learner.close() for learner in learners))
    return learners


async def stagger(learners: list[Learner], asked: argparse.Namespace) -> None:
    """They come one after another, and each begins when the lesson is open."""

    async def one(learner: Learner, wait: float) -> None:
        await asyncio.sleep(wait)
        if await learner.attempt(learner.open()):
            await learner.attempt(learner.study(slice(0, asked.cells), answer=True))

    apart = asked.arrive / len(learners)
    await asyncio.gather(*(one(learner, number * apart) for number, learner in enumerate(learners)))


async def burst(learners: list[Learner], asked: argparse.Namespace) -> None:
    """All have the lesson open, then all press run at the same moment; the rest of the lesson as ever."""
    apart = asked.arrive / len(learners)

    async def come(learner: Learner, wait: float) -> bool:
        await asyncio.sleep(wait)
        return await learner.attempt(learner.open())

    async def together(steps: list[Coroutine]) -> list[Learner]:
        went = await asyncio.gather(*steps)
        return [learner for learner, well in zip(ready, went, strict=True) if well]

    ready = learners
    ready = await together([come(learner, number * apart) for number, learner in enumerate(ready)])
    ready = await together([one.attempt(one.study(slice(0, BEGIN), thinking=False)) for one in ready])
    await together([one.attempt(one.study(slice(BEGIN, asked.cells), answer=True)) for one in ready])


# what is told of it
def spread(values: Iterable[float | None]) -> list[float] | None:
    """Median, 95th percentile and the most.

    The percentile is one of the values: of a lesson's fourteen cells the longest, as it is of fourteen of each of many.
    """
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    high = known[math.ceil(0.95 * len(known)) - 1]
    return [round(value, 3) for value in (statistics.median(known), high, known[-1])]


def summary(asked: argparse.Namespace, learners: list[Learner], alone: dict | None) -> dict[str, Any]:
    """The row of a run, as `workshop/load.json` keeps it."""
    first = BEGIN * asked.burst  # what all began at once is told apart
    cells = [cell for learner in learners for cell in list(learner.cells.values())[first:]]
    began = [[cell[0] for cell in list(learner.cells.values())[:BEGIN]] for learner in learners]
    row: dict[str, Any] = {name: getattr(asked, name) for name in ("lesson", "cells", "thinking", "arrive", "burst")}
    row |= {"learners": len(learners), "cores": os.cpu_count(), "memory": psutil.virtual_memory().total / 1e9}
    row |= {name: spread(learner.seconds.get(name) for learner in learners) for name in ("spawn", "kernel")}
    row["begin"] = spread(sum(seconds) for seconds in began if len(seconds) == BEGIN)
    row["first"], row["cell"] = spread(first for _, first in cells), spread(seconds for seconds, _ in cells)
    row["ratio"] = ratios(row, learners, alone) if alone else None
    measured = [learner.memory for learner in learners if learner.memory and learner.finished]
    row["private"], row["shared"] = map(statistics.mean, zip(*measured, strict=True)) if measured else (None, None)
    row["total"] = sum(map(sum, measured)) if measured else None
    row["errors"] = sum(len(learner.errors) for learner in learners)
    row["lost"] = sum(len(learner.lost) for learner in learners)
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}


def ratios(row: dict, learners: list[Learner], alone: dict) -> list[float | None] | None:
    """To one learner alone: median and 95th percentile of a cell, and the 95th percentile of each to itself.

    The last is of cells that take NOTICED alone, or longer: of the others a wait is a multiple, and nobody sees it.
    Every cell that was played has its partner: who has left early counts with what they have played.
    """
    single = {name: cell[0] for name, cell in alone["learners"][0]["cells"].items()}
    played = [cell for it in learners for cell in list(it.cells.items())[BEGIN * row["burst"] :] if cell[0] in single]
    if not played:
        return None
    together, apart = [cell[0] for _, cell in played], [single[name] for name, _ in played]
    (middle, high, _), (single_middle, single_high, _) = spread(together), spread(apart)
    each = spread(mine / own for mine, own in zip(together, apart, strict=True) if own >= NOTICED)
    return [round(middle / single_middle, 2), round(high / single_high, 2), round(each[1], 2) if each else None]


def table(rows: list[dict[str, Any]]) -> str:
    """One column for each run: alone, and with the others."""

    def line(title: str, values: Iterable[str]) -> str:
        return f"{title:48}" + "".join(f"{value:>24}" for value in values)

    def told(value: Any) -> str:
        numbers = value if isinstance(value, list) else [value]
        return " / ".join("–" if number is None else f"{number:.2f}" for number in numbers)

    lines = [line("learners", (str(row["learners"]) + " at once" * row["burst"] for row in rows))]
    spreads = {name: f"{title}: median / 95 % / max" for name, title in SHOWN.items()}
    plain = {
        "ratio": "to the cells alone: median / 95 % / each, 95 %",
        "private": "GB of each learner's own",
        "shared": "GB, each one's part of the shared",
        "total": "GB, all together",
    }
    lines += [line(title, (told(row[name]) for row in rows)) for name, title in (spreads | plain).items()]
    return "\n".join(lines + [line(name, (str(row[name]) for row in rows)) for name in ("errors", "lost")])


def record(row: dict[str, Any], file: Path = RECORD) -> None:
    rows = json.loads(file.read_text()) if file.exists() else []
    file.write_text("[\n" + ",\n".join(json.dumps(one) for one in [*rows, row]) + "\n]\n")


def result(asked: argparse.Namespace, names: list[str], alone: dict | None = None) -> dict[str, Any]:
    """A run, as `--json` writes it."""
    learners = asyncio.run(play(asked, names))
    for learner in learners:
        for trouble in learner.errors + [f"lost: {what}" for what in learner.lost]:
            print(f"{learner.name}: {trouble}", file=sys.stderr)
    kept = ("name", "seconds", "cells", "memory", "errors", "lost")
    each = [{name: getattr(learner, name) for name in kept} for learner in learners]
    return {"row": summary(asked, learners, alone), "learners": each}


def on_this_machine(host: str) -> bool:
    own = {address.address.partition("%")[0] for card in psutil.net_if_addrs().values() for address in card}
    found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    return all(address in own or ipaddress.ip_address(address).is_loopback for address in found)


def arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tools.load", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("address", help="of the hub, as learners have it")
    add("--password", required=True, help="the class's")
    add("--learners", type=int, default=3)
    add("--name", default="learner", help="what their names begin with (%(default)s)")
    add("--thinking", type=float, default=45, help="seconds between cells, half to one and a half of it (%(default)s)")
    add("--cells", type=int, default=14, help="of the lesson's code cells the first (%(default)s)")
    add("--lesson", default="06", choices=[path.name[:2] for path in LESSONS], help="its number (%(default)s)")
    add("--folder", default="lessons", help="where a learner's lessons are, '' for the home (%(default)s)")
    add("--arrive", type=float, default=60, help="seconds over which they come, 0 for all at once (%(default)s)")
    add("--burst", action="store_true", help="all run the setup and model cells at the same moment")
    alone = parser.add_mutually_exclusive_group()
    alone.add_argument("--alone", type=Path, help="the --json file of a run with one learner, to compare with")
    alone.add_argument("--baseline", action="store_true", help="play one alone first, with short thinking times")
    add("--json", type=Path, help="write everything that was measured to this file")
    add("--record", action="store_true", help=f"add the row to {RECORD.relative_to(ROOT)}")
    add("--limit", type=float, default=3600, help="seconds after which it ends in any case (%(default)s)")
    add("--seed", type=int, default=0, help="of the thinking times")
    add("--elsewhere", action="store_true", help="the hub is yours, and on another machine: memory is not measured")
    asked = parser.parse_args(given)
    if asked.learners < 1 or asked.cells < BEGIN:
        parser.error(f"at least one learner and {BEGIN} cells")
    if asked.record and (asked.elsewhere or not (asked.alone or asked.baseline)):
        parser.error(
            "a row that is kept has memory and a comparison: --record with --alone or --baseline, and a hub here"
        )
    if not asked.address.startswith(("http://", "https://")):
        parser.error("the hub's address begins with http:// or https://")
    if not asked.elsewhere and not on_this_machine(URL(asked.address).host or ""):
        parser.error(f"{asked.address} is not this machine. This makes load: for a hub of yours, add --elsewhere")
    return asked


def main(given: list[str] | None = None) -> int:
    asked = arguments(given)
    alone = json.loads(asked.alone.read_text()) if asked.alone else None
    if asked.baseline:
        quick = argparse.Namespace(**vars(asked) | {"burst": False, "arrive": 0, "thinking": min(2, asked.thinking)})
        alone = result(quick, [f"{asked.name}00"])
    found = result(asked, [f"{asked.name}{number:02}" for number in range(1, asked.learners + 1)], alone)
    runs = [run["row"] for run in (alone, found) if run]
    print(table(runs))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    if asked.record:
        record(found["row"])
    return int(any(row["errors"] or row["lost"] for row in runs))


if __name__ == "__main__":
    sys.exit(main())
