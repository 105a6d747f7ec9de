"""Small files that outlive the kernel: `progress.json` in the folder that the operating system keeps for a user's data.

$PITFALLS_PROGRESS names another one in its place; further files lie beside it.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock
from platformdirs import user_data_path


def progress_file() -> Path:
    """Where progress is kept. Raises `RuntimeError` for an account without a home."""
    chosen = os.environ.get("PITFALLS_PROGRESS")
    return Path(chosen).expanduser() if chosen else user_data_path("pitfalls", appauthor=False) / "progress.json"


def read(file: Path) -> Any:
    """What a file holds; None where there is none, or no JSON in it."""
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def change(file: Path, how: Callable[[Any], Any]) -> None:
    """Read, change and replace a file, one kernel at a time, so that none sees half of it.

    Raises `OSError` or `RuntimeError` where it can't be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        new = file.with_name(f"{file.name}.new")
        new.write_text(json.dumps(how(read(file)), indent=1), "utf-8")
        new.replace(file)
