"""A recorded call is the plain call, and what it tells about it is true."""

import copy
from math import log2
from types import SimpleNamespace

import pytest
import torch
from transformers import (
    EosTokenCriteria,
    GenerationConfig,
    LlamaForCausalLM,
    MaxLengthCriteria,
    MaxTimeCriteria,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteria,
)
from transformers.generation import utils as generation_utils

from pitfalls import record
from pitfalls.inspector.call import Call
from pitfalls.inspector.listening import CANDIDATES, Heard
from tests.helpers import END, Collector, Script, tiny_llama

VOCABULARY = 300
WORDS = torch.tensor([[50, 60, 70]])
LOOPING = torch.tensor([[50, 60, 70, 80, 50, 60, 70, 80, 50, 60]])  # for prompt lookup
BATCH = {
    "input_ids": torch.tensor([[END, END, 50], [40, 50, 60], [END, 70, 80]]),
    "attention_mask": torch.tensor([[0, 0, 1], [1, 1, 1], [0, 1, 1]]),
}

pytestmark = pytest.mark.filterwarnings("ignore:Using the model-agnostic default")


def tiny_model(vocabulary: int = VOCABULARY, **settings) -> LlamaForCausalLM:
    return tiny_llama(vocabulary, sharpness=40, **settings)


@pytest.fixture(scope="module")
def tiny():
    return tiny_model()


class Quiet(StoppingCriteria):
    """Stops each row after so many tokens, the prompt included."""

    def __init__(self, length: int):
        self.length = length

    def __call__(self, input_ids, scores, **kwargs):
        return torch.full((len(input_ids),), input_ids.shape[1] >= self.length)


def plain(model, inputs, **settings) -> torch.Tensor:
    inputs = inputs if isinstance(inputs, dict) else {"input_ids": inputs}
    output = model.generate(**inputs, **settings)
    return output if isinstance(output, torch.Tensor) else output.sequences


def says(model, tokenizer, *new: list[int], inputs=WORDS, **settings) -> Call:
    """A recorded call in which the rows say the given ids."""
    width = (inputs["input_ids"] if isinstance(inputs, dict) else inputs).shape[1]
    settings = {"max_new_tokens": 6, "logits_processor": [Script(width, *new)]} | settings
    return record(model, tokenizer, inputs, **settings)


def probabilities(model, call, row: int = 0) -> torch.Tensor:
    """Of each new token of a row without padding, from one forward pass: (new tokens, vocabulary)."""
    with torch.no_grad():
        logits = model(call.output_ids[row : row + 1]).logits[0]
    return logits[call.input_ids.shape[1] - 1 : -1].float().softmax(-1)


# --- the ids are those of a plain call ---------------------------------------------------------------------------

STYLES = {
    "greedy": (WORDS, {}),
    "sampling": (WORDS, {"do_sample": True, "top_k": 0}),
    "several-samples": (WORDS, {"do_sample": True, "num_return_sequences": 3, "temperature": 1.5}),
    "left-padded": (BATCH, {}),
    "left-padded-samples": (BATCH, {"do_sample": True, "num_return_sequences": 2, "top_p": 0.9}),
    "beams": (BATCH, {"num_beams": 3}),
    "several-beams": (BATCH, {"num_beams": 3, "num_return_sequences": 2}),
    "sampled-beams": (WORDS, {"num_beams": 3, "do_sample": True}),
    "prompt-lookup": (LOOPING, {"prompt_lookup_num_tokens": 3}),
    "static-cache": (BATCH, {"cache_implementation": "static"}),
    "no-cache": (BATCH, {"use_cache": False}),
    "penalty": (LOOPING, {"repetition_penalty": 1.7, "no_repeat_ngram_size": 2}),
    "dict-output": (WORDS, {"return_dict_in_generate": True, "output_scores": True}),
    "dict-output-beams": (WORDS, {"return_dict_in_generate": True, "output_scores": True, "num_beams": 2}),
    "processor": (WORDS, {"logits_processor": [Script(3, [90, 91, 92])]}),
    "criterion": (WORDS, {"stopping_criteria": [Quiet(6)]}),
    "end-ids": (BATCH, {"eos_token_id": list(range(100))}),
    "default-length": (WORDS, {"max_new_tokens": None}),
}


