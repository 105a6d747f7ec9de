"""The rules of pitfalls/inspector/rules/weights.py: a section for each, in their order."""

import threading

import pytest
import torch
from peft import IA3Config, LoraConfig, PromptTuningConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, LogitsProcessorList

import pitfalls
from tests.helpers import tiny_llama
from tests.inspector.rules.calls import bare, ids, rules, watched

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


# --- untrained-weights ------------------------------------------------------------------------------------------


def random_model(hidden_size=128, vocab_size=2000):
    torch.manual_seed(0)
    sizes = {"intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocab_size, hidden_size=hidden_size, **sizes)).eval()


@pytest.mark.parametrize("settings", [{}, {"do_sample": True, "temperature": 0.1}, {"repetition_penalty": 1.3}])
def test_untrained_weights(settings):
    said = watched(random_model(), None, ids([50, 51], [52, 53]), **settings)["untrained-weights"]
    assert said.severity == "warning" and "nearly all 2000" in said.message and "at most 11.0" in said.message
    assert "untrained-weights" not in rules(random_model(), None, ids([50, 51])), "only a call tells"


def test_an_untrained_head(model, tokenizer):
    other = type(model)(model.config)
    other.model = model.model
    other.lm_head.weight = torch.nn.Parameter(torch.randn(model.lm_head.weight.shape) * 0.02)
    inputs = bare(tokenizer, "The capital of France is")
    assert "untrained-weights" in watched(other.eval(), tokenizer, inputs, max_new_tokens=1)


def test_trained_weights_are_sure_of_something(model, tokenizer):
    for prompt in ("The", "\n", "<|im_start|>", "xq vbz 77 //"):
        inputs = bare(tokenizer, prompt)
        assert "untrained-weights" not in watched(
            model, tokenizer, inputs, max_new_tokens=1, do_sample=True, temperature=9.0
        )


def test_toys_and_small_vocabularies_and_scores_of_the_callers_own():
    assert "untrained-weights" not in watched(random_model(64), None, ids([50, 51]))
    assert "untrained-weights" not in watched(random_model(vocab_size=30), None, ids([5, 6]))
    given = {"logits_processor": LogitsProcessorList([lambda ids, scores: scores * 0])}
    assert "untrained-weights" not in watched(random_model(), None, ids([50, 51]), **given)
    assert "untrained-weights" not in watched(random_model(), None, ids([50, 51]), [60, 61])
    assert "untrained-weights" not in watched(random_model(), None, ids([50, 51]), num_beams=2), "steps are not known"


# --- adapter-off ------------------------------------------------------------------------------------------------


def adapted(**options):
    options = {"target_modules": ["q_proj", "v_proj"], "init_lora_weights": False} | options
    return get_peft_model(tiny_llama(300), LoraConfig(**options)).eval()


def of_adapter(peft) -> list[str]:
    """What `watch` and `check` say about the adapter."""
    with pitfalls.watch() as calls:
        peft.generate(**ids([50, 51]), max_new_tokens=2)
    found = [finding for finding in calls.report if finding.rule == "adapter-off"]
    assert ("adapter-off" in pitfalls.check(peft, None, ids([50, 51])).rules) is bool(found)
    return [f"{finding.severity}: {finding.message} {finding.fix}" for finding in found]


def test_adapter_off():
    peft = adapted()
    peft.base_model.disable_adapter_layers()
    (said,) = of_adapter(peft)
    assert said.startswith("warning: All layers of the adapter are switched off")
    peft.base_model.enable_adapter_layers()
    assert not of_adapter(peft)


def test_an_adapter_that_is_switched_off_on_purpose():
    peft = adapted()
    with peft.disable_adapter():
        assert not of_adapter(peft)
        assert not of_adapter(peft.get_base_model()), "of the base alone nothing is known"
        thread = threading.Thread(target=lambda: threads.append(of_adapter(peft)))
        threads = []
        thread.start()
        thread.join()
        assert threads == [[]]
    assert not of_adapter(peft)


def test_adapters_that_transformers_loaded_itself():
    native = tiny_llama(300)
    native.add_adapter(LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    native.eval()
    assert not of_adapter(native)
    native.disable_adapters()
    (said,) = of_adapter(native)
    assert said.startswith("note: ") and said.endswith("model.enable_adapters()")
    native.enable_adapters()
    assert not of_adapter(native)


def test_an_adapter_of_zeros():
    peft = adapted(init_lora_weights=True)
    assert of_adapter(peft)[0].startswith("note: All B matrices of the LoRA are zero"), "it may be trained next"
    peft.requires_grad_(False)
    (said,) = of_adapter(peft)
    assert said.startswith("warning: ")
    names = {"model": peft}
    exec(rules(peft, None, ids([50]))["adapter-off"].fix, names)
    assert not of_adapter(names["model"])


def test_a_second_adapter_of_zeros():
    peft = adapted()
    peft.add_adapter("two", LoraConfig(target_modules=["q_proj"]))
    assert not of_adapter(peft)
    peft.set_adapter("two")
    assert "zero" in of_adapter(peft)[0]
    peft.base_model.set_adapter([])
    (said,) = of_adapter(peft.base_model.model)
    assert "No adapter is active" in said and said.endswith("model.set_adapter('default')")
    peft.set_adapter("default")
    assert not of_adapter(peft)


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(target_modules=["q_proj"], modules_to_save=["lm_head"]),
        LoraConfig(target_modules=["embed_tokens"], init_lora_weights=False),
        LoraConfig(target_modules=["q_proj"], init_lora_weights=False, use_dora=True),
        IA3Config(target_modules=["q_proj", "down_proj"], feedforward_modules=["down_proj"]),
        PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
    ],
    ids=["other modules too", "embeddings", "dora", "ia3", "prompt tuning"],
)
def test_adapters_that_do_something(config):
    assert not of_adapter(get_peft_model(tiny_llama(300), config).eval())


def test_an_adapter_that_was_merged():
    peft = adapted()
    peft.merge_adapter()
    assert not of_adapter(peft)
    assert not of_adapter(peft.unload())


# --- offloaded --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ({"model": "cpu", "lm_head": "disk"}, "1 of the 2 parts of this model lie on the disk"),
        ({"a": 0, "b": "cpu", "c": "cpu"}, "2 of the 3 parts of this model lie on the CPU, the others on a GPU"),
        ({"a": 0, "b": "cpu", "c": "disk"}, "1 of the 3 parts of this model lie on the disk"),
    ],
)
def test_offloaded(places, said):
    model = tiny_llama(300)
    model.hf_device_map = places
    found = rules(model, None, ids([50]))["offloaded"]
    assert found.severity == "note" and said in found.message


@pytest.mark.parametrize("places", [{"": "cpu"}, {"a": "cpu", "b": "cpu"}, {"": 0}, {"a": 0, "b": 1}, {}, None])
def test_a_model_that_lies_in_one_kind_of_memory(places):
    model = tiny_llama(300)
    model.hf_device_map = places
    assert "offloaded" not in rules(model, None, ids([50]))
