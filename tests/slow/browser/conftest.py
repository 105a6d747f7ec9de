"""JupyterLab and a browser for the tests here, started by the first test that asks."""

import os

import pytest

from tools.lab import chromium, jupyterlab, missing
from tools.lessons import ROOT


def ask_for_a_browser():
    if reason := missing():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    ask_for_a_browser()
    with jupyterlab(ROOT / "notebooks", tmp_path_factory.mktemp("jupyterlab")) as server:
        yield server


@pytest.fixture(scope="module")  # not longer: lessons that are executed in the same process need the event loop
def browser():
    ask_for_a_browser()
    with chromium() as browser:
        yield browser