@pytest.mark.parametrize("style", STYLES)
def test_ids_and_random_state_are_those_of_generate(style, tiny, tokenizer):
    inputs, settings = STYLES[style]
    settings = {"max_new_tokens": 8} | settings
    torch.manual_seed(7)
    expected = plain(tiny, inputs, **settings)
    state = torch.get_rng_state()
    torch.manual_seed(7)
    call = record(tiny, tokenizer, inputs, **settings)
    assert torch.equal(call.output_ids, expected)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(call.rows) == len(expected)


@pytest.mark.parametrize("settings", [{}, {"do_sample": True}, {"num_beams": 2}, {"stop_strings": ["\n"]}])
def test_ids_of_the_embedded_model(settings, model, tokenizer):
    inputs = tokenizer(["The capital of France is", "1, 2,"], return_tensors="pt", padding=True)
    torch.manual_seed(1)
    expected = model.generate(**inputs, max_new_tokens=5, tokenizer=tokenizer, **settings)
    torch.manual_seed(1)
    assert torch.equal(record(model, tokenizer, inputs, max_new_tokens=5, **settings).output_ids, expected)


def test_inputs_as_batch_encoding_dict_or_tensor(tiny, tokenizer):
    encoding = tokenizer("1, 2", return_tensors="pt")
    small = {name: tensor % VOCABULARY for name, tensor in encoding.items()}
    as_encoding = type(encoding)(small)
    answers = [record(tiny, tokenizer, x, max_new_tokens=4) for x in (as_encoding, small, small["input_ids"])]
    assert len({tuple(answer.new_ids) for answer in answers}) == 1
    assert all(answer.prompt_ids == small["input_ids"][0].tolist() for answer in answers)
    assert set(small) == set(encoding), "the caller's inputs stay as they are"


def test_attention_mask_as_a_keyword(tiny, tokenizer):
    ids, mask = BATCH.values()
    call = record(tiny, tokenizer, ids, attention_mask=mask, max_new_tokens=3)
    assert torch.equal(call.output_ids, plain(tiny, BATCH, max_new_tokens=3))
    assert torch.equal(call.attention_mask, mask)
    assert [row.prompt_ids for row in call.rows] == [[50], [40, 50, 60], [70, 80]]


def test_a_mask_of_ones_where_none_was_given(tiny, tokenizer):
    assert record(tiny, tokenizer, WORDS, max_new_tokens=1).attention_mask.tolist() == [[1, 1, 1]]


def test_streamer_gets_every_token(tiny, tokenizer):
    streamer = Collector()
    call = record(tiny, tokenizer, WORDS, max_new_tokens=4, streamer=streamer)
    assert streamer.ids == [*call.output_ids[0].tolist(), "end"]


def test_the_callers_processor_works_and_the_list_stays(tiny, tokenizer):
    processors, criteria = [Script(3, [90, 91, 92, 93])], [Quiet(5)]
    call = record(tiny, tokenizer, WORDS, max_new_tokens=4, logits_processor=processors, stopping_criteria=criteria)
    assert call.new_ids == [90, 91]
    assert len(processors) == len(criteria) == 1


def test_generation_config_object(tokenizer):
    model = tiny_model(max_new_tokens=3)
    given = GenerationConfig(max_new_tokens=4, eos_token_id=[END, 9])
    before = given.to_dict(), model.generation_config.to_dict()
    call = record(model, tokenizer, WORDS, generation_config=given)
    assert torch.equal(call.output_ids, model.generate(WORDS, generation_config=given))
    assert call.settings.max_new_tokens == 4 and call.settings.eos_token_id == [END, 9]
    assert (given.to_dict(), model.generation_config.to_dict()) == before


