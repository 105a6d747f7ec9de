"""What the hub starts for a learner: their own copy of the lessons, and JupyterLab on the first of them.

A lesson that is there already is never touched: what a learner has done is theirs.
"""

import os
import re
import resource
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from forking import client_command

COURSE = Path(__file__).parents[1]
BADGE = re.compile(r"\[!\[[^]]*\]\(https://colab[^)]*\)\]\(https://colab[^)]*\)")
COLAB = re.compile(r"https://colab\.research\.google\.com/[^)\s]*/notebooks/(?:\w+/)?(\d\d_\w+\.ipynb)")
IDLE = 60 * 60  # seconds: after a lunch, cells are run again from the top; a kernel left behind is memory for another


def lessons(language: str, course: Path = COURSE) -> Path:
    """The folder with the lessons of a language, English where there are none in it."""
    translated = course / "notebooks" / language
    return translated if any(translated.glob("*.ipynb")) else course / "notebooks"


def copy(source: Path, target: Path) -> None:
    """Copy the lessons that are not there yet, each of them whole or not at all. Raises `OSError` on a full disk.

    Their links stay in the class: those to lessons in Colab lead to the copy beside it, and the badge is left out.
    """
    target.mkdir(parents=True, exist_ok=True)
    for lesson in sorted(source.glob("*.ipynb")):
        if not (target / lesson.name).exists():
            new = target / f".{lesson.name}.new"
            try:
                new.write_text(COLAB.sub(r"\1", BADGE.sub("", lesson.read_text("utf-8"))), "utf-8")
                new.replace(target / lesson.name)
            finally:
                new.unlink(missing_ok=True)


def limit() -> None:
    """What no process of this learner may pass; kernels of the fork server set their own in the same way.

    A cell that wants more ends in a MemoryError and its kernel goes on, where a limit on the whole would kill it.
    """
    memory = int(os.environ.get("WORKSHOP_MEMORY", 0))
    if memory:
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    processes = int(os.environ.get("WORKSHOP_PROCESSES", 0))
    if processes:
        resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))
    with suppress(PermissionError):  # in a cluster it is higher already
        Path("/proc/self/oom_score_adj").write_text("300")  # before the hub is ended, a learner's own processes are


def command(folder: Path, first: Path) -> list[str]:
    return [
        "jupyterhub-singleuser",
        f"--ServerApp.root_dir={folder}",
        f"--ServerApp.default_url=/lab/tree/{first}",
        # what was forked has another home's folders in its defaults
        f"--LabApp.user_settings_dir={folder / '.jupyter/lab/user-settings'}",
        f"--LabApp.workspaces_dir={folder / '.jupyter/lab/workspaces'}",
        "--log-level=WARN",
        "--KernelManager.transport=ipc",  # to a TCP port any account of the machine could listen
        f"--MappingKernelManager.cull_idle_timeout={IDLE}",
        "--MappingKernelManager.cull_connected=True",
        *sys.argv[1:],
    ]


def main() -> None:
    home, language = Path.home(), os.environ.get("PITFALLS_LANGUAGE", "en")
    source = lessons(language)
    folder = Path("lessons") / (language if source.name == language else "")
    os.umask(0o077)
    try:
        copy(source, home / folder)
    except OSError as error:  # the server starts all the same: in it they can delete something
        print(f"{home / folder}: {error.strerror}. Free some space there, and log in again.", file=sys.stderr)
    # not in the home, which may be full: connection files, and the sockets of kernels, whose paths have to be short
    os.environ["JUPYTER_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="workshop-")
    if sys.platform == "linux":
        limit()
    first = next(source.glob(f"{os.environ.get('WORKSHOP_FIRST', '01')}_*.ipynb")).name
    words = command(home, folder / first)
    if "WORKSHOP_FORKING" in os.environ:
        words = [*client_command(Path(os.environ["WORKSHOP_FORKING"])), "jupyterhub.singleuser", *words[1:]]
    os.chdir(home)
    os.execvp(words[0], words)


if __name__ == "__main__":
    main()
