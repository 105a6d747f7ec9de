"""Rules about how long the answer may be (lesson 4)."""

import re
from typing import Any

import torch
from transformers.generation import GenerationMixin

from pitfalls.inspector.call import DEFAULT_BUDGET, SETTINGS, Call, name_row
from pitfalls.inspector.rule import Said, rule
from pitfalls.language import _, ngettext

LESSON = "04_length"
THOUGHT = 128  # tokens in which hardly any thought ends, where the header opens one
SHORT_THOUGHT = 64  # where the template leaves it to the model whether it thinks
BUDGET = "output = model.generate(**inputs, max_new_tokens=200)"
THINK = """
output = model.generate(**inputs, max_new_tokens=2000)
new_text = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
answer = new_text.rpartition("</think>")[2]
"""
LENGTH_NAMES = r"(?i)max\w*(?:tok|len|new)|(?:tok|len)\w*max"  # of other libraries, or misspelt


@rule(
    "warning",
    LESSON,
    mistake='model.generate(**tokenizer("A sequence of numbers: 1, 2", return_tensors="pt"))',
    fix=BUDGET,
    source="https://huggingface.co/docs/transformers/llm_tutorial#generated-output-is-too-shortlong",
    encoders=True,
)
def length(call: Call) -> str | Said | None:
    """The answer is cut after 20 new tokens, because the call gives no length.

    Without `max_new_tokens` and `max_length`, transformers stops after 20 new tokens wherever the sentence is. Version
    5.23 warns, but prints prompt + 20 as the number. After the call the rule speaks only if a row was really cut off,
    or if a whole budget went into white space.
    """
    nothing = call.model is None and call.given_ids is None and call.arguments.keys() <= {"inputs"}
    if nothing or not call.arguments or _unlike_generate(call):
        return None
    blank = _blank(call)
    if blank == 1:
        return Said(_("The only new token is white space or a special token."), "note", _with_budget(call))
    if blank:
        return _("The whole budget of {budget} new tokens went into white space or special tokens.", budget=blank)
    if call.get("max_new_tokens") is not None or call.get("max_length") is not None or call.get("max_time"):
        return None
    if call.made and not any(row.stopped_by == "length" for row in call.rows):
        return None
    return Said(
        _(
            "No length is given, so the answer is cut after {budget} new tokens, in the middle of a sentence.",
            budget=DEFAULT_BUDGET,
        ),
        fix=_with_budget(call),
    )


@rule(
    "error",
    LESSON,
    mistake="model.generate(**inputs, max_length=3)",
    fix=BUDGET,
    source="https://github.com/huggingface/smol-course/issues/208",
    explains="Input length of|max_length",
)
def max_length(call: Call) -> str | Said | None:
    """`max_length` counts the prompt too, and the prompt has used it up.

    A prompt of 31 tokens and `max_length=20` leave nothing to generate: transformers raises a ValueError since 4.38,
    and wrote a single token before. A few tokens less are no better: the answer shrinks as the prompt grows. The same
    happens when the prompt is padded to the very length that is given.
    """
    total = call.get("max_length")
    if not isinstance(total, int) or call.get("max_new_tokens") is not None or not call.token_rows:
        return None
    if _unlike_generate(call):
        return None
    left, fix = total - call.width, _with_budget(call)
    told = {"length": total, "prompt": call.width}
    if left <= 0:
        return Said(
            _(
                "max_length={length} counts the prompt, which has {prompt} tokens already: nothing can be generated.",
                **told,
            ),
            fix=fix,
        )
    cut = not call.made or any(row.stopped_by == "length" for row in call.rows)
    if left < DEFAULT_BUDGET and cut and call.width > left:
        said = ngettext(
            "max_length={length} counts the prompt's {prompt} tokens too: only {n} are left to answer.",
            "max_length={length} counts the prompt's {prompt} tokens too: only {n} are left to answer.",
            left,
            **told,
        )
        return Said(said, "warning", fix)
    return None


@rule(
    "warning",
    LESSON,
    mistake="model.generate(**inputs, max_length=100, max_new_tokens=5)",
    fix="model.generation_config.max_length = None\n" + BUDGET,
    source="https://github.com/huggingface/transformers/issues/22636",
    encoders=True,
)
def two_lengths(call: Call) -> str | Said | None:
    """`max_length` and `max_new_tokens` are both set, and only one of them counts.

    `max_new_tokens` wins, and transformers logs it at each call. The other one often comes from the checkpoint's
    generation_config.json and not from the caller, which makes that log hard to understand.
    """
    total, new = call.setting("max_length"), call.get("max_new_tokens")
    if total.value is None or new is None or "max_length" in call.from_pipeline or _unlike_generate(call):
        return None
    if getattr(type(call.model), "generate", None) not in (None, GenerationMixin.generate):
        return None  # Whisper's own sets both, around the common one
    kept = _room(call, new if isinstance(new, int) else 200)
    fix = "model.generation_config.max_length = None\n" + BUDGET.replace("200", str(kept))
    told = {"length": total.value, "new": new}
    if total.source == "model":
        said = _("max_length={length} comes from the model's own settings; your max_new_tokens={new} wins.", **told)
        return Said(said, "note", fix)
    return Said(_("max_length={length} is ignored: max_new_tokens={new} wins.", **told), fix=fix)


