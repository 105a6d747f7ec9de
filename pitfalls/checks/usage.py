"""Rules about the code around the call: arguments, devices, modes, and what is kept of the output (lesson 8)."""

import difflib
import functools
import inspect
import re
from collections.abc import Mapping

import torch
from transformers import GenerationConfig
from transformers.generation import GenerationMixin

from pitfalls.request import Request, name_row
from pitfalls.rules import rule

LESSON = "08_your_own_code"
GENERATE = "output = model.generate(**inputs, max_new_tokens=50)"
OTHER_NAMES = {  # of other interfaces, and what generate calls it; None where it has no such thing
    "max_tokens": "max_new_tokens",
    "max_completion_tokens": "max_new_tokens",
    "max_gen_len": "max_new_tokens",
    "n": "num_return_sequences",
    "best_of": "num_beams",
    "stop": "stop_strings",
    "stop_sequences": "stop_strings",
    "frequency_penalty": "repetition_penalty",
    "presence_penalty": "repetition_penalty",
    "temp": "temperature",
    "beam_size": "num_beams",
    "stream": "streamer",
    "seed": "transformers.set_seed",
}


@rule(
    "note",
    LESSON,
    mistake="""
    from transformers import T5Config, T5ForConditionalGeneration
    config = T5Config(vocab_size=50_000, d_model=8, d_ff=8, num_layers=1, decoder_start_token_id=0)
    model = T5ForConditionalGeneration(config)
    model.generate(**inputs, max_new_tokens=5)
    """,
    fix="print(model.config.is_encoder_decoder)  # True: the output holds the answer alone",
    source="https://huggingface.co/docs/transformers/main/en/llm_tutorial",
)
def encoder_decoder(request: Request):
    """This model has an encoder, and the rules are about decoder-only models: no other rule is applied.

    With an encoder (T5, BART, Whisper) the output has no prompt in it, padding on the right is correct, and lengths
    count the decoder only.
    """
    if getattr(getattr(request.model, "config", None), "is_encoder_decoder", False):
        return "An encoder-decoder model: the rules for decoder-only models are not applied."
    return None


@rule(
    "error",
    LESSON,
    mistake="model.generate(inputs, max_new_tokens=5)",
    fix=GENERATE,
    source="https://github.com/algorithmicsuperintelligence/optillm/pull/320",
)
def positional_inputs(request: Request):
    """`generate` or the model got something else than a tensor of token ids as its input.

    Since transformers 5, `apply_chat_template(…, return_tensors="pt")` returns a BatchEncoding, as the tokenizer does.
    As one argument it ends in an AttributeError without a message. Two stars hand over its ids and its mask by name.
    """
    given = request.arguments.get("inputs")
    if given is None:
        given = request.arguments.get("input_ids")
    if isinstance(given, Mapping) or _asked_a_batch_encoding(request.error):
        name = type(given).__name__ if isinstance(given, Mapping) else "BatchEncoding"
        return f'A {name} stands where a tensor of ids belongs: write `**inputs`, or `inputs["input_ids"]`.'
    if isinstance(given, str) or (isinstance(given, (list, tuple)) and given and isinstance(given[0], str)):
        return "The input is text, and generate takes token ids: tokenize it first."
    if given is not None and not isinstance(given, torch.Tensor):
        return f'The input is a {type(given).__name__} and must be a tensor: give the tokenizer return_tensors="pt".'
    if isinstance(given, torch.Tensor) and given.ndim == 1:
        return f'The ids have shape ({len(given)},), not (rows, tokens): give the tokenizer return_tensors="pt".'
    return None


@rule(
    "error",
    LESSON,
    mistake="model.generate(**inputs, max_tokens=5)",
    fix=GENERATE,
    source="https://github.com/EleutherAI/pythia/issues/36",
)
def unknown_argument(request: Request):
    """`generate` does not take one of the arguments.

    It checks its keywords against the model's forward method and the GenerationConfig, and raises a ValueError for any
    other: names of other libraries, misspelt ones, and keys that a tokenizer returns and this model has no use for.
    """
    if request.model is None or not hasattr(request.model, "prepare_inputs_for_generation"):
        return None
    known = _known_arguments(type(request.model))
    unknown = [name for name, value in request.arguments.items() if value is not None and name not in known]
    for name in unknown:
        if name == "token_type_ids":
            return "This model takes no token_type_ids: give the tokenizer return_token_type_ids=False."
        near = OTHER_NAMES.get(name) or next(
            iter(difflib.get_close_matches(str(name), sorted(known), n=1, cutoff=0.7)), None
        )
        return f"generate takes no {name!r}" + (f"; here it is {near!r}." if near else ".")
    return None


