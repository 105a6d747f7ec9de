"""`make workshop-offline`: all that a workshop needs, in one folder for a stick.

On the machine of the workshop, which has the same system and the same version of Python, and no network:

    sudo cp -r /media/stick/workshop-offline/course /opt/course && cd /opt/course
    sudo make workshop STICK=/media/stick/workshop-offline
"""

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import tomllib

from pitfalls.model.fetch import REQUIREMENT

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "build" / "workshop-offline"
HOW = """\
The course, packed on {system} ({machine}) with Python {python}. Without a network, on such a machine:

    sudo cp -r {name}/course /opt/course && cd /opt/course
    sudo make workshop STICK=…/{name}

…: where this folder is. make and Python's venv have to be installed already (Debian: make, python3-venv).
"""


def main() -> None:
    shutil.rmtree(TARGET, ignore_errors=True)
    wheels = TARGET / "wheels"
    wheels.mkdir(parents=True)
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", f"--dest={wheels}"]
    packages = TARGET / "requirements.txt"  # all but the course itself, which is not downloaded but copied
    packages.write_text(re.sub(r"(?m)^-e .*$", "", (ROOT / "requirements.txt").read_text()))
    builds = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    subprocess.run(
        [*download, f"-r{packages}", "-rworkshop/requirements.txt", *builds, "editables"], cwd=ROOT, check=True
    )
    subprocess.run([*download, "--no-deps", REQUIREMENT], cwd=ROOT, check=True)  # the model
    no_links = shutil.ignore_patterns(".bin")  # most sticks can't hold any
    shutil.copytree(Path(sys.prefix, "lib", "proxy"), TARGET / "proxy", ignore=no_links)
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, files.split("\0")):
        (TARGET / "course" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, TARGET / "course" / name)
    facts = {"system": platform.system(), "machine": platform.machine(), "python": platform.python_version()}
    (TARGET / "README.txt").write_text(HOW.format(name=TARGET.name, **facts))
    size = sum(path.stat().st_size for path in TARGET.rglob("*") if path.is_file())
    print(f"{TARGET}: {size / 1e9:.1f} GB. Copy this folder to a stick; README.txt in it says how to go on.")


if __name__ == "__main__":
    main()