def test_row_texts(model, tokenizer):
    call = record(model, tokenizer, tokenizer(["Hi", "1, 2,"], return_tensors="pt", padding=True), max_new_tokens=3)
    assert [row.prompt_text for row in call.rows] == ["Hi", "1, 2,"]
    assert [row.new_text for row in call.rows] == tokenizer.batch_decode(call.output_ids[:, -3:])


# --- nothing is left behind --------------------------------------------------------------------------------------


class Broken(StoppingCriteria):
    def __call__(self, input_ids, scores, **kwargs):
        raise RuntimeError("broken criterion")


@pytest.mark.parametrize("settings", [{}, {"num_beams": 2}, {"cache_implementation": "static"}])
def test_the_model_keeps_no_trace(settings, tokenizer):
    recorded, other = tiny_model(), tiny_model()
    record(recorded, tokenizer, WORDS, max_new_tokens=2, **settings)
    other.generate(WORDS, max_new_tokens=2, **settings)
    assert vars(recorded).keys() == vars(other).keys()


def test_no_trace_after_an_error(tokenizer):
    model = tiny_model()
    before = set(vars(model))
    with pytest.raises(RuntimeError, match="broken criterion"):
        record(model, tokenizer, WORDS, stopping_criteria=[Broken()])
    assert set(vars(model)) == before


# --- why each row stopped ----------------------------------------------------------------------------------------


def test_end_of_sequence_keeps_the_end_token(tiny, tokenizer):
    call = says(tiny, tokenizer, [90, 91, END])
    assert (call.new_ids, call.stopped_by) == ([90, 91, END], "end-of-sequence")
    assert call.new_text == tokenizer.decode([90, 91]), "without special tokens"


@pytest.mark.parametrize("length", [{"max_new_tokens": 3}, {"max_new_tokens": None, "max_length": 6}])
@pytest.mark.parametrize("beams", [1, 3])
def test_length(length, beams, tiny, tokenizer):
    call = record(tiny, tokenizer, WORDS, num_beams=beams, eos_token_id=None, pad_token_id=END, **length)
    assert (len(call.new_ids), call.stopped_by) == (3, "length")


@pytest.mark.parametrize(
    ("settings", "why"), [({}, "end-of-sequence"), ({"eos_token_id": 5, "stop_strings": ["!"]}, "stop-string")]
)
def test_a_text_that_ends_on_the_last_token_is_not_cut_off(settings, why, tiny, tokenizer):
    last = END if not settings else tokenizer("!").input_ids[0]
    call = says(tiny, tokenizer, [90, 91, last], max_new_tokens=3, **settings)
    assert (call.new_ids, call.stopped_by) == ([90, 91, last], why)


def test_stop_string(tiny, tokenizer):
    stop, other = tokenizer(";").input_ids[0], tokenizer("a").input_ids[0]
    call = says(tiny, tokenizer, [other, stop, other], stop_strings=[";"])
    assert (call.new_ids, call.new_text, call.stopped_by) == ([other, stop], "a;", "stop-string")


def test_time(tiny, tokenizer):
    call = record(tiny, tokenizer, WORDS, max_new_tokens=9, max_time=1e-9)
    assert (len(call.new_ids), call.stopped_by) == (1, "time")


def test_the_name_of_the_callers_criterion(tiny, tokenizer):
    call = record(tiny, tokenizer, WORDS, max_new_tokens=9, stopping_criteria=[Quiet(5)])
    assert (len(call.new_ids), call.stopped_by) == (2, "Quiet")


def test_a_criterion_that_returns_one_bool(tiny, tokenizer):
    class Impatient(StoppingCriteria):
        def __call__(self, input_ids, scores, **kwargs):
            return input_ids.shape[1] == 5

    call = record(tiny, tokenizer, BATCH, max_new_tokens=9, stopping_criteria=[Impatient()])
    assert [(len(row.new_ids), row.stopped_by) for row in call.rows] == [(2, "Impatient")] * 3


