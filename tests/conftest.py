"""The embedded model, loaded once for the tests that ask for it."""

import pytest


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
