"""Mistakes that people reported in public threads, each as a small call: the inspector names them, and nothing else.

A function `rc…` makes one call. With `wrong=True` it makes the reported mistake, and exactly the rules that stand above
it must be found; with `wrong=False` it is the corrected call, and nothing may be found. A function `cc…` is a call
from a documentation page or a maintainer's answer that is correct as it is.

The number of a case is that of a collection which is not part of this repository; its source is in the comment. Eight
of the mistakes in it are not here, because no call shows them: two sampled texts compared for equality, the small
differences of bf16, a mask lost by another library, an end token masked in fine-tuning, pieces of the output decoded
one by one, a text stream cut inside a character, a budget not forwarded to a server, a quantization never used.
"""

import copy
import functools
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    TextStreamer,
    __version__,
    pipeline,
    set_seed,
)

import pitfalls
from tests.helpers import END, Script, tiny_llama

pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning")]

OLDEST = __version__.startswith("5.0.")  # where it says something else than later versions

START = 1  # <|im_start|>
VOCABULARY = 49152
FRANCE = [{"role": "user", "content": "What is the capital of France?"}]


# --- models and tokenizers ---------------------------------------------------------------------------------------
#
# Each is made from the embedded model or its tokenizer. Tokenizers are shared by all cases: nobody changes them.


def real(model):
    """The embedded model, with settings of its own."""
    model = copy.copy(model)
    model.generation_config = copy.deepcopy(model.generation_config)
    return model


def tiny(_=None, window: int = 512, vocabulary: int = VOCABULARY, **settings):
    """A model with random weights and the vocabulary of the embedded one; `settings` are its generation_config."""
    return tiny_llama(vocabulary, window, **{"bos_token_id": START} | settings)