def test_rows_that_stop_for_different_reasons(tiny, tokenizer):
    stop = tokenizer(";").input_ids[0]
    call = says(tiny, tokenizer, [90, END], [90, 91, 92, stop], [90], inputs=BATCH, stop_strings=[";"])
    assert [row.stopped_by for row in call.rows] == ["end-of-sequence", "stop-string", "length"]
    assert [row.new_ids for row in call.rows] == [[90, END], [90, 91, 92, stop], [90] * 6]
    assert call.output_ids[0, 5:].tolist() == [END] * 4, "the padding looks like end tokens"
    assert [len(row.steps) for row in call.rows] == [2, 4, 6]
    assert all(row.steps[-1] == list(row.steps)[-1] for row in call.rows), "the row's own last step, not the batch's"


@pytest.mark.parametrize("end_ids", [[5, 91], [91, END], 91, torch.tensor([91, 5]), torch.tensor(91)])
def test_end_ids_of_the_caller(end_ids, tiny, tokenizer):
    call = says(tiny, tokenizer, [90, END + 1, 91, 92], eos_token_id=end_ids)
    assert (call.new_ids, call.stopped_by) == ([90, END + 1, 91], "end-of-sequence")


def test_end_ids_of_the_model(tokenizer):
    call = says(tiny_model(eos_token_id=[END, 91]), tokenizer, [90, 91, 92])
    assert (call.new_ids, call.stopped_by) == ([90, 91], "end-of-sequence")


@pytest.mark.parametrize("end_ids", [None, -1, VOCABULARY + 7])
def test_no_end_id_that_the_model_could_say(end_ids, tiny, tokenizer):
    last = VOCABULARY - 1  # which -1 would be as an index
    call = says(tiny, tokenizer, [last, END, 91], eos_token_id=end_ids, pad_token_id=0, max_new_tokens=3)
    assert (call.new_ids, call.stopped_by) == ([last, END, 91], "length")
    assert call.steps[0].end_probability == pytest.approx(0, abs=1e-6)


def test_beams_that_end_and_beams_that_do_not(tiny, tokenizer):
    free = plain(tiny, WORDS, num_beams=3, num_return_sequences=3, max_new_tokens=6, eos_token_id=None)
    end = free[0, 5].item()
    call = record(
        tiny, tokenizer, WORDS, num_beams=3, num_return_sequences=3, max_new_tokens=6, eos_token_id=end, pad_token_id=0
    )
    ended = [row for row in call.rows if end in row.new_ids]
    assert ended and len(ended) < 3, "the case needs both"
    for row in call.rows:
        assert row.stopped_by == ("end-of-sequence" if row in ended else "length")
        assert end not in row.new_ids[:-1] and (row in ended or len(row.new_ids) == 6)


def test_a_stop_string_ends_a_beam(tiny, tokenizer):
    settings = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 6}
    stop = tokenizer.decode(plain(tiny, WORDS, **settings)[0, 5:6])
    rows = record(tiny, tokenizer, WORDS, stop_strings=[stop], **settings).rows
    stopped = [row for row in rows if stop in row.new_text]
    assert stopped and len(stopped) < 3, "the case needs both"
    assert all(row.stopped_by == ("stop-string" if row in stopped else "length") for row in rows)
    assert all(row.new_text.endswith(stop) and END not in row.new_ids for row in stopped), "padding is no end token"


def test_prompt_lookup_stops_at_the_end_token(tiny, tokenizer):
    end = plain(tiny, LOOPING, max_new_tokens=5, eos_token_id=None)[0, 12].item()
    settings = {"max_new_tokens": 5, "eos_token_id": end, "pad_token_id": 0}
    call = record(tiny, tokenizer, LOOPING, prompt_lookup_num_tokens=3, **settings)
    assert call.stopped_by == "end-of-sequence" and call.new_ids.index(end) == len(call.new_ids) - 1


