"""What the inspector relies on in transformers that is not promised to stay: one test for each such place.

Everything else goes through public arguments and public methods. When a new transformers breaks one of these, the place
is named here, and the code beside it says what is lost without it.
"""

import pytest
import torch
from transformers import GenerationConfig, TextGenerationPipeline, pipeline
from transformers.generation import GenerationMixin
from transformers.utils import logging

from pitfalls import watch
from pitfalls.inspector.call import DEFAULT_BUDGET, DEFAULTS, PIPELINE_DEFAULTS, Call
from tests.helpers import Script


def test_the_defaults_of_generate_are_those_that_it_fills_in():
    filled_in = GenerationConfig._get_default_generation_params()
    assert {name: filled_in.get(name) for name in DEFAULTS} == DEFAULTS
    assert filled_in["max_length"] == DEFAULT_BUDGET


def test_the_defaults_of_the_pipeline_are_those_that_it_fills_in():
    filled_in = TextGenerationPipeline._default_generation_config.to_diff_dict()
    filled_in.pop("transformers_version", None)
    assert filled_in == PIPELINE_DEFAULTS


@pytest.mark.parametrize("asked", [{"do_sample": True}, {}])
def test_a_pipeline_keeps_what_its_maker_asked_for(asked, model, tokenizer):
    """`_generate_kwargs`. Without it, what was asked when the pipeline was made is taken for its default."""
    ask = pipeline("text-generation", model=model, tokenizer=tokenizer, **asked)
    if not hasattr(ask, "_generate_kwargs"):
        pytest.skip("this transformers does not keep it")
    with watch(model) as calls:
        ask("1, 2,", max_new_tokens=1)
    assert ("model-defaults" in calls[0].report.rules) is not bool(asked)


def test_generate_is_a_method_of_one_class_that_can_be_replaced(model):
    assert type(model).generate is vars(GenerationMixin)["generate"]


def test_processors_of_the_caller_run_before_temperature_and_top_k(model, tokenizer):
    seen = []

    class Looks(Script):
        def __call__(self, input_ids, scores):
            seen.append(scores)
            return scores

    inputs = tokenizer("1, 2,", return_tensors="pt")
    settings = {"do_sample": True, "temperature": 0.1, "top_k": 2, "max_new_tokens": 1}
    model.generate(**inputs, **settings, logits_processor=[Looks(0, [0])])
    with torch.no_grad():
        assert torch.allclose(seen[0], model(**inputs).logits[:, -1].float(), atol=1e-3)


def test_what_is_said_once_can_be_heard_again():
    """The catalogue clears the memory of `warning_once`, to hear what transformers says of each mistake."""
    logging.warning_once.cache_clear()


@pytest.mark.parametrize(
    "settings", [{}, {"max_new_tokens": 3}, {"max_length": 9}, {"temperature": 0.3, "do_sample": True, "top_k": 7}]
)
@pytest.mark.parametrize("own", [{}, {"max_new_tokens": 4}, {"repetition_penalty": 1.3, "eos_token_id": [2, 9]}])
def test_settings_are_resolved_as_generate_does(settings, own, model, tokenizer, monkeypatch):
    monkeypatch.setattr(model, "generation_config", GenerationConfig(**{"eos_token_id": 2, "pad_token_id": 2} | own))
    inputs = tokenizer("1, 2,", return_tensors="pt")
    used, original = [], GenerationMixin._get_stopping_criteria

    def asked(self, *, generation_config, **others):
        used.append(generation_config)
        return original(self, generation_config=generation_config, **others)

    monkeypatch.setattr(GenerationMixin, "_get_stopping_criteria", asked)
    model.generate(**inputs, **settings)
    ours = Call(model, tokenizer, {**inputs, **settings}).settings.to_dict()
    theirs = used[0].to_dict()
    assert {name: ours[name] for name in (*DEFAULTS, "max_length", "eos_token_id")} == {
        name: theirs[name] for name in (*DEFAULTS, "max_length", "eos_token_id")
    }
