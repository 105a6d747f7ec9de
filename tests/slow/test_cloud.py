"""The course on many machines: image, Helm values, Binder and devcontainer agree.

`python -m tools.image` runs the image's steps, for minutes. What only a cluster can show is not here: docs/cloud.md
ends with trying it.
"""

import json
import os
import re
import subprocess
import sys
import urllib.parse

import pytest
import yaml

from pitfalls import REPOSITORY, SITE
from pitfalls.language import languages
from tools import image
from tools.lessons import LESSONS, ROOT

WORKSHOP = ROOT / "workshop"
DOCKERFILE = (WORKSHOP / "Dockerfile").read_text()
VALUES = yaml.safe_load((WORKSHOP / "values.yaml").read_text())
PAGE = (ROOT / "docs" / "cloud.md").read_text()
HUB, LEARNER = VALUES["hub"], VALUES["singleuser"]
(BOARD,) = HUB["extraContainers"]
STEPS = image.steps(DOCKERFILE)
CONFIGURATION = (WORKSHOP / "jupyterhub_config.py").read_text()


def taken(kind: str) -> list[str]:
    return [text for each, text in STEPS if each == kind]


def test_steps_are_read_as_docker_reads_them():
    text = "# said\nARG BASE=a:1\nFROM ${BASE}\nRUN one \\\n    && two\n"
    assert image.steps(text) == [("ARG", "BASE=a:1"), ("FROM", "${BASE}"), ("RUN", "one && two")]
    place = image.Image(ROOT)
    assert place.inside("cd /opt/model; ls /srv/opt/x") == f"cd {ROOT}/opt/model; ls /srv/opt/x"
    with pytest.raises(ValueError, match="HEALTHCHECK"):
        place.take("HEALTHCHECK", "CMD true")


def test_the_image_is_pinned_and_not_root():
    (base,) = (text.removeprefix("BASE=") for text in taken("ARG") if text.startswith("BASE="))
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", base)
    assert base.split(":")[1].startswith("3.11.")  # the version that requirements.txt is tested with
    assert STEPS[-1][0] == "CMD" and taken("USER") == ["1000:100"]  # what the chart runs and mounts homes as
    last = max(number for number, (kind, _text) in enumerate(STEPS) if kind in ("RUN", "COPY"))
    assert last < [kind for kind, _text in STEPS].index("USER"), "the learner could write to what comes after USER"


def test_all_that_is_copied_is_let_through():
    wanted = {source for text in taken("COPY") for source in text.split()[:-1]}
    rules = (WORKSHOP / "Dockerfile.dockerignore").read_text().splitlines()
    assert {rule[1:] for rule in rules if rule.startswith("!")} == wanted and "*" in rules
    assert [name for name in wanted if not (ROOT / name).exists()] == []


def test_the_image_is_as_new_as_the_hub_of_the_chart():
    (version,) = (text.removeprefix("JUPYTERHUB=") for text in taken("ARG") if text.startswith("JUPYTERHUB="))
    (chart,) = set(re.findall(r"--version (\d+\.\d+\.\d+)", PAGE))
    assert f"chart {chart} has JupyterHub {version}" in PAGE
    assert f"chart {chart}" in (WORKSHOP / "values.yaml").read_text()


def test_values_use_one_image_and_start_what_it_starts():
    assert "{name}:{tag}".format(**LEARNER["image"]) == BOARD["image"]
    assert [json.loads(text) for text in taken("CMD")] == [LEARNER["cmd"]]
    for command in (LEARNER["cmd"], BOARD["command"]):
        assert (ROOT / command[1].removeprefix("/opt/course/")).is_file(), command[1]
    assert "notebooks ./notebooks" in taken("COPY") and "workshop ./workshop" in taken("COPY")


def test_values_say_of_the_board_what_the_hub_on_one_machine_says():
    roles = re.findall(r'"name": "(user|server|board)", "scopes": \[([^]]+)\]', CONFIGURATION)
    known = {name: re.findall(r'"([^"]+)"', scopes) for name, scopes in roles}
    assert known == {name: role["scopes"] for name, role in HUB["loadRoles"].items()}
    assert known.keys() == {"user", "server", "board"} and HUB["loadRoles"]["board"]["services"] == ["board"]
    assert "services" not in HUB["config"] and list(HUB["services"]) == ["board"]
    port, address = BOARD["ports"][0]["containerPort"], HUB["services"]["board"]["url"]
    known = {each["name"]: each.get("value") for each in BOARD["env"]}
    assert urllib.parse.urlsplit(known["JUPYTERHUB_SERVICE_URL"]).port == port
    assert LEARNER["extraEnv"]["PITFALLS_BOARD"] == f"{address}{known['JUPYTERHUB_SERVICE_PREFIX']}"
    assert address == f"http://hub:{HUB['service']['extraPorts'][0]['port']}"
    assert [rule["port"] for rule in LEARNER["networkPolicy"]["egress"][0]["ports"]] == [port]
    started = (WORKSHOP / "start.py").read_text()
    assert known.keys() == set(re.findall(r'"(JUPYTERHUB_\w+)":', started)), "the board's environment differs"