@pytest.mark.parametrize(
    ("settings", "max_length"),
    [
        ({"max_new_tokens": 5}, 8),
        ({"max_length": 9}, 9),
        ({}, 23),
        ({"generation_config": GenerationConfig(max_new_tokens=5)}, 8),
    ],
)
def test_a_model_that_only_hands_its_calls_on(settings, max_length, tiny, tokenizer):
    wrapped = SimpleNamespace(config=tiny.config, generation_config=tiny.generation_config, generate=tiny.generate)
    ended = record(wrapped, tokenizer, WORDS, **settings, logits_processor=[Script(3, [90] * 3 + [END])])
    assert (ended.new_ids, ended.stopped_by) == ([90, 90, 90, END], "end-of-sequence")
    assert ended.settings.eos_token_id == END and ended.settings.max_length == max_length
    assert ended.steps[3].end_probability == pytest.approx(1)
    cut = record(wrapped, tokenizer, WORDS, **settings, logits_processor=[Script(3, [90])])
    assert (len(cut.new_ids), cut.stopped_by) == (max_length - 3, "length")


@pytest.mark.parametrize(
    ("criterion", "why"),
    [(MaxLengthCriteria(5), "length"), (EosTokenCriteria(90), "end-of-sequence"), (MaxTimeCriteria(0.0), "time")],
)
def test_a_criterion_of_transformers_that_the_caller_gives(criterion, why, tiny, tokenizer):
    """They take the place of those that generate makes itself, so they go in as they are."""
    call = says(tiny, tokenizer, [80, 90], max_new_tokens=9, stopping_criteria=[criterion])
    assert (len(call.new_ids), call.stopped_by) == (1 if why == "time" else 2, why)


def test_a_stop_string_that_begins_in_the_prompt(tiny, tokenizer):
    ids = tokenizer("a;", return_tensors="pt")["input_ids"]
    call = says(tiny, tokenizer, [ids[0, 0].item(), ids[0, 1].item()], inputs=ids, stop_strings=[";a"])
    assert (len(call.new_ids), call.stopped_by) == (1, "stop-string")
    prompt = tokenizer("; a;a", return_tensors="pt")["input_ids"]
    free = says(tiny, tokenizer, [90], inputs=prompt, stop_strings=[";a"], max_new_tokens=2)
    assert (len(free.new_ids), free.stopped_by) == (2, "length"), "one that ends in the prompt stops nothing"


# --- settings ----------------------------------------------------------------------------------------------------


def test_settings_come_from_the_caller_then_from_the_model(tokenizer):
    model = tiny_model(repetition_penalty=1.3, max_new_tokens=4, top_k=7)
    before = model.generation_config.to_dict()
    settings = record(model, tokenizer, WORDS, top_k=5, do_sample=True).settings
    assert (settings.repetition_penalty, settings.top_k, settings.do_sample) == (1.3, 5, True)
    assert (settings.max_new_tokens, settings.max_length) == (4, 7)
    assert settings.temperature == 1.0 and settings.num_beams == 1, "resolved, not None"
    assert model.generation_config.to_dict() == before


def test_twenty_new_tokens_where_nothing_is_said(tiny, tokenizer):
    call = says(tiny, tokenizer, [90], max_new_tokens=None)
    assert len(call.new_ids) == 20 and call.settings.max_length == 23


def test_settings_can_be_printed_and_copied(tiny, tokenizer):
    settings = record(tiny, tokenizer, WORDS, max_new_tokens=2).settings
    assert '"max_new_tokens": 2' in str(settings)
    assert copy.deepcopy(settings).to_dict() == settings.to_dict()


# --- steps -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def greedy(model, tokenizer):
    inputs = tokenizer("The capital of France is", return_tensors="pt")
    return record(model, tokenizer, inputs, max_new_tokens=6, eos_token_id=[END, 0])


