"""Every mistake of the catalogue, made: what transformers and the inspector say of it, and what is kept of that."""

import logging

import pytest

from pitfalls import catalogue
from pitfalls.inspector.rules import RULES


@pytest.fixture(scope="module")
def comparisons():
    return list(catalogue.compare())


def test_every_mistake_of_the_catalogue_is_found_by_its_own_rule(comparisons):
    assert [row.rule for row in comparisons] == list(RULES)
    assert not [row.rule for row in comparisons if row.pitfalls == "nothing"]
    assert all(row.pitfalls in ("error", "warning", "note") and row.message for row in comparisons)


def test_transformers_is_heard_and_often_silent(comparisons):
    said = {row.rule: row.transformers for row in comparisons}
    assert said["positional-inputs"] == "error: AttributeError: ", "the empty message"
    assert said["unknown-argument"].startswith("error: ValueError: The following `model_kwargs` are not used")
    assert said["length"].startswith("warning: Using the model-agnostic default")
    assert said["ignored-sampling-flags"].startswith("warning: The following generation flags")
    assert said["prompt-template"] == said["generation-prompt"] == said["nan-logits"] == "nothing"
    assert sum(words == "nothing" for words in said.values()) > len(said) / 2


def test_what_is_kept_is_what_was_heard(comparisons):
    kept = catalogue.HEARD.read_text(encoding="utf-8")
    assert kept == f"{catalogue.summary(comparisons)}\n", "write it again: python -m pitfalls rules --table"


def test_making_a_mistake_leaves_no_trace_in_the_next_or_outside(comparisons):
    """Whatever came before it, the same is said of a mistake."""
    names = ["pad-mismatch", "context-window", "no-pad-token", "train-mode", "model-defaults", "length"]
    logger = logging.getLogger("transformers")
    heard = logger.handlers[:], logger.level
    before = {row.rule: row for row in comparisons}
    assert list(catalogue.compare(names)) == [before[name] for name in names]
    assert (logger.handlers, logger.level) == heard
