"""The embedded model, loaded once for the tests that ask for it; how many examples hypothesis makes."""

import pytest
from hypothesis import HealthCheck, settings

# The same examples in each run, however slow the machine is; `--hypothesis-profile=thorough` makes more of them.
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
FIXED = {"derandomize": True, "deadline": None, "database": None, "suppress_health_check": SLOW}
settings.register_profile("quick", max_examples=30, **FIXED)
settings.register_profile("thorough", max_examples=150, **FIXED)
settings.load_profile("quick")


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