def test_one_step_for_each_new_token(greedy, tokenizer):
    assert [step.chosen.token_id for step in greedy.steps] == greedy.new_ids
    assert [step.chosen.text for step in greedy.steps] == [tokenizer.decode([i]) for i in greedy.new_ids]


def test_greedy_takes_the_first_candidate(greedy):
    assert all(step.chosen == step.candidates[0] for step in greedy.steps)


def test_candidates_are_those_of_a_forward_pass(greedy, model, tokenizer):
    for step, expected in zip(greedy.steps, probabilities(model, greedy), strict=True):
        assert len(step.candidates) == CANDIDATES
        shares = [candidate.probability for candidate in step.candidates]
        assert shares == sorted(shares, reverse=True)
        assert shares == pytest.approx(expected.topk(CANDIDATES).values.tolist(), abs=1e-3)
        for token_id, text, probability in [step.chosen, *step.candidates]:
            assert probability == pytest.approx(expected[token_id].item(), abs=1e-3)
            assert text == tokenizer.decode([token_id])


def test_end_probability_and_entropy(greedy, model):
    for step, expected in zip(greedy.steps, probabilities(model, greedy), strict=True):
        assert step.end_probability == pytest.approx(expected[[END, 0]].sum().item(), abs=1e-3)
        assert step.entropy == pytest.approx(-(expected * expected.log2()).sum().item(), abs=1e-2)
    assert max(step.end_probability for step in greedy.steps) > 1e-3, "the case needs an end that is not impossible"


def test_entropy_of_a_uniform_model(tokenizer):
    model = tiny_model()
    model.lm_head.weight.data.zero_()
    step = record(model, tokenizer, WORDS, max_new_tokens=1).steps[0]
    assert step.entropy == pytest.approx(log2(VOCABULARY), abs=1e-3)
    assert step.end_probability == pytest.approx(1 / VOCABULARY)


def test_a_sampled_token_outside_the_candidates_has_its_own_probability(tokenizer):
    model = tiny_model()
    torch.manual_seed(3)
    call = record(
        model, tokenizer, WORDS, max_new_tokens=8, do_sample=True, temperature=5.0, top_k=0, eos_token_id=None
    )
    outside = 0
    for step, expected in zip(call.steps, probabilities(model, call), strict=True):
        assert step.chosen.probability == pytest.approx(expected[step.chosen.token_id].item(), abs=1e-5)
        outside += step.chosen not in step.candidates
    assert outside


def test_temperature_and_top_k_are_not_in_the_probabilities(tiny, tokenizer):
    settings = {"do_sample": True, "temperature": 0.3, "top_k": 2, "top_p": 0.5, "eos_token_id": None}
    call = record(tiny, tokenizer, WORDS, max_new_tokens=3, **settings)
    expected = probabilities(tiny, call)
    for step, share in zip(call.steps, expected, strict=True):
        assert [c.probability for c in step.candidates] == pytest.approx(
            share.topk(CANDIDATES).values.tolist(), abs=1e-4
        )


def test_penalties_are_in_the_probabilities(tiny, tokenizer):
    prompt = torch.arange(100, 200)[None]
    call = record(tiny, tokenizer, prompt, max_new_tokens=1, repetition_penalty=3.0)
    with torch.no_grad():
        logits = tiny(prompt).logits[:, -1].float()
    plain_shares = logits[0].softmax(-1).topk(CANDIDATES).values.tolist()
    penalised = RepetitionPenaltyLogitsProcessor(3.0)(prompt, logits.clone())[0].softmax(-1)
    shares = [candidate.probability for candidate in call.steps[0].candidates]
    assert shares == pytest.approx(penalised.topk(CANDIDATES).values.tolist(), abs=1e-4)
    assert shares != pytest.approx(plain_shares, abs=1e-2), "the case needs a penalty that matters"