@rule(
    "error",
    "01_loading",
    mistake="""
    from transformers import AutoModelForCausalLM
    AutoModelForCausalLM.from_pretrained(model.name_or_path, load_in_4bit=True)
    """,
    fix="""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    model = AutoModelForCausalLM.from_pretrained(
        model.name_or_path, device_map="auto", quantization_config=BitsAndBytesConfig(load_in_4bit=True)
    )
    """,
    source="https://github.com/hiyouga/LlamaFactory/issues/4157",
)
def removed_keyword(request: Request):
    """`load_in_4bit` and `load_in_8bit` are no longer arguments of `from_pretrained`.

    Transformers 5 takes them only inside a BitsAndBytesConfig. Given bare they end in a TypeError of the model's
    constructor, or in a ValueError where a quantization_config is given too.
    """
    if isinstance(request.error, (TypeError, ValueError)):
        found = re.search(r"load_in_[48]bit", str(request.error))
        if found:
            return f"{found[0]} belongs into quantization_config=BitsAndBytesConfig({found[0]}=True)."
    return None


@rule(
    "error",
    LESSON,
    mistake='model.generate(**inputs, max_new_tokens=5, stop_strings=["."])',
    fix='output = model.generate(**inputs, max_new_tokens=50, stop_strings=["."], tokenizer=tokenizer)',
    source="https://github.com/huggingface/transformers/issues/34571",
)
def stop_strings(request: Request):
    """Stop strings are given without the tokenizer that they are matched with.

    `generate` sees ids only, so it raises a ValueError unless it gets the tokenizer too. The stop strings may also come
    from the checkpoint's generation_config.json.
    """
    if request.get("stop_strings") and request.arguments.get("tokenizer") is None and request.pipeline_asked is None:
        return f"stop_strings={request.get('stop_strings')!r} needs tokenizer=tokenizer in the same call."
    return None


@rule(
    "error",
    LESSON,
    mistake="""
    from transformers import TextStreamer
    model.generate(**inputs, max_new_tokens=5, num_beams=2, streamer=TextStreamer(tokenizer))
    """,
    fix="""
    from transformers import TextStreamer
    one = {name: tensor[:1] for name, tensor in inputs.items()}
    output = model.generate(**one, max_new_tokens=50, streamer=TextStreamer(tokenizer))
    """,
    source="https://huggingface.co/docs/transformers/main/en/generation_features#streaming",
)
def streamer(request: Request):
    """A streamer is given for more than one row, or for beam search.

    A streamer prints one text as it grows. Beams change places while they grow, and several rows would be mixed:
    transformers raises a ValueError.
    """
    if request.arguments.get("streamer") is None:
        return None
    beams, copies = request.get("num_beams") or 1, request.get("num_return_sequences") or 1
    if isinstance(beams, int) and beams > 1:
        return f"A streamer can't follow num_beams={beams}: generate raises."
    if len(request.rows) > 1 or copies != 1:
        return f"A streamer follows one row, and this call has {len(request.rows) * copies}: it raises."
    return None


@rule(
    "warning",
    "01_loading",
    mistake="""
    import copy
    model = copy.deepcopy(model).half()
    model.generate(**inputs, max_new_tokens=5)
    """,
    fix="model = model.float()  # or bfloat16: the same size as float16, without its narrow range",
    source="https://github.com/huggingface/transformers/issues/27769",
)
def half_precision(request: Request):
    """The model runs in float16 on the CPU.

    Older torch raises ("not implemented for 'Half'"); newer torch runs it, mostly slower than float32. Float16 ends at
    65504, and activations that pass it become inf and then NaN. On a CPU take float32, or bfloat16 to save memory.
    """
    dtype, device = getattr(request.model, "dtype", None), getattr(request.model, "device", None)
    if dtype == torch.float16 and getattr(device, "type", None) == "cpu":
        return "The model's weights are float16, on the CPU: slow, and values past 65504 turn into NaN."
    return None


