"""Rules about how long the answer may be (lesson 4)."""

from typing import Any

from pitfalls.inspector.call import DEFAULT_BUDGET, Call, name_row
from pitfalls.inspector.rule import Said, rule

LESSON = "04_length"
THINKING_BUDGET = 512  # tokens; the thoughts of small reasoning models alone are often longer
BUDGET = "output = model.generate(**inputs, max_new_tokens=200)"


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
    if not call.arguments:
        return None
    if call.made:
        blank = [n for n, row in enumerate(call.rows)
                 if row.stopped_by == "length" and row.new_ids and call.tokenizer and not row.new_text.strip()
                 and n not in call.nan_rows]  # fmt: skip
        if blank and not call.samples:
            count = len(call.rows[blank[0]].new_ids)
            return f"The whole budget of {count} new token{'s' * (count > 1)} went into white space or special tokens."
    if call.get("max_new_tokens") is not None or call.get("max_length") is not None or call.get("max_time"):
        return None
    if call.made and not any(row.stopped_by == "length" for row in call.rows):
        return None
    return f"No length is given, so the answer is cut after {DEFAULT_BUDGET} new tokens, in the middle of a sentence."


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
    left = total - call.width
    if left <= 0:
        return f"max_length={total} counts the prompt, which has {call.width} tokens already: nothing can be generated."
    cut = not call.made or any(row.stopped_by == "length" for row in call.rows)
    if left < DEFAULT_BUDGET and cut and call.width > left:
        return Said(
            f"max_length={total} counts the prompt's {call.width} tokens too: only {left} are left to answer.",
            "warning",
        )
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
    if total.value is None or new is None or "max_length" in call.from_pipeline:
        return None
    if total.source == "model":
        return Said(
            f"max_length={total.value} comes from the model's own settings; your max_new_tokens={new} wins.", "note"
        )
    return f"max_length={total.value} is ignored: max_new_tokens={new} wins."


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
        return Said(
            f"The prompt has {call.width} tokens, the model's window is {window}: no answer fits behind it.", "error"
        )
    if call.made and call.output_ids.shape[1] <= window:
        return None
    if call.width + call.budget > window:
        return (
            f"{call.width} prompt tokens and up to {call.budget} new ones pass the model's window of {window}: "
            f"the text falls apart there, or the call raises."
        )
    return None


@rule(
    "warning",
    LESSON,
    mistake="""
    inputs = tokenizer("<think>\\nThe user wants", return_tensors="pt")
    model.generate(**inputs, max_new_tokens=5)
    """,
    fix="""
    output = model.generate(**inputs, max_new_tokens=2000)
    new_text = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    answer = new_text.rpartition("</think>")[2]
    """,
    source="https://github.com/BunsenFeng/model_collaboration/pull/67",
)
def thinking_budget(call: Call) -> str | Said | None:
    """The budget ends while the model is still thinking, so there is no answer in the text.

    Reasoning models write their thoughts first, between `<think>` and `</think>`, and thoughts take hundreds of tokens.
    Give more of them, or switch thinking off where the template can (`enable_thinking=False`).
    """
    if not call.tokenizer or not call.token_rows:
        return None
    if call.made:
        for n, row in enumerate(call.rows):
            prompt = call.prompts[n * len(call.token_rows) // len(call.rows)]
            whole = call.tokenizer.decode(prompt[-8:] + row.new_ids)
            if row.stopped_by == "length" and whole.rfind("<think>") > whole.rfind("</think>"):
                return f"All {len(row.new_ids)} new tokens are thoughts: `</think>` never came, so there is no answer."
        return None
    if "<think>" not in call.chat.template or call.budget >= THINKING_BUDGET:
        return None
    header = call.chat.header_ids  # behind it may stand an answer that the caller began, or an empty thought
    if any(
        header and ids[-len(header) :] == header and "/no_think" not in text
        for ids, text in zip(call.prompts, call.excerpts, strict=True)
    ):
        return f"This model thinks before it answers: {call.budget} new tokens are likely to end among its thoughts."
    return None


@rule(
    "warning",
    LESSON,
    mistake="""
    inputs = tokenizer("Once upon a time", return_tensors="pt")["input_ids"][:, -0:0]
    model.generate(inputs, max_new_tokens=5)
    """,
    fix='inputs = tokenizer("Once upon a time", return_tensors="pt")\n' + BUDGET,
    source="https://github.com/knoveleng/open-rs/issues/13",
    explains="0 elements|out of bounds|out of range|IndexError",
)
def empty_prompt(call: Call) -> str | Said | None:
    """The model gets an empty prompt, and makes something up.

    It happens when a prompt is cut to the room that the budget leaves, and the budget takes the whole window; or when
    a row of the batch is nothing but padding. Transformers then starts from the BOS token, or from the pads. Where
    there is no token at all, weights in 4 bits on a CPU are worse: the library that multiplies them, bitsandbytes
    0.50, divides by the number of tokens on newer CPUs, and the process ends without an exception.
    """
    if call.input_ids is None:
        return None
    if not call.input_ids.numel() and _in_4_bit_on_a_cpu(call.model):
        return Said(
            "The prompt has no tokens: with weights in 4 bits on a CPU, that can end the whole process.", "error"
        )
    if not call.token_rows:
        return "The batch has no rows: there is no text to go on with."
    for n, ids in enumerate(call.prompts):
        if not ids or (call.mask and not any(call.mask[n])):
            return f"{name_row(call, n)} has no tokens: what follows has nothing to do with any text of yours."
    return None


def _in_4_bit_on_a_cpu(model: Any) -> bool:
    return bool(getattr(model, "is_loaded_in_4bit", False)) and model.device.type == "cpu"
