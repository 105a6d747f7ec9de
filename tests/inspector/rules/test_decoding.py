"""The rules of pitfalls/inspector/rules/decoding.py: a section for each, in their order."""

import re

import pytest
from transformers import GenerationConfig, set_seed
from transformers import pipeline as make_pipeline

import pitfalls
from tests.helpers import END
from tests.inspector.rules.calls import AGAIN, ASKED, bare, chat_of, explained, ids, rules, variant, watched

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


# --- decoding-mode ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "turns"), [([80], 30), ([80, 81, 82], 10), ([80, 80, 81], 10), (list(range(80, 90)), 3)]
)
def test_decoding_mode_names_the_loop(period, turns, tiny, tokenizer):
    found = watched(
        tiny, tokenizer, ids([50, 51]), [70, 71, 72, *period * turns], max_new_tokens=3 + len(period) * turns
    )
    assert f"{turns} times" in found["decoding-mode"].message


def test_decoding_mode_of_one_row_among_others(tiny, tokenizer):
    found = watched(tiny, tokenizer, ids([50], [60]), list(range(70, 100)), [80, 81] * 15, max_new_tokens=30)
    assert repr(tokenizer.decode([80, 81])) in found["decoding-mode"].message


@pytest.mark.parametrize(
    "said",
    [list(range(70, 100)), [80, 81, 82] * 3 + list(range(90, 111)), [*[80] * 29, END], [70] * 15 + [80, 81] * 7 + [90]],
    ids=["no-loop", "left-the-loop", "ended", "short-loops"],
)
def test_a_text_that_does_not_end_in_a_loop(said, tiny, tokenizer):
    assert "decoding-mode" not in watched(tiny, tokenizer, ids([50, 51]), said, max_new_tokens=30)


@pytest.mark.parametrize(
    ("prompt", "loops"),
    [
        ("Repeat the word yes a hundred times: yes", False),
        ("ha ha ha ha", False),
        ("Once upon a time", True),
        ("Say yes", True),
    ],
)
def test_a_repetition_that_was_asked_for(prompt, loops, tiny, tokenizer):
    said = (" ha" if prompt.startswith("ha") else " yes") * 30
    found = watched(tiny, tokenizer, tokenizer(prompt, return_tensors="pt"), said, max_new_tokens=30)
    assert ("decoding-mode" in found) is loops


def test_decoding_mode_needs_an_output_and_is_about_greedy_decoding(tiny, tokenizer):
    assert "decoding-mode" not in rules(tiny, tokenizer, ids([50, 51]))
    assert "decoding-mode" not in watched(tiny, tokenizer, ids([50]), [80], max_new_tokens=30, do_sample=True)


def test_counting_is_no_loop(tiny, tokenizer):
    said = ", ".join(map(str, range(1, 15)))
    assert "decoding-mode" not in watched(tiny, tokenizer, ids([50, 51]), said, max_new_tokens=30)


# --- ignored-sampling-flags -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"temperature": 0.7}, "temperature=0.7 has"),
        ({"top_p": 0.9, "top_k": 10}, "top_p=0.9, top_k=10 have"),
        ({"generation_config": GenerationConfig(min_p=0.1)}, "min_p=0.1 has"),
        ({"temperature": 0.7, "num_beams": 3}, "temperature=0.7 has"),
    ],
)
def test_ignored_sampling_flags(settings, named, tiny, tokenizer):
    assert named in rules(tiny, tokenizer, ids([50]), **settings)["ignored-sampling-flags"].message
    assert "ignored-sampling-flags" not in rules(tiny, tokenizer, ids([50]), do_sample=True, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"do_sample": False, "temperature": None, "top_p": None, "top_k": None},
        {"temperature": 1.0, "top_p": 1.0, "top_k": 0},
        {"penalty_alpha": 0.6, "top_k": 4},
    ],
)
def test_flags_that_change_nothing_are_not_ignored(settings, tiny, tokenizer):
    assert "ignored-sampling-flags" not in rules(tiny, tokenizer, ids([50]), **settings)


def test_flags_of_the_model_are_not_the_callers(tiny, tokenizer):
    assert not rules(variant(tiny, temperature=0.6, top_p=0.9), tokenizer, ids([50]))


# --- temperature-zero -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 0.0, -0.5])
def test_temperature_zero_with_sampling(value, tiny, tokenizer):
    finding = rules(tiny, tokenizer, ids([50]), do_sample=True, temperature=value)["temperature-zero"]
    assert finding.severity == "error" and f"temperature={value} " in finding.message
    note = explained(tiny, tokenizer, lambda: tiny.generate(**ids([50]), do_sample=True, temperature=float(value)))
    assert "temperature-zero" in note


def test_temperature_zero_without_sampling_is_a_note(tiny, tokenizer):
    assert rules(tiny, tokenizer, ids([50]), temperature=0.0)["temperature-zero"].severity == "note"
    sampler = variant(tiny, do_sample=True)
    assert rules(sampler, tokenizer, ids([50]), temperature=0.0)["temperature-zero"].severity == "error"