@rule(
    "error",
    LESSON,
    mistake="""
    import copy
    model = copy.deepcopy(model)
    model.model.norm.weight.data[0] = float("nan")  # as float16 that overflowed
    model.generate(**inputs, max_new_tokens=5)
    """,
    fix="model = model.float()  # or load it with dtype=torch.bfloat16",
    source="https://github.com/huggingface/transformers/issues/36822",
)
def nan_logits(request: Request):
    """The model's logits were not numbers (NaN), so what came out means nothing.

    Greedy decoding then takes token 0 for ever, in silence; sampling raises "probability tensor contains either inf,
    nan". Float16 that overflowed is the usual cause; a row that is nothing but padding, or damaged weights, are others.
    """
    if request.nan_rows:
        copies = max(request.get("num_beams") or 1, request.get("num_return_sequences") or 1)
        rows = f"Row {request.nan_rows[0] // copies + 1}'s" if len(request.rows) > 1 else "The"
        return f"{rows} logits were NaN: the tokens that came out are meaningless."
    if isinstance(request.error, RuntimeError) and "probability tensor contains" in str(request.error):
        return "There was no number to draw from: the probabilities were inf, NaN or negative."
    return None


@rule(
    "warning",
    LESSON,
    mistake="""
    model.train()
    model.generate(**inputs, max_new_tokens=5)
    """,
    fix="model.eval()",
    source="https://github.com/huggingface/peft/issues/1580",
)
def train_mode(request: Request):
    """The model is in training mode.

    Dropout then switches off neurons at random, so that even greedy decoding gives other texts each time, and gradient
    checkpointing switches the cache off. `from_pretrained` returns a model in evaluation mode; a trainer changes it.
    """
    if getattr(request.model, "training", False):
        return "model.training is True: dropout, where the model has it, changes the answer at random."
    return None


@rule(
    "warning",
    LESSON,
    mistake="model.generate(**inputs, max_new_tokens=5, use_cache=False)",
    fix="model.generation_config.use_cache = True\n" + GENERATE,
    source="https://github.com/huggingface/transformers/issues/36051",
)
def use_cache(request: Request):
    """The key-value cache is off, so each new token reads the whole text again.

    Generation gets slower with each token: 3.6 times at 100 tokens and 6.2 times at 300 with this course's model. It is
    switched off for training, by a configuration saved then, or by gradient checkpointing in training mode.
    """
    training = getattr(request.model, "training", False)
    if request.get("use_cache") is False or (training and _checkpoints(request.model)):
        return "The key-value cache is off: each new token reads the whole text again, slower and slower."
    return None


@rule(
    "warning",
    LESSON,
    mistake="""
    model.generate(inputs["input_ids"].to("meta"), max_new_tokens=5)  # "meta" stands for any other device
    """,
    fix="inputs = inputs.to(model.device)\n" + GENERATE,
    source="https://github.com/huggingface/transformers/pull/19468",
)
def device(request: Request):
    """The inputs are on another device than the model.

    Transformers 5.23 moves inputs from the CPU to the model in silence, step by step, and warns in the other direction;
    older versions and custom code raise "Expected all tensors to be on the same device".
    """
    ids = request.arguments.get("input_ids", request.arguments.get("inputs"))
    where = getattr(getattr(request.model, "device", None), "type", None)
    if isinstance(ids, torch.Tensor) and where not in (None, "meta") and ids.device.type != where:
        return f"The ids are on {ids.device.type}, the model is on {where}."
    if isinstance(request.error, RuntimeError) and "to be on the same device" in str(request.error):
        return "error", "Tensors of this call are on different devices."
    return None


@rule(
    "warning",
    "02_tokenizing",
    mistake='model.generate(**tokenizer("The dog chased the ", return_tensors="pt"), max_new_tokens=5)',
    fix='inputs = tokenizer("The capital of France is", return_tensors="pt")  # no space at the end\n' + GENERATE,
    source="https://github.com/allenai/allennlp/issues/4484",
)
def trailing_space(request: Request):
    """The prompt ends in a space, which belongs to the first token of the answer.

    Most vocabularies keep the space with the word behind it, as " Paris". After a lone space the model must begin with
    a word that has none, which it rarely saw: the first token is another one, or a second space.
    """
    for n, ids in enumerate(request.prompts if request.tokenizer is not None else []):
        if not ids or not _is_space(request.tokenizer, ids[-1]) or request.chat.header.endswith(" "):
            continue
        tail = ids[-8:]
        text = request.tokenizer.decode(tail)
        if re.search(r"\d\W*$", text):  # a number may follow, whose digits are tokens without a space
            continue
        if request.tokenizer(text + "word", add_special_tokens=False)["input_ids"][: len(tail)] != tail:
            return f"{name_row(request, n)} ends in a space, and the next word has its own: another one is written."
    return None