def test_left_padded_rows_have_steps_of_their_own(tiny, tokenizer):
    together = record(tiny, tokenizer, BATCH, max_new_tokens=3).rows
    for row, ids in zip(together, ([50], [40, 50, 60], [70, 80]), strict=True):
        alone = record(tiny, tokenizer, torch.tensor([ids]), max_new_tokens=3)
        assert row.new_ids == alone.new_ids
        for step, expected in zip(row.steps, alone.steps, strict=True):
            assert [c.probability for c in step.candidates] == pytest.approx(
                [c.probability for c in expected.candidates], abs=1e-4
            )


def test_samples_have_steps_of_their_own(tiny, tokenizer):
    settings = {"do_sample": True, "temperature": 4.0, "num_return_sequences": 2, "eos_token_id": None}
    call = record(tiny, tokenizer, BATCH, max_new_tokens=3, **settings)
    assert [row.prompt_ids for row in call.rows] == [[50]] * 2 + [[40, 50, 60]] * 2 + [[70, 80]] * 2
    assert [[step.chosen.token_id for step in row.steps] for row in call.rows] == [row.new_ids for row in call.rows]
    for row in (2, 3):  # those without padding
        for step, share in zip(call.rows[row].steps, probabilities(tiny, call, row), strict=True):
            assert step.chosen.probability == pytest.approx(share[step.chosen.token_id].item(), abs=1e-4)


def test_fewer_candidates_than_usual_in_a_small_vocabulary(tokenizer):
    step = record(tiny_model(6), tokenizer, torch.tensor([[3, 4]]), max_new_tokens=1).steps[0]
    assert len(step.candidates) == 6 and sum(c.probability for c in step.candidates) == pytest.approx(1)


@pytest.mark.parametrize("settings", [{"num_beams": 2}, {"prompt_lookup_num_tokens": 3}])
@pytest.mark.parametrize("prompt", [WORDS, LOOPING])
def test_no_steps_for_beams_and_prompt_lookup(settings, prompt, tiny, tokenizer):
    call = record(tiny, tokenizer, prompt, max_new_tokens=4, **settings)
    assert call.new_ids and call.steps == []


def test_a_step_that_generate_takes_back(tiny, tokenizer, monkeypatch):
    """On Apple GPUs, generate notices the end one step late and drops what it computed meanwhile."""
    if not hasattr(generation_utils, "DeferredStopCheck"):
        pytest.skip("this transformers does not")

    class Late(generation_utils.StopCheck):
        is_supported = staticmethod(lambda *args, **kwargs: True)
        late = noticed = False

        def __init__(self, input_ids, max_length, cache, cache_is_returned, streamer=None):
            super().__init__(streamer)

        def __call__(self, unfinished_sequences, tokens, length):
            self.late, self.noticed = self.noticed, bool(unfinished_sequences.max() == 0)
            return self.late

        def finish(self):
            return 1

    expected = says(tiny, tokenizer, [90, 91, END])
    monkeypatch.setattr(generation_utils, "DeferredStopCheck", Late)
    call = says(tiny, tokenizer, [90, 91, END])
    assert torch.equal(call.output_ids, expected.output_ids)
    assert call.rows == expected.rows and len(call.steps) == 3


def test_nothing_of_the_vocabularys_size_is_kept(tiny, tokenizer, monkeypatch):
    listeners, original = [], Heard.of
    monkeypatch.setattr(Heard, "of", lambda call: listeners.append(original(call)) or listeners[-1])
    call = record(tiny, tokenizer, BATCH, max_new_tokens=5)
    kept = [value for value in vars(listeners[0].processor).values() if isinstance(value, torch.Tensor)]
    assert kept and max(tensor.numel() for tensor in kept) <= 16 * 3 * (3 + 2 * CANDIDATES)
    assert call.rows[0].steps.kept.numel() <= 5 * 3 * (3 + 2 * CANDIDATES)


