"""What the tests of several widgets share."""

import pytest

from pitfalls import record


@pytest.fixture(scope="session")
def counting(model, tokenizer):
    prompts = ["A sequence of numbers: 1, 2", "The capital of France is"]
    batch = tokenizer(prompts, padding=True, return_tensors="pt")
    return record(model, tokenizer, batch, max_new_tokens=40)


@pytest.fixture
def few_tokens(monkeypatch):
    """For tests of `Padding` that don't read its answers to the end."""
    monkeypatch.setattr("pitfalls.widgets.padding.CONTINUED", 2)