def gpt2(_=None, window: int = 512):
    """A random model with learned positions and dropout."""
    torch.manual_seed(0)
    ids = {"bos_token_id": 0, "eos_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_positions=window, n_embd=16, n_layer=1, n_head=2, **ids))


def with_settings(**settings) -> Callable:
    return lambda _=None: tiny(**settings)


def chat(tokenizer):
    """The tokenizer of a chat model, ChatML, that adds no BOS."""
    return tokenizer


def base(tokenizer):
    """That of a base model: no chat template, and the end of a text is its end token."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = None
    tokenizer.eos_token = tokenizer.pad_token = tokenizer.bos_token = "<|endoftext|>"
    return tokenizer


def unpadded(tokenizer):
    tokenizer = base(tokenizer)
    tokenizer.pad_token = None
    return tokenizer


def with_bos(tokenizer, template: str | None = None):
    """One that puts a BOS before every text, as Llama's and Gemma's do."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.bos_token, tokenizer.chat_template = "<|endoftext|>", template
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    return tokenizer


TURNS = """{% for message in messages %}{{ '<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>
' }}{% endfor %}"""
HEADER = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"


def chat_with_bos(tokenizer):
    """A chat model's tokenizer that adds a BOS, as its template does."""
    return with_bos(tokenizer, "{{ bos_token }}" + TURNS + HEADER)


def llama2(tokenizer):
    """A format of plain text between a BOS and an end token, without a header."""
    return with_bos(
        tokenizer,
        """{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'] + ' [/INST]' }}
{%- elif m['role'] == 'assistant' %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}""",
    )


def templated(template: str) -> Callable:
    def make(tokenizer):
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.chat_template = template
        return tokenizer

    return make


without_header = templated(TURNS + "{% if false %}{{ '<|im_start|>assistant\n' }}{% endif %}")
thinking = templated(
    TURNS + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
without_system = templated(
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + TURNS
    + HEADER
)


def splitting(tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.split_special_tokens = True
    return tokenizer


def with_new_pad(tokenizer):
    tokenizer = base(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "<PAD>"})
    return tokenizer


def says(tokenizer, inputs, text: str, *end: int) -> dict:
    """Makes the model say a text, then its end token if there is one."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return {"logits_processor": [Script(inputs["input_ids"].shape[1], [*ids, *end])]}


def ask(tokenizer, messages=FRANCE, **options):
    """A chat as ids and mask, ready for the answer."""
    options = {"add_generation_prompt": True, "return_dict": True, "return_tensors": "pt"} | options
    return tokenizer.apply_chat_template(messages, **options)


# --- the table ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    make: Callable  # of model, tokenizer, wrong
    rules: set[str]
    model: Callable
    tokenizer: Callable
    raises: type[Exception] | None

    @property
    def id(self) -> str:
        return self.make.__name__[:5].removesuffix("_")


CASES: list[Case] = []


def case(*rules: str, model: Callable = tiny, tokenizer: Callable = chat, raises: type[Exception] | None = None):
    """Put the function below into the table: the rules it breaks, the model and the tokenizer it gets."""
    return lambda make: CASES.append(Case(make, set(rules), model, tokenizer, raises)) or make


# --- length ------------------------------------------------------------------------------------------------------


@case("length")  # https://github.com/huggingface/smol-course/issues/208
def rc004(model, tokenizer, wrong):
    text = tokenizer.apply_chat_template(FRANCE, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(text + "Let me tell you all about its history. It", return_tensors="pt")
    model.generate(**inputs, **({} if wrong else {"max_new_tokens": 3}))


@case("max-length", raises=ValueError)  # the same, with the length that was the default in transformers 4
def rc004_max_length(model, tokenizer, wrong):
    model.generate(**ask(tokenizer), **({"max_length": 20} if wrong else {"max_new_tokens": 3}))


@case("max-length", tokenizer=base, raises=ValueError)
def rc006(model, tokenizer, wrong):  # https://github.com/bigcode-project/bigcode-evaluation-harness/issues/243
    padding = {"padding": "max_length", "truncation": True, "max_length": 16} if wrong else {}
    inputs = tokenizer("def add(a, b):", return_tensors="pt", **padding)
    model.generate(**inputs, **({"max_length": 16} if wrong else {"max_new_tokens": 3}))


@case("max-length", model=with_settings(max_length=24), tokenizer=base, raises=None if OLDEST else ValueError)
def rc007(model, tokenizer, wrong):  # https://github.com/Data-drone/ANZ_LLM_Bootcamp/issues/8
    if not wrong:
        model.generation_config.max_length = None
    model.generate(
        **tokenizer("Background:" + " rain fell" * 30, return_tensors="pt"), **({} if wrong else {"max_new_tokens": 3})
    )


@case("two-lengths", model=with_settings(max_length=40))
def rc009(model, tokenizer, wrong):  # https://github.com/huggingface/transformers/issues/22636
    if not wrong:
        model.generation_config.max_length = None
    pipe = pipeline("text-generation", model=model, tokenizer=tokenizer)
    pipe(FRANCE, generation_config=GenerationConfig(max_new_tokens=3, do_sample=False))


@case("length", tokenizer=base)
def rc146(model, tokenizer, wrong):  # https://huggingface.co/docs/transformers/v4.44.2/llm_tutorial
    inputs = tokenizer(["Count with me: one, two,"], return_tensors="pt")
    model.generate(**inputs, **({} if wrong else {"max_new_tokens": 6}))


@case("length", tokenizer=base)
def rc100(model, tokenizer, wrong):  # a budget of one token, and the model writes a space first
    inputs = tokenizer("2 + 2 = 5. True or false?\nAnswer:", return_tensors="pt")
    answer = says(tokenizer, inputs, " \nFalse", 0)
    model.generate(**inputs, max_new_tokens=1 if wrong else 3, **answer)


@case("context-window", model=functools.partial(tiny, window=64), tokenizer=base)
def rc132(model, tokenizer, wrong):  # https://github.com/kingoflolz/mesh-transformer-jax/issues/89
    inputs = tokenizer("A long story." * (40 if wrong else 5), return_tensors="pt")
    model.generate(**inputs, max_new_tokens=3)


@case("context-window", model=functools.partial(gpt2, window=32), tokenizer=base, raises=IndexError)
def rc132_learned_positions(model, tokenizer, wrong):
    model.eval()
    inputs = tokenizer("A long story." * (20 if wrong else 5), return_tensors="pt")
    model.generate(**inputs, max_new_tokens=3)


NO_IDS = IndexError if OLDEST else RuntimeError


@case("context-window", "empty-prompt", model=functools.partial(tiny, window=16), tokenizer=base, raises=NO_IDS)
def rc134(model, tokenizer, wrong):  # https://github.com/knoveleng/open-rs/issues/13
    window, budget = 16, 16 + 1 if wrong else 4
    ids = tokenizer("The sum of one and one", return_tensors="pt")["input_ids"]
    ids = ids[:, : max(0, window - budget)]
    model.generate(ids, max_new_tokens=budget)


@case("thinking-budget", tokenizer=thinking)
def rc141(model, tokenizer, wrong):  # https://github.com/BunsenFeng/model_collaboration/pull/67
    inputs = ask(tokenizer)
    thoughts = says(tokenizer, inputs, "<think>\nFrance? Paris, I think.\n</think>\nParis.", END)
    model.generate(**inputs, max_new_tokens=6 if wrong else 30, **thoughts)


# --- decoding ----------------------------------------------------------------------------------------------------


@case("decoding-mode", model=gpt2, tokenizer=base)
def rc016(model, tokenizer, wrong):  # https://github.com/microsoft/DialoGPT/issues/45
    model.eval()
    ids = tokenizer.encode("Hello there." + tokenizer.eos_token, return_tensors="pt")
    reply = says(tokenizer, {"input_ids": ids}, " I am fine." * 10 if wrong else " I am fine. And what about you?", 0)
    model.generate(ids, max_length=36, pad_token_id=tokenizer.eos_token_id, **reply)


@case("decoding-mode", model=real, tokenizer=base)
def rc018(model, tokenizer, wrong):  # https://github.com/tenstorrent/tt-metal/issues/7273
    set_seed(1)
    sampling = {"do_sample": False} if wrong else {"do_sample": True, "top_k": 50, "top_p": 0.95}
    model.generate(**tokenizer("I am a cat.", return_tensors="pt"), max_new_tokens=25, **sampling)


@case("ignored-sampling-flags", tokenizer=base)
def rc020(model, tokenizer, wrong):  # https://github.com/huggingface/transformers/issues/2696
    ids = tokenizer.encode("The weather", return_tensors="pt")
    model.generate(ids, max_length=26, temperature=0.7, top_k=20, top_p=0.8, do_sample=not wrong)


@case("temperature-zero", model=with_settings(temperature=0.6, top_p=0.9))
def rc023(model, tokenizer, wrong):  # https://github.com/huggingface/transformers/issues/31839
    settings = {"temperature": 0} if wrong else {"temperature": None, "top_p": None}
    model.generate(**ask(tokenizer), do_sample=False, max_new_tokens=3, **settings)


@case("model-defaults", model=with_settings(temperature=0.9, top_p=0.6))
def rc024(model, tokenizer, wrong):  # https://github.com/lm-sys/FastChat/issues/2691
    settings = {} if wrong else {"top_p": 1.0}
    model.generate(**ask(tokenizer), do_sample=True, temperature=0.7, max_new_tokens=3, **settings)


@case("temperature-zero", raises=ValueError)
def rc026(model, tokenizer, wrong):  # https://github.com/huggingface/transformers/issues/36896
    config = GenerationConfig(do_sample=True, temperature=0.0) if wrong else GenerationConfig(do_sample=False)
    model.generate(**ask(tokenizer), generation_config=config, max_new_tokens=3)


@case("temperature-zero", raises=ValueError)
def rc027(model, tokenizer, wrong):  # https://github.com/stanfordnlp/dspy/issues/969
    settings = {"temperature": 0.0, "max_new_tokens": 3} if wrong else {"temperature": 0.3, "max_new_tokens": 3}
    model.generate(**ask(tokenizer), do_sample=True, **settings)


@case("model-defaults", model=with_settings(temperature=0.6, top_k=20, top_p=0.95))
def rc032(model, tokenizer, wrong):  # https://github.com/huggingface/transformers/issues/35045
    settings = {} if wrong else {"temperature": 1.0, "top_k": 50, "top_p": 1.0}
    model.generate(**ask(tokenizer), do_sample=True, max_new_tokens=3, **settings)


@case("beam-sampling", tokenizer=base)
def rc104(model, tokenizer, wrong):  # many beams, a low temperature, and inf or nan in the scores
    ids = tokenizer("Once there was", return_tensors="pt").input_ids
    settings = {"do_sample": True, "temperature": 0.2} if wrong else {"do_sample": False}
    model.generate(ids, num_beams=4, max_new_tokens=3, **settings)


@case("several-sequences", model=real, tokenizer=base)
def rc123(model, tokenizer, wrong):  # https://github.com/huggingface/transformers/issues/2415
    set_seed(0)
    ids = tokenizer("The best thing about dogs is", return_tensors="pt").input_ids
    settings = {"num_beams": 4} if wrong else {"do_sample": True}
    model.generate(ids, num_return_sequences=3, max_new_tokens=10, **settings)


@case("repetition-penalty")
def rc130(model, tokenizer, wrong):  # https://github.com/huggingface/transformers/issues/26902
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    inputs = ask(tokenizer, [*turns * 2, *FRANCE])
    model.generate(**inputs, repetition_penalty=1.2 if wrong else 1.05, max_new_tokens=3)


@case("ignored-sampling-flags")
def rc154(model, tokenizer, wrong):  # a cookbook's page about Phi-3
    pipe = pipeline("text-generation", model=model, tokenizer=tokenizer)
    pipe(FRANCE, max_new_tokens=3, return_full_text=False, temperature=0.3, do_sample=not wrong)


# --- padding and ids ---------------------------------------------------------------------------------------------

UNEVEN = ["The sea is", "In the morning the old man went down to the"]


@case("padding-side", tokenizer=base)
def rc035(model, tokenizer, wrong):  # https://github.com/huggingface/transformers/issues/30378
    inputs = tokenizer(UNEVEN, padding=True, padding_side="right" if wrong else "left", return_tensors="pt")
    model.generate(**inputs, max_new_tokens=3)


@case("padding-side", model=with_settings(pad_token_id=0, eos_token_id=END), tokenizer=base)
def rc037(model, tokenizer, wrong):  # https://github.com/tloen/alpaca-lora/issues/20
    inputs = tokenizer(UNEVEN[::-1], padding=True, padding_side="right" if wrong else "left", return_tensors="pt")
    model.generate(**inputs, max_new_tokens=3)


@case("padding-side", tokenizer=base)
def rc039(model, tokenizer, wrong):  # one row
    padding = {"padding": "max_length", "padding_side": "right", "max_length": 16} if wrong else {}
    model.generate(**tokenizer("Good morning", return_tensors="pt", **padding), max_new_tokens=3)


@case("padding-side", "length", tokenizer=base)
def rc148(model, tokenizer, wrong):  # https://huggingface.co/docs/transformers/v4.44.2/llm_tutorial
    inputs = tokenizer(
        ["2, 4, 6", "a, b, c, d, e, f"], padding=True, padding_side="right" if wrong else "left", return_tensors="pt"
    )
    model.generate(**inputs, **({} if wrong else {"max_new_tokens": 3}))


@case("positional-inputs", raises=AttributeError)
def rc040(model, tokenizer, wrong):  # https://github.com/QwenLM/Qwen3/issues/267
    if wrong:
        model.generate(tokenizer.apply_chat_template(FRANCE, return_tensors="pt"), max_new_tokens=3)
    else:
        model.generate(**ask(tokenizer), max_new_tokens=3)


@case("attention-mask")
def rc040_batch(model, tokenizer, wrong):  # what is lost with the mask where there is more than one row
    inputs = ask(tokenizer, [FRANCE, [{"role": "user", "content": "Hi"}]], padding=True)
    model.generate(inputs["input_ids"], attention_mask=None if wrong else inputs["attention_mask"], max_new_tokens=3)


@case("attention-mask", tokenizer=base)
def rc042(model, tokenizer, wrong):  # https://github.com/TransformerLensOrg/TransformerLens/issues/1005
    inputs = tokenizer(UNEVEN, padding=True, return_tensors="pt")
    mask = torch.ones_like(inputs["input_ids"]) if wrong else inputs["attention_mask"]
    model.generate(inputs["input_ids"], attention_mask=mask, do_sample=False, max_new_tokens=3)


@case("attention-mask", model=with_settings(eos_token_id=0), tokenizer=base)
def rc045(model, tokenizer, wrong):  # a request to infer the mask where pad and end token are one
    model.generation_config.pad_token_id = model.generation_config.eos_token_id
    inputs = tokenizer(UNEVEN, padding=True, return_tensors="pt")
    model.generate(**({"inputs": inputs["input_ids"]} if wrong else inputs), max_new_tokens=3)


@case("no-pad-token", tokenizer=unpadded, raises=ValueError)
def rc046(model, tokenizer, wrong):  # LLaMA's first tokenizer
    if not wrong:
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.pad_token = tokenizer.eos_token
    model.generate(**tokenizer(UNEVEN, padding=True, return_tensors="pt"), max_new_tokens=3)


@case("no-pad-token", tokenizer=unpadded, raises=ValueError)
def rc046_pipeline(model, tokenizer, wrong):  # the same in a pipeline
    pipe = pipeline("text-generation", model=model, tokenizer=tokenizer)
    pipe(UNEVEN, batch_size=2 if wrong else 1, max_new_tokens=3, do_sample=False)


@case("ids-past-embedding", tokenizer=with_new_pad, raises=IndexError)
def rc050(model, tokenizer, wrong):  # a pad token is added, and the model keeps its size
    if not wrong:
        model.resize_token_embeddings(len(tokenizer))
    model.generate(**tokenizer(UNEVEN, padding=True, return_tensors="pt"), max_new_tokens=3)


@case("ids-past-embedding", tokenizer=with_new_pad)
def rc138(model, tokenizer, wrong):  # https://github.com/hf-lin/ChatMusician/issues/23
    if not wrong:
        model.resize_token_embeddings(len(tokenizer))
    model.generate(**tokenizer("One row needs no pads", return_tensors="pt"), max_new_tokens=3)


@case("ids-past-embedding", tokenizer=base)
def rc139(model, tokenizer, wrong):  # https://github.com/huggingface/transformers/issues/12842
    smaller = tiny(vocabulary=48000) if wrong else model
    smaller.generate(**tokenizer("It is", return_tensors="pt"), max_new_tokens=3)


@case("pad-mismatch", model=with_settings(pad_token_id=500))
def rc092(model, tokenizer, wrong):  # the model fills up with a token that is ordinary text
    if not wrong:
        model.generation_config.pad_token_id = tokenizer.pad_token_id
    inputs = ask(tokenizer, [FRANCE, FRANCE])
    ids = torch.tensor([[260, END, 0, 0], [260, 300, 301, 302]])

    def rows(input_ids, scores):
        step = input_ids.shape[1] - inputs["input_ids"].shape[1]
        return torch.full_like(scores, -30.0).scatter(1, ids[:, step : step + 1], 30.0)

    output = model.generate(**inputs, max_new_tokens=4, logits_processor=[rows])
    tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


# --- the form of the prompt --------------------------------------------------------------------------------------


@case("prompt-template")
def rc055(model, tokenizer, wrong):  # a test of several choices, given bare to a chat model
    exam = "Which of these is a metal?\nA. wood\nB. iron\nC. wool\nD. clay\nAnswer:"
    inputs = tokenizer(exam, return_tensors="pt") if wrong else ask(tokenizer, [{"role": "user", "content": exam}])
    model.generate(**inputs, max_new_tokens=3, pad_token_id=tokenizer.eos_token_id)


@case("prompt-template")
def rc056(model, tokenizer, wrong):  # a wrapper passes on the text of the last message only
    messages = [{"role": "user", "content": "Write a short poem about the sea."}]
    inputs = tokenizer(messages[-1]["content"], return_tensors="pt") if wrong else ask(tokenizer, messages)
    model.generate(**inputs, max_new_tokens=3)


@case("prompt-template", tokenizer=thinking)
def rc157(model, tokenizer, wrong):  # a reasoning model's demo
    question = "Which is heavier, a whale or the moon?"
    inputs = (
        tokenizer([question], return_tensors="pt", return_token_type_ids=False)
        if wrong
        else ask(tokenizer, [{"role": "user", "content": question}], enable_thinking=False)
    )
    model.generate(**inputs, max_new_tokens=3, do_sample=True, top_k=50, top_p=0.95)


@case("generation-prompt")
def rc059(model, tokenizer, wrong):  # the header of the answer is not asked for
    model.generate(**ask(tokenizer, add_generation_prompt=not wrong), max_new_tokens=3, do_sample=False)


@case("generation-prompt", tokenizer=without_header)
def rc060(model, tokenizer, wrong):  # the template knows no add_generation_prompt
    text = tokenizer.apply_chat_template(FRANCE, tokenize=False, add_generation_prompt=True)
    text += "" if wrong else "<|im_start|>assistant\n"
    model.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=3)


@case("generation-prompt", "template-keyword")
def rc060_typo(model, tokenizer, wrong):  # misspelt keywords are taken without a word
    name = "add_generation_promt" if wrong else "add_generation_prompt"
    text = tokenizer.apply_chat_template(FRANCE, tokenize=False, **{name: True})
    model.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=3)


@case("handwritten-template", "double-bos", tokenizer=chat_with_bos)
def rc062(model, tokenizer, wrong):  # no line break behind the header, and a BOS too many
    line = "" if wrong else "\n"
    text = f"<|im_start|>user\nWho painted it?<|im_end|>\n<|im_start|>assistant{line}"
    model.generate(**tokenizer("<|endoftext|>" * wrong + text, return_tensors="pt"), max_new_tokens=3)


@case("handwritten-template")
def rc062_end_of_turn(model, tokenizer, wrong):  # the user's turn is never ended
    end = "" if wrong else "<|im_end|>"
    text = f"<|im_start|>user\nWho painted it?{end}\n<|im_start|>assistant\n"
    model.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=3)


@case("double-bos", tokenizer=llama2)
def rc065(model, tokenizer, wrong):  # Llama 2's system prompt by hand
    text = "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n\nWho is it? [/INST]"
    model.generate(**tokenizer(("<|endoftext|>" if wrong else "") + text, return_tensors="pt"), max_new_tokens=3)


@case("double-bos", tokenizer=chat_with_bos)
def rc073(model, tokenizer, wrong):  # the template's text is tokenized once more
    text = tokenizer.apply_chat_template(FRANCE, tokenize=False, add_generation_prompt=True)
    model.generate(**tokenizer(text, return_tensors="pt", add_special_tokens=wrong), max_new_tokens=3)


@case("double-bos", tokenizer=chat_with_bos)
def rc076(model, tokenizer, wrong):  # the same in a batch
    texts = [tokenizer.apply_chat_template(FRANCE, tokenize=False, add_generation_prompt=True)] * 2
    inputs = tokenizer(
        texts, padding=True, truncation=True, max_length=100, add_special_tokens=wrong, return_tensors="pt"
    )
    model.generate(**inputs, max_new_tokens=3)


def tiny_half(_=None):
    return tiny().half()


@case("double-bos", "half-precision", model=tiny_half, tokenizer=with_bos)
def rc072(model, tokenizer, wrong):  # a base model in float16, and its BOS typed by hand
    model = model if wrong else model.float()
    inputs = tokenizer("<|endoftext|>" * wrong + "Long ago in a village", return_tensors="pt")
    model.generate(inputs.input_ids, max_length=30)


@case("missing-bos", tokenizer=with_bos)
def rc156(model, tokenizer, wrong):  # add_special_tokens=False on a raw prompt
    ids = tokenizer.encode("The river runs through", add_special_tokens=not wrong)
    model.generate(torch.tensor([ids]), max_new_tokens=3)


@case("special-tokens-as-text", tokenizer=splitting)
def rc079(model, tokenizer, wrong):  # the markers are cut into letters
    text = "<|im_start|>user\nWho is the king of Norway?<|im_end|>\n<|im_start|>assistant\n"
    if not wrong:
        tokenizer.split_special_tokens = False
    model.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=3)
    tokenizer.split_special_tokens = True


@case("foreign-markers")
def rc079_other_family(model, tokenizer, wrong):  # Command-R's markers in a model of another family
    text = "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Who is the king of Norway?<|END_OF_TURN_TOKEN|>"
    model.generate(**(tokenizer(text, return_tensors="pt") if wrong else ask(tokenizer)), max_new_tokens=3)


@case("template-on-base-model", tokenizer=base, raises=ValueError)
def rc068(model, tokenizer, wrong):  # a base checkpoint has no template
    model.generate(**(ask(tokenizer) if wrong else tokenizer("Paris is", return_tensors="pt")), max_new_tokens=3)


@case("template-on-base-model", tokenizer=with_bos, raises=ValueError)
def rc070(model, tokenizer, wrong):  # the same as text, with a system turn
    messages = [{"role": "system", "content": "Be brief."}, *FRANCE]
    text = tokenizer.apply_chat_template(messages, tokenize=False) if wrong else "The capital of France is"
    model.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=3)


@case("system-role", tokenizer=without_system, raises=Exception)
def rc089(model, tokenizer, wrong):  # Gemma 2's template knows no system turn
    system = [{"role": "system", "content": "Answer in rhymes."}]
    model.generate(**ask(tokenizer, system + FRANCE if wrong else FRANCE), max_new_tokens=3)


@case("truncated-prompt")
def rc136(model, tokenizer, wrong):  # https://github.com/EleutherAI/lm-evaluation-harness/pull/2554
    story = [{"role": "user", "content": "It rained. " * 30 + "What was the weather like?"}]
    text = tokenizer.apply_chat_template(story, tokenize=False, add_generation_prompt=True)
    model.generate(
        **tokenizer(text, truncation=True, max_length=64 if wrong else 400, return_tensors="pt"), max_new_tokens=3
    )


@case("generation-prompt")
def rc142(model, tokenizer, wrong):  # https://github.com/oobabooga/textgen/pull/7565
    messages = [*FRANCE, {"role": "assistant", "content": "The capital is"}]
    options = {"add_generation_prompt": False, "continue_final_message": not wrong}
    text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
    model.generate(**tokenizer(text, add_special_tokens=False, return_tensors="pt"), max_new_tokens=3)


@case("generation-prompt")
def rc142_second_turn(model, tokenizer, wrong):  # a new turn is opened behind the answer that was to be continued
    messages = [*FRANCE, {"role": "assistant", "content": "The capital is"}]
    options = {} if wrong else {"add_generation_prompt": False, "continue_final_message": True}
    model.generate(**ask(tokenizer, messages, **options), max_new_tokens=3)


@case("trailing-space", model=real, tokenizer=base)
def rc099(model, tokenizer, wrong):  # https://github.com/allenai/allennlp/issues/4484
    inputs = tokenizer("The dog ran after the" + " " * wrong, return_tensors="pt")
    model.generate(**inputs, max_new_tokens=5)


# --- the end of the answer ---------------------------------------------------------------------------------------


@case("end-token", model=with_settings(eos_token_id=0))
def rc067(model, tokenizer, wrong):  # a base model's end token with a chat format
    if not wrong:
        model.generation_config.eos_token_id = END
    text = "<|im_start|>user\nName a bird.<|im_end|>\n<|im_start|>assistant\n"
    inputs = tokenizer(text, return_tensors="pt")
    answer = says(tokenizer, inputs, "A wren.<|im_end|>\nHuman: And another")
    model.generate(**inputs, max_new_tokens=7, **answer)


@case("end-token", model=with_settings(eos_token_id=[0, END]))
def rc081(model, tokenizer, wrong):  # only one of two end tokens is passed
    settings = {"eos_token_id": [0]} if wrong else {}
    model.generate(**ask(tokenizer), max_new_tokens=3, **settings)


@case("end-token")
def rc082(model, tokenizer, wrong):  # the end token of the base model's tokenizer
    model.generate(**ask(tokenizer), max_new_tokens=3, eos_token_id=0 if wrong else tokenizer.eos_token_id)


@case("end-token", model=with_settings(eos_token_id=END), tokenizer=base)
def rc082_without_template(model, tokenizer, wrong):  # a base model's tokenizer, and a model that ends as it learnt
    inputs = tokenizer("The answer is", return_tensors="pt")
    settings = {"eos_token_id": tokenizer.eos_token_id} if wrong else {}
    answer = says(tokenizer, inputs, " two.<|im_end|> And so on")
    model.generate(**inputs, max_new_tokens=6, **settings, **answer)


@case("end-token", model=with_settings(eos_token_id=0))
def rc083(model, tokenizer, wrong):  # the generation_config is still the base model's
    if not wrong:
        model.generation_config.eos_token_id = [0, END]
    model.generate(**ask(tokenizer), max_new_tokens=3)


# --- what is kept of the output ----------------------------------------------------------------------------------


@case("prompt-echo")
def rc010(model, tokenizer, wrong):  # https://github.com/huggingface/transformers/issues/17117
    inputs = ask(tokenizer)
    output = model.generate(**inputs, max_new_tokens=3)
    if wrong:
        tokenizer.decode(output[0])[len(FRANCE[0]["content"]) :]
    else:
        tokenizer.decode(output[0, inputs["input_ids"].shape[1] :])


@case("prompt-echo")
def rc011(model, tokenizer, wrong):  # https://github.com/meta-llama/llama/issues/767
    inputs = ask(tokenizer)
    output = model.generate(**inputs, max_new_tokens=3, do_sample=True, temperature=0.5)
    output = output if wrong else output[:, inputs["input_ids"].shape[1] :]
    tokenizer.batch_decode(output, skip_special_tokens=True)


@case("prompt-echo")
def rc015(model, tokenizer, wrong):  # https://github.com/EleutherAI/gpt-neo/issues/271
    text = tokenizer.apply_chat_template(FRANCE, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, return_tensors="pt").input_ids
    output = model.generate(ids, max_length=60)[0]
    if wrong:
        tokenizer.decode(output)[len(text) :]
    else:
        tokenizer.decode(output[ids.shape[1] :])


@case("special-tokens-kept")
def rc091(model, tokenizer, wrong):  # https://github.com/EuroEval/EuroEval/pull/1006
    inputs = ask(tokenizer)
    output = model.generate(**inputs, max_new_tokens=9, **says(tokenizer, inputs, "Paris", END))
    tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], **({} if wrong else {"skip_special_tokens": True}))


# --- numbers, modes and devices ----------------------------------------------------------------------------------


def damaged(_=None):
    """Half precision, and weights that are not numbers: what an overflow leaves."""
    model = tiny().half()
    model.lm_head.weight.data.fill_(float("nan"))
    return model


def repaired(model):
    model.lm_head.weight.data = tiny().lm_head.weight.data
    return model.float()


@case("nan-logits", "half-precision", model=damaged, raises=RuntimeError)
def rc102(model, tokenizer, wrong):  # inf and nan in the batch, and sampling
    model = model if wrong else repaired(model)
    inputs = ask(tokenizer, [FRANCE, [{"role": "user", "content": "Hi"}]], padding=True)
    model.generate(**inputs, do_sample=True, max_new_tokens=3)


@case("nan-logits", "half-precision", model=damaged)
def rc103(model, tokenizer, wrong):  # greedy decoding hides it: nothing but padding comes out
    model = model if wrong else repaired(model)
    model.generate(**ask(tokenizer), do_sample=False, max_new_tokens=3)


@case("half-precision", model=tiny_half, tokenizer=base)
def rc105(model, tokenizer, wrong):  # float16 without a GPU
    model = model if wrong else model.bfloat16()
    model.generate(**tokenizer("It is", return_tensors="pt"), max_new_tokens=3)


@case("train-mode", model=gpt2, tokenizer=base)
def rc109(model, tokenizer, wrong):  # https://github.com/huggingface/peft/issues/1580
    model.train(wrong)
    model.generate(tokenizer("It is", return_tensors="pt").input_ids, max_length=30, do_sample=True)


@case("train-mode", "use-cache")
def rc111(model, tokenizer, wrong):  # https://github.com/huggingface/transformers/issues/36051
    model.gradient_checkpointing_enable()
    model.train(wrong)
    model.generate(**ask(tokenizer), max_new_tokens=3)


@case("device", tokenizer=base)
def rc112(model, tokenizer, wrong):  # https://github.com/huggingface/transformers/pull/19468
    ids = tokenizer("It is", return_tensors="pt").input_ids
    # "meta" is a second device that every machine has; the rule is the same in both directions
    return pitfalls.check(model, tokenizer, ids.to("meta") if wrong else ids, max_new_tokens=3)


# --- arguments ---------------------------------------------------------------------------------------------------


@case("removed-keyword", raises=TypeError)
def rc115(model, tokenizer, wrong):  # https://github.com/hiyouga/LlamaFactory/issues/4157
    with tempfile.TemporaryDirectory() as folder:
        tiny(vocabulary=8).save_pretrained(folder)
        AutoModelForCausalLM.from_pretrained(folder, **({"load_in_4bit": True} if wrong else {}))


@case("positional-inputs", raises=TypeError)
def rc117(model, tokenizer, wrong):  # https://github.com/algorithmicsuperintelligence/optillm/pull/320
    tokens = tokenizer.apply_chat_template(FRANCE, add_generation_prompt=True, return_tensors="pt")
    model(input_ids=tokens if wrong else tokens["input_ids"])


@case("positional-inputs", raises=AttributeError)
def rc151(model, tokenizer, wrong):  # a page of transformers' documentation, cohere2
    inputs = tokenizer.apply_chat_template(FRANCE, tokenize=True, add_generation_prompt=True, return_tensors="pt")
    settings = {"max_new_tokens": 3, "do_sample": True, "temperature": 0.3}
    model.generate(inputs, **settings) if wrong else model.generate(**inputs, **settings)


@case("unknown-argument", "temperature-zero", tokenizer=base, raises=ValueError)
def rc120(model, tokenizer, wrong):  # https://github.com/EleutherAI/pythia/issues/36
    inputs = tokenizer("Good day, my", return_tensors="pt", return_token_type_ids=wrong)
    model.generate(**inputs, max_new_tokens=3, **({"temperature": 0.0} if wrong else {}))


@case("unknown-argument", raises=ValueError)
def rc121(model, tokenizer, wrong):  # https://github.com/XMUDeepLIT/Faithful-RAG/pull/4
    model.generate(**ask(tokenizer), **({"max_tokens": 3} if wrong else {"max_new_tokens": 3}))


@case("stop-strings", model=with_settings(stop_strings=["\n\n"]), raises=ValueError)
def rc126(model, tokenizer, wrong):  # https://github.com/huggingface/transformers/issues/34571
    model.generate(**ask(tokenizer), max_new_tokens=3, **({} if wrong else {"tokenizer": tokenizer}))


# --- correct calls -----------------------------------------------------------------------------------------------


@case(model=real, tokenizer=base)  # the tutorial's page on output length
def cc01(model, tokenizer):
    output = model.generate(**tokenizer(["Some even numbers: 2, 4"], return_tensors="pt"), max_new_tokens=5)
    tokenizer.batch_decode(output, skip_special_tokens=True)


@case(model=real, tokenizer=base)  # the tutorial's page on padding
def cc02(model, tokenizer):
    inputs = tokenizer(["2, 4, 6", "a, b, c, d, e"], padding=True, return_tensors="pt")
    tokenizer.batch_decode(model.generate(**inputs, max_new_tokens=5), skip_special_tokens=True)


@case(model=real)  # the tutorial's page on the format of a prompt
def cc04(model, tokenizer):
    set_seed(0)
    messages = [{"role": "system", "content": "You speak like a sailor."}, *FRANCE]
    inputs = ask(tokenizer, messages)
    output = model.generate(**inputs, do_sample=True, max_new_tokens=5)
    tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


@case(model=real, tokenizer=base)  # generation strategies: sampling
def cc05(model, tokenizer):
    inputs = tokenizer("This morning I was surprised because", return_tensors="pt")
    output = model.generate(**inputs, do_sample=True, num_beams=1, max_new_tokens=5)
    tokenizer.batch_decode(output, skip_special_tokens=True)


@case(model=real, tokenizer=base)  # generation strategies: beams
def cc06(model, tokenizer):
    model.generate(**tokenizer("It is surprising how", return_tensors="pt"), num_beams=3, max_new_tokens=5)


@case(model=real, tokenizer=base)  # generation strategies: streaming
def cc07(model, tokenizer):
    inputs = tokenizer(["A falling sequence: nine,"], return_tensors="pt")
    model.generate(**inputs, streamer=TextStreamer(tokenizer), max_new_tokens=5)


@case(model=real, tokenizer=with_bos)  # Gemma 2's base model
def cc09(model, tokenizer):
    inputs = tokenizer("Describe the moon in plain words.", return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=5, cache_implementation="static")
    tokenizer.decode(output[0], skip_special_tokens=True)


@case(model=real)  # SmolLM3: the template's text is tokenized once more, by a tokenizer that adds no BOS
def cc11(model, tokenizer):
    text = tokenizer.apply_chat_template(FRANCE, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer([text], return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=5, do_sample=True, temperature=0.7, top_k=50, top_p=0.95)
    output = [row[len(ids) :] for ids, row in zip(inputs.input_ids, output, strict=True)]
    tokenizer.batch_decode(output, skip_special_tokens=True)


@case(model=real)  # SmolLM3: a chat model continues a sentence
def cc12(model, tokenizer):
    model.generate(**tokenizer("Magnetism is the force", return_tensors="pt"), max_new_tokens=5)


@case(model=real)  # cohere2
def cc13(model, tokenizer):
    inputs = ask(tokenizer, tokenize=True)
    settings = {"do_sample": True, "temperature": 0.3, "cache_implementation": "static"}
    output = model.generate(**inputs, max_new_tokens=5, **settings)
    tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


@case(model=real)  # https://github.com/QwenLM/Qwen3/issues/267, the maintainers' answer
def cc16(model, tokenizer):
    text = tokenizer.apply_chat_template(FRANCE, tokenize=False, add_generation_prompt=True)
    settings = {"max_new_tokens": 5, "do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20}
    model.generate(**tokenizer(text, return_tensors="pt"), **settings)


@case(model=real, tokenizer=base)  # a lecture's notebook: sampling settings taken away with None
def cc21(model, tokenizer):
    inputs = tokenizer(UNEVEN, padding=True, return_tensors="pt")
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    greedy = {"do_sample": False, "temperature": None, "top_k": None, "top_p": None}
    pad = tokenizer.eos_token_id
    output = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=5, pad_token_id=pad, **greedy)
    tokenizer.decode(output[0][len(ids[0]) :], skip_special_tokens=False)


@case(model=real, tokenizer=chat_with_bos)  # https://github.com/deepseek-ai/DeepSeek-Coder/issues/83, the answer
def cc24(model, tokenizer):
    text = tokenizer.apply_chat_template(FRANCE, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    model.generate(**inputs, max_new_tokens=5, do_sample=False)


@case(model=real, tokenizer=chat_with_bos)  # Gemma 2's model card
def cc27(model, tokenizer):
    prompt = tokenizer.apply_chat_template(FRANCE, tokenize=False, add_generation_prompt=True)
    ids = tokenizer.encode(prompt, add_special_tokens=False, return_tensors="pt")
    model.generate(input_ids=ids, max_new_tokens=5)


@case(model=real, tokenizer=base)  # Falcon's model card: a dialogue as text, from before there were templates
def cc30(model, tokenizer):
    pipe = pipeline("text-generation", model=model, tokenizer=tokenizer)
    dialogue = "Ann loves trains.\nBob: Good morning, Ann!\nAnn:"
    settings = {"do_sample": True, "top_k": 10, "num_return_sequences": 1, "eos_token_id": tokenizer.eos_token_id}
    pipe(dialogue, max_new_tokens=5, **settings)


# --- the tests ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(request):
    """What a case is called with; a tokenizer is made once, a model anew."""
    tokenizers = {}

    def make(case: Case):
        given = request.getfixturevalue("tokenizer")
        if case.tokenizer not in tokenizers:
            tokenizers[case.tokenizer] = case.tokenizer(given)
        return case.model(request.getfixturevalue("model") if case.model is real else None), tokenizers[case.tokenizer]

    return make


def look(case: Case, made, *wrong: bool) -> tuple[dict[str, str], Exception | None]:
    """Run a case under `watch`: each rule that was found, with its severity, and the exception that came out."""
    model, tokenizer = made(case)
    reports, error = [], None
    try:
        with pitfalls.watch(None, tokenizer) as calls:
            reports.append(case.make(model, tokenizer, *wrong) or [])
    except Exception as raised:
        error = raised
    reports += [call.report for call in calls]
    found = {finding.rule: finding.severity for report in reports for finding in report}
    notes = "\n".join(getattr(error, "__notes__", []))
    found |= {rule: severity for severity, rule in re.findall(r"^(error|warning|note): (\S+)$", notes, re.MULTILINE)}
    return found, error


def names(prefix: str) -> list:
    return [pytest.param(case, id=case.make.__name__) for case in CASES if case.id.startswith(prefix)]


@pytest.mark.parametrize("case", names("rc"))
def test_the_mistake_is_found(case, made):
    found, error = look(case, made, True)
    assert set(found) == case.rules
    assert isinstance(error, case.raises) if case.raises else error is None


@pytest.mark.parametrize("case", names("rc"))
def test_nothing_is_found_where_it_is_corrected(case, made):
    assert look(case, made, False) == ({}, None)


@pytest.mark.parametrize("case", names("cc"))
def test_nothing_is_found_in_a_correct_call(case, made):
    assert look(case, made) == ({}, None)


@pytest.mark.parametrize("name", ["rc023"])
def test_a_harmless_setting_is_only_a_note(name, made):
    case = next(case for case in CASES if case.id == name)
    assert set(look(case, made, True)[0].values()) == {"note"}
