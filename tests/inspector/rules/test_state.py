"""The rules of pitfalls/inspector/rules/state.py: a section for each, in their order."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from pitfalls.inspector.call import Call
from pitfalls.inspector.checking import RULES
from tests.helpers import tiny_llama
from tests.inspector.rules.calls import explained, ids, rules, variant, watched

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


# --- half-precision ---------------------------------------------------------------------------------------------


def test_half_precision():
    half = tiny_llama(300).half()
    assert "float16" in rules(half, None, ids([50]))["half-precision"].message
    assert "half-precision" in watched(half, None, ids([50]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_precisions_and_other_devices(dtype):
    assert not rules(tiny_llama(300).to(dtype), None, ids([50]))
    elsewhere = type("Model", (), {"dtype": torch.float16, "device": torch.device("cuda")})
    assert "half-precision" not in rules(elsewhere(), None, ids([50]))


# --- nan-logits -------------------------------------------------------------------------------------------------


def test_nan_logits():
    broken = tiny_llama(300)
    broken.lm_head.weight.data[7] = float("nan")
    found = watched(broken, None, ids([50, 51]))["nan-logits"]
    assert found.severity == "error" and found.message.startswith("The logits")
    note = explained(broken, None, lambda: broken.generate(**ids([50]), do_sample=True))["nan-logits"]
    assert "error: nan-logits" in note
    error = RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
    assert "no number to draw from" in RULES["nan-logits"](Call(error=error)).message


def test_nan_logits_names_the_row():
    broken = tiny_llama(300)
    broken.model.embed_tokens.weight.data[99] = float("nan")
    given = ids([50, 51], [99, 52], mask=[[1, 1], [1, 1]])
    assert "Row 1's" in watched(broken, None, given)["nan-logits"].message


def test_minus_infinity_is_a_number(tiny, tokenizer):
    assert "nan-logits" not in watched(tiny, tokenizer, ids([50]), do_sample=True, top_k=2, bad_words_ids=[[80]])
    assert "nan-logits" not in watched(tiny, tokenizer, ids([50], [51]))


# --- train-mode -------------------------------------------------------------------------------------------------


def test_train_mode():
    model = tiny_llama(300).train()
    assert "model.training is True" in rules(model, None, ids([50]))["train-mode"].message
    assert "train-mode" in watched(model, None, ids([50]))
    assert "train-mode" not in rules(model.eval(), None, ids([50]))


def test_train_mode_of_an_adapter_alone():
    peft = get_peft_model(tiny_llama(300), LoraConfig(target_modules=["q_proj"], lora_dropout=0.25))
    assert not peft.get_base_model().training
    assert "its dropout (p=0.25)" in rules(peft, None, ids([50]))["train-mode"].message
    assert "train-mode" in watched(peft.get_base_model(), None, ids([50]))
    assert "train-mode" not in rules(peft.eval(), None, ids([50]))
    peft.add_adapter("two", LoraConfig(target_modules=["q_proj", "v_proj"], lora_dropout=0.5))
    assert "train-mode" not in rules(peft, None, ids([50])), "the new one is not active"
    peft.set_adapter("two")
    assert "p=0.5" in rules(peft, None, ids([50]))["train-mode"].message
    with peft.disable_adapter():
        assert "train-mode" not in rules(peft, None, ids([50]))
    without = get_peft_model(tiny_llama(300), LoraConfig(target_modules=["q_proj"]))
    assert without.training and "train-mode" not in rules(without, None, ids([50])), "nothing to switch off"


def test_training_of_the_weights_is_no_train_mode(tiny):
    assert all(weight.requires_grad for weight in tiny.parameters())
    assert "train-mode" not in rules(tiny, None, ids([50]))


# --- use-cache --------------------------------------------------------------------------------------------------


def test_use_cache_is_off():
    model = tiny_llama(300)
    assert "cache is off" in rules(model, None, ids([50]), use_cache=False)["use-cache"].message
    assert "use-cache" in rules(variant(model, use_cache=False), None, ids([50]))
    model.gradient_checkpointing_enable()
    assert "use-cache" in rules(model.train(), None, ids([50]))


@pytest.mark.parametrize("settings", [{}, {"use_cache": True}, {"use_cache": None}])
def test_use_cache_is_on(settings):
    model = tiny_llama(300)
    assert not rules(model, None, ids([50]), **settings)
    model.gradient_checkpointing_enable()
    assert not rules(model.eval(), None, ids([50]), **settings), "checkpointing matters in training mode only"
    assert "use-cache" not in rules(tiny_llama(300).train(), None, ids([50]))


# --- device -----------------------------------------------------------------------------------------------------


def located(device: str):
    return type("Model", (), {"device": torch.device(device), "dtype": torch.float32})()


def test_device_of_the_inputs_is_another(tokenizer):
    assert "ids are on cpu, the model is on cuda" in rules(located("cuda:0"), tokenizer, ids([50]))["device"].message
    assert (
        "on meta, the model is on cpu"
        in rules(located("cpu"), None, torch.zeros((1, 2), device="meta"))["device"].message
    )
    error = RuntimeError("Expected all tensors to be on the same device, but found two")
    assert RULES["device"](Call(error=error)).severity == "error"


def test_device_is_the_same_or_unknown(tiny, tokenizer):
    assert "device" not in rules(tiny, tokenizer, ids([50]))
    assert "device" not in rules(None, tokenizer, ids([50]))
    assert RULES["device"](Call(error=RuntimeError("out of memory"))) is None


def test_a_model_whose_weights_are_offloaded_takes_its_inputs_from_anywhere(tokenizer):
    assert "device" not in rules(located("meta"), tokenizer, ids([50])), "accelerate leaves them on meta meanwhile"


def test_a_model_whose_weights_were_not_loaded():
    empty = tiny_llama(300).to("meta")
    note = explained(empty, None, lambda: empty.generate(**ids([50]), max_new_tokens=2))["device"]
    assert "they were not loaded" in note
    error = RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
    assert RULES["device"](Call(empty, error=error)) is None, "an offloaded model's weights are there too meanwhile"


# --- no-generate ------------------------------------------------------------------------------------------------


def test_no_generate_in_a_wrapper():
    wrapped = torch.nn.DataParallel(tiny_llama(300))
    note = explained(None, None, lambda: wrapped.generate(**ids([50])))["no-generate"]
    assert "DataParallel hides the model's generate" in note and "model.module" in note
    error = AttributeError("'DistributedDataParallel' object has no attribute 'generate'")
    assert "on model.module" in RULES["no-generate"](Call(error=error)).message


@pytest.mark.parametrize("kind", ["LlamaModel", "GPT2Model", "BertForSequenceClassification"])
def test_no_generate_without_a_head(kind):
    found = RULES["no-generate"](Call(error=AttributeError(f"'{kind}' object has no attribute 'generate'")))
    assert found.message.startswith(kind) and "AutoModelForCausalLM.from_pretrained" in found.fix
    model = tiny_llama(300).model
    assert "LlamaModel is a model" in explained(None, None, lambda: model.generate(**ids([50])))["no-generate"]


@pytest.mark.parametrize("kind", ["NoneType", "dict", "Sequential", "MyModel", "T5EncoderModel"])
def test_other_things_have_no_generate_either(kind):
    assert RULES["no-generate"](Call(error=AttributeError(f"'{kind}' object has no attribute 'generate'"))) is None
    assert RULES["no-generate"](Call(error=AttributeError(f"'{kind}' object has no attribute 'model'"))) is None
