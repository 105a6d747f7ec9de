"""Each fix cures its own finding: the mistake is run, then the fix as it was printed, with the reader's names."""

import copy
import functools
import re

import pytest
from transformers import LlamaForCausalLM
from transformers.generation import GenerationMixin

import pitfalls
from pitfalls.inspector.rules import RULES
from tests.helpers import tiny_llama
from tests.inspector.rules.calls import ASKED, copied, rules, variant

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

# The fix explains, needs other weights, or an answer longer than two tokens.
NO_CURE = ("nan-logits", "removed-keyword", "thinking-budget")
REAL_OUTPUT = (  # what the model says matters
    "decoding-mode", "pad-mismatch", "removed-keyword", "special-tokens-kept", "trailing-space", "ngrams-of-prompt",
    "bad-words", "high-temperature", "min-length", "stop-text-as-ids", "no-generate", "offloaded", "untrained-weights",
)  # fmt: skip
AFTER_THE_MISTAKE = ("adapter-off",)  # the fix is for a model that the mistake has made
CACHE = (
    "from transformers import DynamicCache\ncache = DynamicCache(config=model.config)\n"
    "whole = model.generate(**inputs, past_key_values=cache, max_new_tokens=5)\n"
)
ADAPTER = "from peft import LoraConfig, get_peft_model\nlora = LoraConfig(target_modules=['q_proj'])\n"
GENERATE = "model.generate(**inputs, max_new_tokens=5"
CHAT = (
    "inputs = tokenizer.apply_chat_template(\n"
    "    messages, add_generation_prompt=True, return_dict=True, return_tensors='pt'\n)\n"
)
PIPE = 'from transformers import pipeline\npipe = pipeline("text-generation", model=model, tokenizer=tokenizer)\n'
VARIANTS: dict[str, list[str]] = {  # other mistakes of a rule, of which the finding has a fix of its own
    "positional-inputs": [
        "model.generate(texts)",
        "model.generate(texts[0])",
        "model.generate(inputs['input_ids'][0])",
        "model.generate(inputs['input_ids'].tolist())",
        "model.generate(dict(inputs))",
        "model.generate(inputs['input_ids'].float(), max_new_tokens=5)",
        "model.generate(inputs['input_ids'][0, 0], max_new_tokens=5)",
    ],
    "answer-cut": [
        "inputs = tokenizer(texts, padding=True, padding_side='left', return_tensors='pt')\n"
        "output = model.generate(**inputs, max_new_tokens=5)\n"
        "[tokenizer.decode(row[int(mask.sum()) :]) for row, mask in zip(output, inputs['attention_mask'])]",
        "output = model.generate(**inputs, max_new_tokens=5)\ntokenizer.decode(output[0, len(inputs) :])",
        "output = model.generate(**inputs, max_new_tokens=5)\ntokenizer.decode(output[0, 99:])",
    ],
    "prompt-echo": [
        "from transformers import TextStreamer\n" + CHAT +
        "model.generate(**inputs, max_new_tokens=5, streamer=TextStreamer(tokenizer))",
    ],
    "padding-side": [
        "chats = [messages, [*messages, {'role': 'assistant', 'content': 'Paris.'}, *messages]]\n"
        "tokenizer.padding_side = 'right'\ninputs = tokenizer.apply_chat_template(\n    chats, padding=True, "
        "add_generation_prompt=True, return_dict=True, return_tensors='pt'\n)\n" + GENERATE + ")",
    ],
    "attention-mask": [f"{GENERATE}, attention_mask=[[1]])".replace("**inputs", "inputs['input_ids']")],
    "max-length": ["model.generation_config.max_length = 3\nmodel.generate(**inputs)"],
    "empty-prompt": ["import torch\nmodel.generate(torch.empty(1, 0), max_new_tokens=5)",
                     "model.generate(max_new_tokens=5)"],
    "ids-past-embedding": ["model.generate(inputs['input_ids'] + 60_000, max_new_tokens=5)"],
    "context-window": [
        "model.config.max_position_embeddings = 12\ninputs = tokenizer(texts[0] * 9, return_tensors='pt')\n"
        "model.generate(**inputs, max_new_tokens=5)",
    ],
    "unknown-argument": [
        f"{GENERATE}, frequency_penalty=0.5, presence_penalty=0.5)",
        f"{GENERATE}, best_of=4)",
        f"{GENERATE}, seed=3, do_sample=True)",
        f"{GENERATE}, temp=0.7)",
        f"{GENERATE}, n=2)",
        f"{GENERATE}, stop=['.'])",
        f"{GENERATE}, stream=True)",
        f"{GENERATE}, quux=1)",
        "model.generate(**inputs, config=model.generation_config)",
        "inputs['token_type_ids'] = inputs['input_ids'] * 0\nmodel.generate(**inputs, max_new_tokens=5)",
        "from transformers import GenerationConfig\n"
        "model.generate(**inputs, generation_config=GenerationConfig(max_new_token=5, temprature=0.2))",
        "model.generate(**inputs, generation_config={'max_new_tokens': 5})",
    ],
    "streamer": [
        "from transformers import TextStreamer\ninputs = tokenizer(texts, padding=True, return_tensors='pt')\n"
        "model.generate(**inputs, max_new_tokens=5, streamer=TextStreamer(tokenizer))",
        "from transformers import TextStreamer\n"
        f"{GENERATE}, do_sample=True, num_return_sequences=2, streamer=TextStreamer(tokenizer))",
    ],
    "special-id": [
        f"{GENERATE}, pad_token_id='</s>')",
        f"{GENERATE}, eos_token_id='<|im_end|>')",
        f"{GENERATE}, eos_token_id=['<|im_end|>', '<|endoftext|>'])",
        f"{GENERATE}, eos_token_id=[2, None])",
        f"{GENERATE}, bos_token_id='<s>')",
        f"model.generation_config.pad_token_id = [2, 0]\n{GENERATE})",
    ],
    "invalid-setting": [
        f"{GENERATE}, do_sample='False')",
        f"{GENERATE}, do_sample='true', temperature=0.7)",
        f"{GENERATE}, do_sample=True, top_p=90)",
        f"{GENERATE}, do_sample=True, top_p=1.5)",
        f"{GENERATE}, do_sample=True, top_p=-0.5)",
        f"{GENERATE}, do_sample=True, min_p=1.5)",
        f"{GENERATE}, do_sample=True, top_k=-1)",
        f"{GENERATE}, do_sample=True, top_k=10.0)",
        f"{GENERATE}, do_sample=True, temperature='0.7')",
        f"{GENERATE}, do_sample=True, temperature=2)",
        f"{GENERATE}, top_k='10')",
        f"{GENERATE}, repetition_penalty=2)",
        f"{GENERATE}, repetition_penalty=0.0)",
        f"{GENERATE}, no_repeat_ngram_size=3.0)",
        f"{GENERATE}, min_new_tokens=2.0)",
        f"{GENERATE}, num_beams='2')",
        f"{GENERATE}, num_beams=0)",
        "model.generate(**inputs, max_new_tokens=0)",
        "model.generate(**inputs, max_new_tokens='many')",
    ],
    "one-candidate": [
        f"{GENERATE}, do_sample=True, top_p=0.0)",
        f"{GENERATE}, do_sample=True, top_k=1, num_return_sequences=2)",
        f"model.generation_config.top_k = 1\n{GENERATE}, do_sample=True, num_return_sequences=2)",
    ],
    "ignored-beam-settings": [f"{GENERATE}, early_stopping=True)", f"{GENERATE}, num_beam_groups=2)"],
    "removed-strategy": [
        f"{GENERATE}, num_beams=4, num_beam_groups=2, diversity_penalty=1.0)",
        f"{GENERATE}, num_beams=4, force_words_ids=[[50]])",
        f"{GENERATE}, dola_layers='low')",
    ],
    "assistant-tokenizer": [f"{GENERATE}, assistant_model=model, tokenizer=tokenizer, assistant_tokenizer=tokenizer)"],
    "repetition-penalty": [
        f"inputs = tokenizer('1, 2, 3, 4,', return_tensors='pt')\n{GENERATE}, repetition_penalty=2.0)",
        f"{GENERATE}0, repetition_penalty=0.5)",
    ],
    "several-sequences": [
        f"{GENERATE}, num_return_sequences=3, num_beams=2)",
        PIPE + "pipe(messages, max_new_tokens=5, do_sample=False, num_return_sequences=3)",
    ],
    "model-defaults": [
        PIPE + "pipe(messages, max_new_tokens=5)",
        "model.generation_config.update(do_sample=True, temperature=0.6)\n"
        + PIPE + "pipe(messages, max_new_tokens=5, do_sample=True)",
    ],
    "stale-cache": [
        CACHE + "model.generate(whole[:, -2:], past_key_values=cache, max_new_tokens=5)",
        CACHE + "mask = whole[:, :7] * 0 + 1\n"
        "model.generate(whole[:, -2:], attention_mask=mask, past_key_values=cache, max_new_tokens=5)",
        CACHE + "model.generate(whole.flip(1), past_key_values=cache, max_new_tokens=5)",
        CACHE + "model.generate(whole.repeat(2, 1), past_key_values=cache, max_new_tokens=5)",
        CACHE + "pairs = tuple((layer.keys, layer.values) for layer in cache.layers)\n"
        "model.generate(whole, past_key_values=pairs, max_new_tokens=5)",
    ],
    "adapter-off": [
        f"{ADAPTER}model = get_peft_model(model, lora).eval()\n{GENERATE})",
        f"{ADAPTER}model = get_peft_model(model, lora).eval()\nmodel.requires_grad_(False)\n{GENERATE})",
        f"{ADAPTER}lora.init_lora_weights = False\nmodel.add_adapter(lora)\nmodel.eval()\n"
        f"model.disable_adapters()\n{GENERATE})",
    ],
    "train-mode": [f"{ADAPTER}lora.lora_dropout = 0.1\nmodel = get_peft_model(model, lora)\n{GENERATE})"],
    "no-generate": ["model.model.generate(**inputs)"],
    "image-placeholders": [
        RULES["image-placeholders"].mistake.partition("model.generate")[0]
        + "model.generate(inputs['input_ids'] * 0 + 59_999, max_new_tokens=5)"
    ],
    "ngrams-of-prompt": [f"{GENERATE}, no_repeat_ngram_size=1)"],
    "bad-words": [f"{GENERATE}, bad_words_ids=[50])"],
    "temperature-zero": [
        f"{GENERATE}, temperature=0.0)",
        PIPE + "pipe(messages, max_new_tokens=5, do_sample=True, temperature=0.0)",
    ],
    "ignored-sampling-flags": [PIPE + "pipe(messages, max_new_tokens=5, do_sample=False, top_p=0.9)"],
    "stop-strings": [
        f"model.generation_config.stop_strings = ['.']\n{GENERATE})",
        PIPE + "pipe(messages, max_new_tokens=5, do_sample=False, stop_strings=['.'])",
    ],
}  # fmt: skip
CASES = [(name, RULES[name].mistake) for name in RULES if name not in NO_CURE]
CASES += [(name, code) for name, codes in VARIANTS.items() for code in codes]