def test_no_password_is_in_a_file():
    secrets = {name: where["valueFrom"]["secretKeyRef"] for name, where in HUB["extraEnv"].items()}
    for name, secret in secrets.items():
        assert f'os.environ["{name}"]' in HUB["extraConfig"]["class"] and f'os.environ["{name}"]' in CONFIGURATION
        assert f"secret generic {secret['name']}" in PAGE and f"--from-literal={secret['key']}=" in PAGE


def test_learners_are_told_what_their_server_reads():
    read = "".join((WORKSHOP / name).read_text() for name in ("learner.py", "jupyterhub_config.py", "start.py"))
    assert [name for name in LEARNER["extraEnv"] if f'"{name}"' not in read] == []
    offered = {each["slug"]: each.get("kubespawner_override", {}) for each in LEARNER["profileList"]}
    assert list(offered) == languages()
    for code, override in offered.items():
        assert override.get("environment", {"PITFALLS_LANGUAGE": "en"}) == {"PITFALLS_LANGUAGE": code}


def test_the_hub_of_the_chart_finds_the_authenticator_in_the_files_that_it_is_given(tmp_path):
    """They lie where its configuration does, without the rest of the package."""
    home = "/usr/local/etc/jupyterhub/"
    given = dict(re.findall(r"--set-file hub\.extraFiles\.(\w+)\.stringData=(\S+)", PAGE))
    assert given.keys() == HUB["extraFiles"].keys()
    for name, file in HUB["extraFiles"].items():
        place = tmp_path / file["mountPath"].removeprefix(home)
        place.parent.mkdir(exist_ok=True)
        place.write_text((ROOT / given[name]).read_text())
    module, name = HUB["config"]["JupyterHub"]["authenticator_class"].split(".")
    code = (
        "import os, sys\n"
        f"sys.path = [{str(tmp_path)!r}, *(path for path in sys.path if not os.path.isdir(path + '/pitfalls'))]\n"
        f"import {module}\n"
        f"assert sys.modules['pitfalls'].__file__ is None\n"
        f"print({module}.{name}().admin_users)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout == "set()\n", done.stderr


def test_binder_and_devcontainer_open_the_first_lesson():
    (link,) = re.findall(r"https://mybinder\.org/\S+?(?=\))", PAGE)
    first = LESSONS[0].relative_to(ROOT).as_posix()
    owner_and_name = REPOSITORY.removeprefix("https://github.com/")
    assert link == f"https://mybinder.org/v2/gh/{owner_and_name}/main?urlpath=lab/tree/{first}"
    devcontainer = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    folder = ROOT / ".devcontainer"
    assert (folder / devcontainer["build"]["dockerfile"]).resolve() == WORKSHOP / "Dockerfile"
    assert (folder / devcontainer["build"]["context"]).resolve() == ROOT
    assert devcontainer["customizations"]["codespaces"]["openFiles"] == [first]
    assert f"/lab/tree/{LESSONS[0].name}" in devcontainer["postAttachCommand"]


@pytest.mark.parametrize("name", ["postBuild", "start"])
def test_binder_can_run_its_scripts(name):
    path = ROOT / ".binder" / name
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", path], check=True)


def test_the_lessons_packages_are_those_above_the_site_in_the_requirements():
    """What image and Binder install: pinned, and without what only the course's own tests and tools need."""
    cut = "sed '/^# the site/,$d"
    assert cut in DOCKERFILE and cut in (ROOT / ".binder" / "postBuild").read_text()
    text = (ROOT / "requirements.txt").read_text()
    kept, others = text.split("\n# the site\n")
    assert "-e ." not in kept and "\njupyterlab==" in kept and "\nsphinx==" in others and "\npytest==" in others


def test_the_page_has_no_figure_left_to_fill_in():
    assert "{{" not in PAGE
    assert len(PAGE.splitlines()) <= 100  # two screens
    assert SITE  # links in it are relative
