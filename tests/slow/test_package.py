"""The wheel and the sdist as they are built, and the wheel installed where the course is not."""

import email
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import pitfalls
from tools.fork import REPOSITORY, ROOT

FILES = {
    path.relative_to(ROOT).as_posix() for path in (ROOT / "pitfalls").rglob("*.*") if "__pycache__" not in str(path)
}


def run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with an sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, folder=folder)
    return folder


def wheel(built: Path) -> Path:
    return built / f"generation_pitfalls-{pitfalls.__version__}-py3-none-any.whl"


def test_both_hold_the_package_and_nothing_else(built):
    info = f"generation_pitfalls-{pitfalls.__version__}"
    names = set(zipfile.ZipFile(wheel(built)).namelist())
    assert {name for name in names if not name.startswith(f"{info}.dist-info/")} == FILES
    assert "pitfalls/py.typed" in FILES
    with tarfile.open(built / f"{info}.tar.gz") as archive:
        names = {name.removeprefix(f"{info}/") for name in archive.getnames()}
    beside = {"CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml", ".gitignore"}
    assert names == FILES | beside


def test_what_pypi_shows_has_whole_addresses(built):
    metadata = zipfile.ZipFile(wheel(built)).read(f"generation_pitfalls-{pitfalls.__version__}.dist-info/METADATA")
    shown = email.message_from_bytes(metadata)
    assert shown["Description-Content-Type"] == "text/markdown"
    readme = shown.get_payload(decode=True).decode()
    targets = re.findall(r'\]\(([^)]+)\)|(?:src|href)="([^"]+)"', readme)
    targets = [target for pair in targets for target in pair if target]
    assert len(targets) > 20
    assert not [target for target in targets if not target.startswith(("https://", "#"))]
    ours = [target for target in targets if target.startswith(REPOSITORY)]
    for target in ours:
        found = re.fullmatch(rf"{re.escape(REPOSITORY)}/(raw|blob)/main/(.+)", target)
        assert found and (ROOT / found[2]).is_file(), target
        assert (found[1] == "raw") == found[2].startswith("images/")


@pytest.fixture(scope="module")
def elsewhere(built, tmp_path_factory) -> Path:
    """The Python of a virtual environment with the wheel, and with this one's libraries but not its course."""
    folder = tmp_path_factory.mktemp("elsewhere")
    run(sys.executable, "-m", "venv", folder, folder=folder)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel(built), folder=folder)
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=folder).strip()
    libraries = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (Path(site) / "libraries.pth").write_text("\n".join(libraries) + "\n")
    return python


def test_the_wheel_works_in_another_folder(elsewhere, tmp_path):
    say = "import pitfalls, importlib.metadata as m; print(pitfalls.__file__, m.version('generation-pitfalls'))"
    home, version = run(elsewhere, "-c", say, folder=tmp_path).split()
    assert Path(home).is_relative_to(elsewhere.parents[1]) and version == pitfalls.__version__
    assert set(pitfalls.RULES) <= set(run(elsewhere, "-m", "pitfalls", "rules", folder=tmp_path).split())


def test_a_type_checker_believes_the_installed_package(elsewhere, tmp_path):
    (tmp_path / "mine.py").write_text("import pitfalls\n\nfolder: int = pitfalls.fetch_model()\npitfalls.fetchmodel\n")
    (tmp_path / "mypy.ini").write_text("[mypy]\n[mypy-torch.*,transformers.*,matplotlib.*]\nfollow_imports = skip\n")
    command = [sys.executable, "-m", "mypy", "--python-executable", str(elsewhere), "mine.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    errors = re.findall(r"^mine\.py:(\d+): error: .*\[([\w-]+)\]$", done.stdout, flags=re.MULTILINE)
    assert errors == [("3", "assignment"), ("4", "attr-defined")], done.stdout + done.stderr