@rule(
    "warning",
    LESSON,
    mistake="""
    model.config.max_position_embeddings = 12  # a small window, to be there soon
    model.generate(**tokenizer("one two three four five six seven eight", return_tensors="pt"), max_new_tokens=8)
    """,
    fix="""
    window = model.config.get_text_config().max_position_embeddings
    room = window - inputs["input_ids"].shape[1]  # if this is not positive, shorten the prompt
    output = model.generate(**inputs, max_new_tokens=min(200, max(room, 1)))
    """,
    source="https://github.com/kingoflolz/mesh-transformer-jax/issues/89",
    explains="index out of range|device-side assert|IndexError|size of tensor",
)
def context_window(call: Call) -> str | Said | None:
    """Prompt and answer together are longer than the model's context window.

    Past the window a model with learned positions (GPT-2) raises an IndexError; one with rotary positions goes on and
    writes nonsense. Transformers logs a reminder once per process, when the limit is passed and not before.
    """
    window = call.window
    if not window or not call.token_rows:
        return None
    if call.width >= window:
        said = _(
            "The prompt has {prompt} tokens, the model's window is {window}: no answer fits behind it.",
            prompt=call.width,
            window=window,
        )
        return Said(said, "error", _shorter(call, window))
    if call.made and call.output_ids.shape[1] <= window:
        return None
    if call.width + call.budget > window:
        return ngettext(
            "{n} prompt tokens and up to {new} new ones pass the model's window of {window}: the text falls apart "
            "there, or the call raises.",
            "{n} prompt tokens and up to {new} new ones pass the model's window of {window}: the text falls apart "
            "there, or the call raises.",
            call.width,
            new=call.budget,
            window=window,
        )
    return None


@rule(
    "warning",
    LESSON,
    mistake="""
    inputs = tokenizer("<think>\\nThe user wants", return_tensors="pt")
    model.generate(**inputs, max_new_tokens=5)
    """,
    fix=THINK,
    source="https://github.com/BunsenFeng/model_collaboration/pull/67",
)
def thinking_budget(call: Call) -> str | Said | None:
    """The budget ends while the model is still thinking, so there is no answer in the text.

    Reasoning models write their thoughts first, between `<think>` and `</think>`, and thoughts take hundreds of tokens.
    Give more of them, or switch thinking off where the template can (`enable_thinking=False`).
    """
    if not call.tokenizer or not call.token_rows:
        return None
    fix = THINK.replace("2000", str(_room(call, 2000)))
    for n, row in enumerate(call.rows):
        prompt = call.prompts[call.prompt_of(n)]
        whole = call.tokenizer.decode(prompt[-8:] + row.new_ids)
        cut = row.stopped_by == "length" and len(row.new_ids) > 1  # one token a call is a loop of one's own
        if cut and whole.rfind("<think>") > whole.rfind("</think>"):
            message = _(
                "All {tokens} new tokens are thoughts: `</think>` never came, so there is no answer.",
                tokens=len(row.new_ids),
            )
            return Said(message, fix=fix)
    header, budget = call.chat.header, call.budget
    opened = header.rfind("<think>") > header.rfind("</think>")
    if call.made or "<think>" not in call.chat.template or not 1 < budget <= (THOUGHT if opened else SHORT_THOUGHT):
        return None
    if not any(_asks_for_a_thought(call, ids, text) for ids, text in zip(call.prompts, call.excerpts, strict=True)):
        return None
    if opened:
        message = _(
            "This model thinks before it answers: {budget} new tokens will end among its thoughts.", budget=budget
        )
        return Said(message, fix=fix)
    message = _(
        "Where this model thinks before it answers, {budget} new tokens will end among its thoughts.", budget=budget
    )
    return Said(message, "note", fix)