@rule(
    "warning",
    "04_length",
    mistake="""
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=8)
    answer = tokenizer.decode(output[0], skip_special_tokens=True)
    """,
    fix="""
    output = model.generate(**inputs, max_new_tokens=50)
    answer = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    """,
    source="https://github.com/huggingface/transformers/issues/17117",
)
def prompt_echo(request: Request):
    """The whole output of a chat is decoded, so the answer has the prompt in front of it.

    A decoder-only model returns prompt and answer as one sequence. Cut it by tokens, before decoding: cutting the text
    by the length of the prompt goes wrong wherever decoding changed a character. Seen by `watch`, for chats only: who
    completes a text mostly wants the beginning too.
    """
    if request.decoded is None or not any(request.templated):
        return None
    for row in request.call.output_ids.tolist():
        if request.decoded.ids[: request.width + 1] == row[: request.width + 1] and len(row) > request.width:
            return f"The decoded text begins with the prompt: its {request.width} tokens are part of what is kept."
    return None


@rule(
    "note",
    "03_generating",
    mistake="""
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=8)
    answer = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :])
    """,
    fix="""
    output = model.generate(**inputs, max_new_tokens=50)
    answer = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    """,
    source="https://github.com/EuroEval/EuroEval/pull/1006",
)
def special_tokens_kept(request: Request):
    """The decoded answer keeps its special tokens, such as the end token.

    `decode` keeps them unless told otherwise, and "Paris</s>" is not equal to "Paris". To keep them on purpose, say
    `skip_special_tokens=False`. Seen by `watch`.
    """
    if request.decoded is None or request.decoded.skip_special_tokens is not None:
        return None
    special = set(request.tokenizer.all_special_ids) | set(request.end_ids)
    for row in request.call.output_ids[:, request.width :].tolist():
        new = request.decoded.ids[-len(row) :] if row else []
        kept = [token for token in new if token in special]
        if kept and new == row:
            return f"The decoded answer holds {request.tokenizer.decode(kept[:1])!r}."
    return None


@functools.lru_cache
def _known_arguments(model_class: type) -> set[str]:
    """The keywords that `generate` accepts for this kind of model."""
    known = set(vars(GenerationConfig())) | {
        "tokenizer",
        "assistant_tokenizer",
        "trust_remote_code",
        "use_model_defaults",
    }
    for function in (
        GenerationMixin.generate,
        model_class.generate,
        model_class.prepare_inputs_for_generation,
        model_class.forward,
    ):
        known |= set(inspect.signature(function).parameters)
    known |= {"output_attentions", "output_hidden_states", "num_items_in_batch", "cu_seq_lens_q", "cu_seq_lens_k"}
    return known - {"self", "kwargs", "model_kwargs"}


def _checkpoints(model) -> bool:
    """Whether a model recomputes its activations in training, by the name of the property in this transformers."""
    new = hasattr(type(model), "is_activation_checkpointing")
    return bool(getattr(model, "is_activation_checkpointing" if new else "is_gradient_checkpointing", False))


def _asked_a_batch_encoding(error: BaseException | None) -> bool:
    """Whether it is the AttributeError, mostly without a message, of an attribute that a BatchEncoding has not.

    A forward pass that gets one in place of ids raises a TypeError, which names it.
    """
    if isinstance(error, TypeError) and "not BatchEncoding" in str(error):
        return True
    if not isinstance(error, AttributeError) or error.__traceback__ is None:
        return False
    trace = error.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    return type(trace.tb_frame.f_locals.get("self")).__name__ == "BatchEncoding"


def _is_space(tokenizer, token_id: int) -> bool:
    token = tokenizer.convert_ids_to_tokens(token_id)
    return isinstance(token, str) and token != "" and not token.strip(" ▁Ġ")
