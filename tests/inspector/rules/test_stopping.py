"""The rules of pitfalls/inspector/rules/stopping.py: a section for each, in their order."""

import pytest
import torch
from transformers import StoppingCriteria

import pitfalls
from tests.helpers import END, Script
from tests.inspector.rules.calls import ids, rules, watched

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def pieces(tokenizer, *texts: str) -> list[int]:
    return [token for text in texts for token in tokenizer(text, add_special_tokens=False)["input_ids"]]


# --- stop-text-as-ids -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["\n###\n", "\n\nHuman:", "User:", "</answer>", "\n###", "Zanzibar", "---\n---"])
@pytest.mark.parametrize("more", [[], [END]])
def test_stop_text_as_ids(text, more, tiny, tokenizer):
    stop = pieces(tokenizer, text)
    assert len(stop) > 1, "the case needs several pieces"
    found = rules(tiny, tokenizer, ids([50]), eos_token_id=[*stop, *more])["stop-text-as-ids"]
    assert repr(text) in found.message
    assert f"stop_strings=[{text!r}], tokenizer=tokenizer" in found.fix and "eos_token_id" not in found.fix
    assert "stop-text-as-ids" in watched(tiny, tokenizer, ids([50]), [80, stop[0]], eos_token_id=[*stop, *more])


@pytest.mark.parametrize(
    "texts",
    [["\n"], ["###"], [".", "!", "?"], ["\n", "\n\n"], ["\n", "."], [" yes", " no"], ["A", "B", "C"], ["Yes", "No"]],
)
@pytest.mark.parametrize("more", [[], [END]])
def test_end_ids_of_which_each_may_end_a_text(texts, more, tiny, tokenizer):
    end_ids = [*pieces(tokenizer, *texts), *more]
    assert "stop-text-as-ids" not in rules(tiny, tokenizer, ids([50]), eos_token_id=end_ids)
    assert "stop-text-as-ids" not in watched(tiny, tokenizer, ids([50]), end_ids[:1], eos_token_id=end_ids)


def test_stop_text_as_ids_in_another_form(tiny, tokenizer):
    stop = pieces(tokenizer, "\n###\n")
    for given in ([stop], torch.tensor(stop), torch.tensor([stop]), tuple(stop)):
        found = watched(tiny, tokenizer, ids([50]), [80, stop[0]], eos_token_id=given)["stop-text-as-ids"]
        assert found.severity == "warning"
    unsure = rules(tiny, tokenizer, ids([50]), eos_token_id=pieces(tokenizer, "###\n"))["stop-text-as-ids"]
    assert unsure.severity == "note", "each of them may end a text"


def test_stop_text_as_ids_of_whole_words(tiny, tokenizer):
    assert "stop-text-as-ids" in rules(tiny, tokenizer, ids([50]), eos_token_id=pieces(tokenizer, "The end"))
    words = [pieces(tokenizer, word)[0] for word in ("Yes", "No")]
    spaced = [pieces(tokenizer, word)[0] for word in (" yes", " no")]
    for listed in (words, spaced):
        assert "stop-text-as-ids" not in rules(tiny, tokenizer, ids([50]), eos_token_id=listed)


def test_stop_text_as_ids_that_stopped_nothing(tiny, tokenizer):
    stop = [*pieces(tokenizer, "\n###\n"), END]
    assert "stop-text-as-ids" not in watched(tiny, tokenizer, ids([50]), [80, 81], eos_token_id=stop)
    assert "stop-text-as-ids" not in watched(tiny, tokenizer, ids([50]), [80, END], eos_token_id=stop)
    assert not rules(tiny, tokenizer, ids([50]), eos_token_id=[END, 0])


# --- criterion-per-row ------------------------------------------------------------------------------------------


class AnyRow(StoppingCriteria):
    def __call__(self, input_ids, scores, **kwargs):
        return bool((input_ids[:, -1] == 90).any())


class FirstRow(StoppingCriteria):
    def __call__(self, input_ids, scores, **kwargs):
        return bool(torch.all(input_ids[0][-1:] == torch.tensor([90])))


class EachRow(StoppingCriteria):
    def __call__(self, input_ids, scores, **kwargs):
        return input_ids[:, -1] == 90


class AllRows(StoppingCriteria):
    def __call__(self, input_ids, scores, **kwargs):
        return bool((input_ids == 90).any(dim=-1).all())


class Flag(StoppingCriteria):
    def __call__(self, input_ids, scores, **kwargs):
        return torch.tensor(True)


class Long(StoppingCriteria):
    def __call__(self, input_ids, scores, **kwargs):
        return len(input_ids[0]) > 2 or input_ids[0].shape[0] > 2 or any([input_ids.shape[1] > 9, all([])])


class AnyFlag(StoppingCriteria):
    def __call__(self, input_ids, scores, **kwargs):
        return any([False, True])


class Inherited(AnyRow):
    pass


def any_row(input_ids, scores, **kwargs):
    return (input_ids[:, -1] == 90).any()


def stopped(model, tokenizer, criterion, *said: list[int]) -> dict:
    inputs = ids(*[[50]] * len(said))
    script = Script(1, *said)
    with pitfalls.watch(model, tokenizer) as calls:
        model.generate(**inputs, max_new_tokens=6, stopping_criteria=[criterion], logits_processor=[script])
    return {finding.rule: finding for finding in calls[0].report}


@pytest.mark.parametrize(
    ("criterion", "looks"),
    [(AnyRow(), "any row"), (Inherited(), "any row"), (any_row, "any row"), (FirstRow(), "looks at the first row")],
)
def test_criterion_per_row(criterion, looks, tiny, tokenizer):
    found = stopped(tiny, tokenizer, criterion, [80, 90, 81], [82, 83, 84])["criterion-per-row"]
    assert looks in found.message and "2 rows" in found.message
    assert "criterion-per-row" not in stopped(tiny, tokenizer, criterion, [80, 90, 81]), "one row"
    assert "criterion-per-row" not in stopped(tiny, tokenizer, criterion, [80, 90, 81], [END]), "the other had ended"
    assert "criterion-per-row" not in stopped(tiny, tokenizer, criterion, [80, 81], [82, 83]), "it never said stop"


@pytest.mark.parametrize("criterion", [EachRow(), AllRows(), Flag(), AnyFlag(), Long()])
def test_a_criterion_that_may_answer_for_all_rows(criterion, tiny, tokenizer):
    assert "criterion-per-row" not in stopped(tiny, tokenizer, criterion, [80, 90, 81], [82, 83, 90])