@pytest.mark.parametrize(
    "settings", [{"do_sample": True, "temperature": 0.01}, {"do_sample": True}, {"temperature": None}, {}]
)
def test_other_temperatures(settings, tiny, tokenizer):
    assert "temperature-zero" not in rules(tiny, tokenizer, ids([50]), **settings)


# --- high-temperature -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"top_k": 0}, {"top_k": None}, {"top_k": 0, "top_p": 1.0, "min_p": 0}])
def test_high_temperature_without_a_filter(settings, tiny, tokenizer):
    found = rules(tiny, tokenizer, ids([50]), do_sample=True, temperature=2.0, **settings)["high-temperature"]
    assert "temperature=2.0" in found.message and found.severity == "warning"


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 2.0},  # with the default top_k=50
        {"temperature": 2.0, "top_k": 0, "min_p": 0.1},
        {"temperature": 2.0, "top_k": 0, "top_p": 0.9},
        {"temperature": 2.0, "top_k": 0, "epsilon_cutoff": 3e-4},
        {"temperature": 2.0, "top_k": 0, "logits_processor": [lambda ids, scores: scores]},
        {"temperature": 1.2, "top_k": 0},
        {"temperature": 2.0, "top_k": 0, "do_sample": False},
    ],
)
def test_a_temperature_that_is_low_or_filtered(settings, tiny, tokenizer):
    assert "high-temperature" not in rules(tiny, tokenizer, ids([50]), **{"do_sample": True} | settings)


def test_high_temperature_counts_what_was_drawn(model, tokenizer):
    set_seed(0)
    chat, settings = chat_of(tokenizer, ASKED), {"do_sample": True, "max_new_tokens": 12}
    found = watched(model, tokenizer, chat, temperature=2.0, top_k=0, **settings)["high-temperature"]
    assert re.search(r"\d+ of 12 new tokens", found.message) and found.severity == "warning"
    assert "high-temperature" not in watched(model, tokenizer, chat, temperature=2.0, top_k=0, min_p=0.2, **settings)
    assert "high-temperature" not in watched(model, tokenizer, chat, temperature=1.0, top_k=0, **settings)
    likeliest = watched(model, tokenizer, chat, [80, 81, 82], temperature=2.0, top_k=0, **settings)
    assert "high-temperature" not in likeliest, "a temperature of 2 that drew likely tokens only"


# --- model-defaults ---------------------------------------------------------------------------------------------


def test_model_defaults_names_what_the_model_brings(tiny, tokenizer):
    sampler = variant(tiny, do_sample=True, temperature=0.6, top_k=50)
    finding = rules(sampler, tokenizer, ids([50]))["model-defaults"]
    assert finding.severity == "note" and "do_sample=True, temperature=0.6 came" in finding.message
    found = rules(sampler, tokenizer, ids([50]), do_sample=True)["model-defaults"]
    assert "temperature=0.6" in found.message and "do_sample" not in found.message
    assert "model-defaults" in watched(sampler, tokenizer, ids([50]))


@pytest.mark.parametrize(
    ("own", "named"),
    [
        ({"top_k": 1}, True), ({"top_k": 50}, False), ({"top_k": 0}, False),
        ({"repetition_penalty": 2}, True), ({"repetition_penalty": 2.0}, True), ({"repetition_penalty": 1}, False),
        ({"temperature": 1}, False), ({"top_p": 0.5}, True), ({"min_p": 0.1}, True), ({"min_p": 0}, False),
    ],
)  # fmt: skip
def test_model_defaults_knows_what_changes_something_from_what_does_not(own, named, tiny, tokenizer):
    ((name, value),) = own.items()
    found = rules(variant(tiny, **own), tokenizer, ids([50]), do_sample=True).get("model-defaults")
    assert (found is not None and f"{name}={value} came" in found.message) is named


def test_model_defaults_where_the_caller_decides(tiny, tokenizer):
    sampler = variant(tiny, do_sample=True, temperature=0.6)
    assert not rules(sampler, tokenizer, ids([50]), do_sample=False)
    assert not rules(sampler, tokenizer, ids([50]), do_sample=True, temperature=0.9)
    assert not rules(tiny, tokenizer, ids([50]), do_sample=True, temperature=0.9)
    assert not rules(variant(tiny, temperature=0.6), tokenizer, ids([50]))


def test_a_pipeline_samples_by_itself(tiny, tokenizer):
    pipe = make_pipeline("text-generation", model=variant(tiny), tokenizer=tokenizer)
    with pitfalls.watch(pipe.model, tokenizer) as calls:
        pipe("1, 2, 3,", max_new_tokens=2)
        pipe("1, 2, 3,", max_new_tokens=2, do_sample=False)
        pipe("1, 2, 3,", max_new_tokens=2, do_sample=True)
    assert ["model-defaults" in call.report.rules for call in calls] == [True, False, False]
    assert "temperature 0.7" in str(calls[0].report)
    assert "output = pipe(messages, max_new_tokens=2, do_sample=False)" in str(calls[0].report)
    assert "ignored-sampling-flags" not in calls[1].report.rules, "the pipeline's temperature is not the caller's"


