"""The models and tokenizers that the tests of the rules share."""

import pytest

from tests.helpers import tiny_llama
from tests.inspector.rules.calls import FORMATS, FORMATS_OF_BASE_MODELS, speaking


@pytest.fixture(scope="session")
def tiny(tokenizer):
    return tiny_llama(len(tokenizer) + 100)


@pytest.fixture(scope="session")
def speaker(tokenizer):
    """`speaker("gemma")`: a tokenizer with that family's template and special tokens, and a model to it."""
    kept = {}

    def make(name: str):
        if name not in kept:
            kept[name] = speaking(tokenizer, *(FORMATS | FORMATS_OF_BASE_MODELS)[name])
        return kept[name]

    return make
