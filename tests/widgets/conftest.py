"""A recorded call, for the tests of several widgets."""

import pytest

from pitfalls import record


@pytest.fixture(scope="module")
def counting(model, tokenizer):
    prompts = ["A sequence of numbers: 1, 2", "The capital of France is"]
    batch = tokenizer(prompts, padding=True, return_tensors="pt")
    return record(model, tokenizer, batch, max_new_tokens=100)