# --- beam-sampling ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beams", [2, 5])
def test_beam_sampling(beams, tiny, tokenizer):
    found = rules(tiny, tokenizer, ids([50]), do_sample=True, num_beams=beams, temperature=0.2)
    assert f"num_beams={beams}" in found["beam-sampling"].message and "0.2" in found["beam-sampling"].message


@pytest.mark.parametrize(
    "settings",
    [{"num_beams": 4}, {"do_sample": True, "num_beams": 4}, {"do_sample": True, "temperature": 0.2},
     {"do_sample": True, "num_beams": 4, "temperature": 1.3}],
)  # fmt: skip
def test_beams_or_sampling_alone(settings, tiny, tokenizer):
    assert not rules(tiny, tokenizer, ids([50]), **settings)


# --- several-sequences ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "searched"),
    [({"num_return_sequences": 3}, "greedy decoding"), ({"num_return_sequences": 3, "num_beams": 2}, "num_beams=2")],
)
def test_several_sequences_that_raise(settings, searched, tiny, tokenizer):
    finding = rules(tiny, tokenizer, ids([50]), **settings)["several-sequences"]
    assert finding.severity == "error" and searched in finding.message and "=3" in finding.message
    assert "do_sample=True" in finding.fix and "num_return_sequences=3" in finding.fix and "beams" not in finding.fix
    assert "several-sequences" in explained(tiny, tokenizer, lambda: tiny.generate(**ids([50]), **settings))


@pytest.mark.parametrize(
    "settings",
    [{"num_return_sequences": 3, "do_sample": True}, {"num_return_sequences": 2, "num_beams": 4}, {"num_beams": 4},
     {"num_return_sequences": 1}],
)  # fmt: skip
def test_several_sequences_from_a_search_that_has_them(settings, tiny, tokenizer):
    assert not rules(tiny, tokenizer, ids([50]), **settings)


def test_beams_that_say_the_same(model, tokenizer):
    inputs = bare(tokenizer, "The capital of France is")
    found = watched(model, tokenizer, inputs, num_beams=2, num_return_sequences=2, max_new_tokens=8)
    assert found["several-sequences"].severity == "note" and "2 beams" in found["several-sequences"].message


# --- repetition-penalty -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("chat", "count"), [(AGAIN, 4), (ASKED, 2)])
def test_repetition_penalty_counts_the_end_tokens_of_the_prompt(chat, count, tiny, tokenizer):
    found = rules(tiny, tokenizer, chat_of(tokenizer, chat), repetition_penalty=1.3)
    assert f"1.3 lowers the end token too, which stands {count} times" in found["repetition-penalty"].message


def test_repetition_penalty_that_is_weak_or_meets_no_end_token(tiny, tokenizer):
    assert "repetition-penalty" not in rules(tiny, tokenizer, chat_of(tokenizer, AGAIN), repetition_penalty=1.05)
    assert not rules(tiny, tokenizer, bare(tokenizer, "1, 2, 3,"), repetition_penalty=1.5)
    assert not rules(tiny, tokenizer, bare(tokenizer, "1, 2, 3,", "1"), repetition_penalty=1.5), (
        "pads are no end tokens"
    )
    assert not rules(tiny, tokenizer, bare(tokenizer, "1, 2, 3,"), repetition_penalty=1.0)


@pytest.mark.parametrize(
    ("penalty", "said"), [(2.0, "far from 1"), (10.0, "far from 1"), (0.5, "below 1"), (0.9, "below 1")]
)
def test_repetition_penalty_far_from_1(penalty, said, tiny, tokenizer):
    found = rules(tiny, tokenizer, bare(tokenizer, "1, 2, 3,"), repetition_penalty=penalty)["repetition-penalty"]
    assert said in found.message and found.severity == "warning"


def test_repetition_penalty_far_from_1_after_the_call(tiny, tokenizer):
    text = bare(tokenizer, "1, 2, 3,")
    assert "repetition-penalty" in watched(tiny, tokenizer, text, [80, 81], repetition_penalty=2.0)
    assert "repetition-penalty" not in watched(tiny, tokenizer, text, [80, END], repetition_penalty=2.0)
    settings = {"repetition_penalty": 0.8, "max_new_tokens": 30}
    assert "repetition-penalty" in watched(tiny, tokenizer, text, [80, 81, 82] * 10, **settings)
    assert "repetition-penalty" not in watched(tiny, tokenizer, text, list(range(70, 100)), **settings)


def test_repetition_penalty_after_the_call(tiny, tokenizer):
    chat = chat_of(tokenizer, AGAIN)
    assert "repetition-penalty" not in watched(tiny, tokenizer, chat, [80, END], repetition_penalty=1.3)
    assert "repetition-penalty" in watched(tiny, tokenizer, chat, [80, 81], repetition_penalty=1.3)