@rule(
    "warning",
    LESSON,
    mistake="""
    inputs = tokenizer("Once upon a time", return_tensors="pt")["input_ids"][:, -0:0]
    model.generate(inputs, max_new_tokens=5)
    """,
    fix='inputs = tokenizer("Once upon a time", return_tensors="pt")\n' + BUDGET,
    source="https://github.com/knoveleng/open-rs/issues/13",
    explains="0 elements|out of bounds|out of range|IndexError|bos_token_id|indices",
)
def empty_prompt(call: Call) -> str | Said | None:
    """The model gets an empty prompt, and makes something up.

    It happens when a prompt is cut to the room that the budget leaves, and the budget takes the whole window; or when
    a row of the batch is nothing but padding. Transformers then starts from the BOS token, or from the pads. Where
    there is no token at all, weights in 4 bits on a CPU are worse: the library that multiplies them, bitsandbytes
    0.50, divides by the number of tokens on newer CPUs, and the process ends without an exception.
    """
    if call.given_ids is None:
        return _from_nothing(call)
    empty = isinstance(call.given_ids, torch.Tensor) and not call.given_ids.numel()  # of no text, often of floats
    if call.input_ids is None:
        said = _("The prompt has no tokens, and its tensor is none of ids: it raises.")
        return Said(said, "error") if empty else None
    if not call.input_ids.numel() and in_4_bit_on_a_cpu(call.model):
        return Said(
            _("The prompt has no tokens: with weights in 4 bits on a CPU, that can end the whole process."), "error"
        )
    if not call.token_rows:
        return _("The batch has no rows: there is no text to go on with.")
    for n, ids in enumerate(call.prompts):
        if not ids or (call.mask and not any(call.mask[n])):
            return _(
                "{row} has no tokens: what follows has nothing to do with any text of yours.", row=name_row(call, n)
            )
    return None


def in_4_bit_on_a_cpu(model: Any) -> bool:
    return bool(getattr(model, "is_loaded_in_4bit", False)) and model.device.type == "cpu"


def _from_nothing(call: Call) -> Said | None:
    """Of a call without any input: on purpose where it samples, or says what to begin with."""
    given = {name for name, value in call.arguments.items() if isinstance(value, torch.Tensor)}
    if call.model is None or "inputs" in call.arguments or call.has_encoder or given:
        return None
    if call.get("bos_token_id") is None:
        return Said(_("There is no prompt, and this model has no BOS token to begin with: generate raises."), "error")
    if not call.chat or call.samples or call.given("bos_token_id") is not None or _unlike_generate(call):
        return None
    message = _(
        "There is no prompt: the model begins with its BOS token, outside any chat, and always writes the same."
    )
    return Said(message, "note")


def _unlike_generate(call: Call) -> bool:
    """Whether other code generates, with lengths of its own; or a length has another name, which is a mistake too."""
    config = call.arguments.get("generation_config")
    names = {*call.arguments, *getattr(config, "__dict__", {})} - SETTINGS
    misspelt = any(re.search(LENGTH_NAMES, str(name)) for name in names)
    return call.arguments.get("custom_generate") is not None or misspelt


def _blank(call: Call) -> int | None:
    """How many tokens a row has that was cut off, and in which nothing can be read."""
    if call.tokenizer is None or call.samples:
        return None
    own_loop = call.arguments.get("past_key_values") is not None  # of one token a call
    for n, row in enumerate(call.rows):
        if row.stopped_by != "length" or not row.new_ids or row.new_text.strip() or n in call.nan_rows:
            continue
        tail = call.tokenizer.decode(row.prompt_ids[-16:]).rstrip()
        asks = tail.endswith((":", call.chat.header.strip() or ":")) and not own_loop
        if len(row.new_ids) > 1 or asks:
            return len(row.new_ids)
    return None


def _asks_for_a_thought(call: Call, ids: list[int], text: str) -> bool:
    """Whether a prompt ends in the header: behind it may stand an answer that was begun, or an empty thought."""
    header = call.chat.header_ids
    answers_a_tool = "tool_response" in text[-200:] or "<|tool" in text[-200:]
    return bool(header) and ids[-len(header) :] == header and "/no_think" not in text and not answers_a_tool


def _room(call: Call, wanted: int) -> int:
    """As many new tokens as are wanted, or as the window has room for."""
    return max(1, min(wanted, call.window - call.width)) if call.window and not call.has_encoder else wanted


def _with_budget(call: Call) -> str:
    """Code with a budget; without the model's own `max_length`, of which transformers would warn."""
    first = "model.generation_config.max_length = None\n" if call.setting("max_length").source == "model" else ""
    return first + BUDGET.replace("200", str(_room(call, 200)))


def _shorter(call: Call, window: int) -> str:
    """Code that makes room for an answer: half of the window, at most 200 tokens."""
    new = max(1, min(200, window // 2))
    kept = window - new
    if not any(call.templated):
        return (
            f"inputs = {{name: tensor[:, -{kept}:] for name, tensor in inputs.items()}}  # the end of the text\n"
            f"output = model.generate(**inputs, max_new_tokens={new})"
        )
    text = call.text(0)
    markers = call.chat.user_close + call.chat.header + text.partition(call.chat.user_open or text)[0]
    room = kept - len(call.tokenizer(markers + call.chat.user_open)["input_ids"])
    letters = max(1, 3 * room * len(text) // (4 * max(1, len(call.prompts[0]))))  # a quarter less, as they vary
    return f"""
messages = [{{**messages[-1], "content": messages[-1]["content"][-{letters}:]}}]  # or drop earlier turns
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
output = model.generate(**inputs, max_new_tokens={new})
"""