def reader(model, tokenizer) -> dict:
    """The names that the code of a rule may use."""
    inputs = tokenizer("The weather today is", return_tensors="pt")
    texts = ["1, 2, 3", "A, B, C, D, E"]
    return {"model": model, "tokenizer": tokenizer, "inputs": inputs, "texts": texts, "messages": list(ASKED)}


@pytest.fixture
def short(monkeypatch):
    """At most two new tokens, whatever is asked for."""
    original = GenerationMixin.generate

    @functools.wraps(original)
    def generate(self, *args, **kwargs):
        if "max_new_tokens" in kwargs:
            kwargs["max_new_tokens"] = min(2, kwargs["max_new_tokens"])
        return original(self, *args, **kwargs)

    monkeypatch.setattr(GenerationMixin, "generate", generate)


@pytest.mark.parametrize("name", RULES)
def test_the_fix_of_a_rule_runs_as_pasted(name, model, tokenizer, short, tmp_path):
    names = reader(variant(model), copied(tokenizer))
    if name == "removed-keyword":  # loads the model again: a small one
        tiny_llama(64).save_pretrained(tmp_path)
        names["model"] = LlamaForCausalLM.from_pretrained(tmp_path)
    if name in AFTER_THE_MISTAKE:
        exec(RULES[name].mistake, names)
    exec(RULES[name].fix, names)


