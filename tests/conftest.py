"""The embedded model, loaded once for the tests that ask for it; which worker gets which test; how many examples."""

import os
import tempfile

import pytest
from hypothesis import HealthCheck, settings

# The same examples in each run, however slow the machine is; `--hypothesis-profile=thorough` makes more of them.
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
FIXED = {"derandomize": True, "deadline": None, "database": None, "suppress_health_check": SLOW}
settings.register_profile("quick", max_examples=30, **FIXED)
settings.register_profile("thorough", max_examples=150, **FIXED)
settings.load_profile("quick")

# What tests solve is not what the reader of this machine has solved.
os.environ["PITFALLS_PROGRESS"] = os.path.join(tempfile.mkdtemp(), "progress.json")

# Files whose tests share what is costly to make: one worker gets them all.
TOGETHER = (
    "tests/slow/model/test_download.py",
    "tests/slow/test_across_versions.py",
    "tests/slow/test_comparisons.py",
    "tests/slow/test_package.py",
    "tests/slow/test_pseudo_language.py",
    "tests/slow/test_site.py",
    "tests/slow/workshop/test_faults.py",
    "tests/slow/workshop/test_forking.py",
    "tests/slow/workshop/test_workshop.py",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Every other test goes to whichever worker is free (pytest-xdist 3.8 finds no `xdist_group` in pytest 9.2)."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduler(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return file if file in TOGETHER else nodeid

    return Scheduler(config, log)


@pytest.fixture(scope="session")
def tokenizer():
    from transformers import AutoTokenizer

    from pitfalls import fetch_model

    return AutoTokenizer.from_pretrained(fetch_model(), padding_side="left")


@pytest.fixture(scope="session")
def model():
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    from pitfalls import fetch_model

    disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(fetch_model()).eval()


@pytest.fixture(scope="session")
def names(model, tokenizer) -> dict:
    """What a lesson's setup and loading cells have defined."""
    import torch
    import transformers

    import pitfalls

    return {
        "model": model,
        "tokenizer": tokenizer,
        "torch": torch,
        "pitfalls": pitfalls,
        "set_seed": transformers.set_seed,
        "MODEL": pitfalls.fetch_model(),
    }