def test_steps_can_be_cut_joined_and_compared(greedy):
    steps = greedy.steps
    assert steps[:2] == [steps[0], steps[1]] and [*steps[:2], *steps[2:]] == steps and steps[-1] == list(steps)[-1]
    assert steps != steps[:2] and repr(steps[:1]) == repr([steps[0]])


def test_large_ids_are_kept_exactly(tokenizer):
    model = tiny_model(262_144)
    step = says(model, tokenizer, [262_143, 262_142], max_new_tokens=2).steps[1]
    assert step.chosen.token_id == step.candidates[0].token_id == 262_142


def test_without_a_tokenizer_the_texts_are_empty(tiny):
    call = record(tiny, None, WORDS, max_new_tokens=3)
    assert len(call.new_ids) == 3 and call.new_text == call.steps[0].chosen.text == ""
    assert call.steps[0].chosen.token_id == call.new_ids[0]


def test_a_recorded_call_has_a_report(model, tokenizer):
    call = record(model, tokenizer, tokenizer("What is the capital of France?", return_tensors="pt"), max_new_tokens=9)
    assert "prompt-template" in call.report.rules and "prompt-template" in repr(call)


def test_scores_that_are_not_numbers(tokenizer):
    model = tiny_model()
    for weight in model.parameters():
        weight.data.fill_(float("nan"))
    call = record(model, tokenizer, WORDS, max_new_tokens=2)
    assert torch.equal(call.output_ids, model.generate(WORDS, max_new_tokens=2))
    assert len(call.steps) == 2 and call.steps[0].entropy != call.steps[0].entropy


# --- messages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "what"),
    [
        ("The capital", "a str"),
        (["The", "capital"], "a list"),
        ([[5, 6]], "a list"),
        (torch.tensor([5, 6]), r"shape \(2,\): one row is `ids\[None\]`"),
        (torch.tensor([[5, 6]]).numpy(), "a ndarray"),
        ({"input_ids": [[5, 6]]}, "input_ids of type list"),
        ({"input_ids": torch.tensor([[5, 6]]).numpy()}, "input_ids of type ndarray"),
        ({"attention_mask": torch.tensor([[1, 1]])}, "a dict"),
    ],
)
def test_inputs_that_generate_cannot_take(inputs, what, tiny, tokenizer):
    with pytest.raises(TypeError, match=what) as error:
        record(tiny, tokenizer, inputs)
    assert 'tokenizer(texts, return_tensors="pt")' in str(error.value)


def test_something_else_than_a_model(tokenizer):
    with pytest.raises(TypeError, match="the first of these is a TokenizersBackend"):
        record(tokenizer, tokenizer, WORDS)


def test_encoder_decoder_model(tokenizer):
    model = SimpleNamespace(config=SimpleNamespace(is_encoder_decoder=True), generate=None)
    with pytest.raises(ValueError, match="decoder-only"):
        record(model, tokenizer, WORDS)


@pytest.mark.parametrize("name", ["prompt_ids", "new_ids", "prompt_text", "new_text", "stopped_by", "steps"])
def test_a_batch_has_no_single_answer(name, tiny, tokenizer):
    call = record(tiny, tokenizer, BATCH, max_new_tokens=1)
    with pytest.raises(ValueError, match=r"3 rows: say which, as in call.rows\[0\]"):
        getattr(call, name)
    assert getattr(record(tiny, tokenizer, WORDS, max_new_tokens=1), name)


def test_repr_tells_each_row_in_a_line(tiny, tokenizer):
    stop = tokenizer("\n").input_ids[0]
    lines = repr(says(tiny, tokenizer, [stop, END], [90], [90], inputs=BATCH, max_new_tokens=3)).splitlines()
    assert lines[0] == r"row 0: 1 prompt tokens, 2 new, stopped by end-of-sequence: '\n'"
    assert lines[1].startswith("row 1: 3 prompt tokens, 3 new, stopped by length: ")