@pytest.mark.parametrize(("name", "mistake"), CASES, ids=[f"{name}-{n}" for n, (name, _) in enumerate(CASES)])
def test_the_fix_cures_the_mistake(name, mistake, model, tokenizer, request):
    own = copy.deepcopy(tokenizer) if "add_" in mistake else copied(tokenizer)
    names = reader(variant(model) if name in REAL_OUTPUT else tiny_llama(len(own)), own)
    calls, raised = run(mistake, names)
    if raised is not None:
        first, *others = re.findall(r"^(?:error|warning|note): (\S+)$", "\n".join(raised.__notes__), re.MULTILINE)
        assert first == name, "what explains the exception stands first"
        assert all(RULES[other].explains_error(raised) for other in others)
    found = next(finding for finding in calls.report if finding.rule == name)
    request.getfixturevalue("short")
    cured, raised = run(found.fix, names)
    assert raised is None, found.fix
    assert name not in cured.report.rules, found.fix
    assert len(cured) or name not in rules(names["model"], names["tokenizer"], names["inputs"]), found.fix


def run(code: str, names: dict):
    """What `watch` says of the code, and what it raised."""
    raised, calls = None, None
    try:
        with pitfalls.watch(tokenizer=names["tokenizer"]) as calls:
            exec(code, names)
    except Exception as error:
        raised = error
    return calls, raised
