"""Rules about what is forbidden in a text, and what it is made to say (lessons 3, 8 and 10)."""

import re
from collections.abc import Iterator
from typing import Any

from pitfalls.inspector.again import Code, again
from pitfalls.inspector.call import Call
from pitfalls.inspector.rule import Said, rule
from pitfalls.language import _, ngettext

MULTILINGUAL = ("m2m_100", "mbart", "nllb-moe")  # the target language is the first token of the answer
LANGUAGE = r"__[a-z]{2,3}__|[a-z]{3}_[A-Z][a-z]{3}|[a-z]{2}_[A-Z]{2}"  # tokens such as __fr__, fra_Latn, fr_XX


@rule(
    "warning",
    "10_under_control",
    mistake="""
    banned = tokenizer(["Paris"], add_special_tokens=False)["input_ids"]
    model.generate(**tokenizer("The capital of France is", return_tensors="pt"), max_new_tokens=5, bad_words_ids=banned)
    """,
    fix="""
    banned = tokenizer(["Paris", " Paris"], add_special_tokens=False)["input_ids"]
    output = model.generate(**inputs, max_new_tokens=50, bad_words_ids=banned)
    """,
    source="https://github.com/huggingface/transformers/issues/14206",
    explains="bad_words_ids",
)
def bad_words(call: Call) -> str | Said | None:
    """A banned word can still be written, as other tokens: inside a text it mostly begins with a space.

    `bad_words_ids` forbids the ids that are given, and no other way to spell the same word. For most vocabularies
    "Paris" at the beginning of a text and " Paris" behind a word are different tokens, and both must be named.
    """
    banned = call.given("bad_words_ids")
    if not isinstance(banned, (list, tuple)):
        return None
    if not banned or not all(isinstance(ids, (list, tuple)) and ids for ids in banned):
        if call.made:
            return None
        said = _(
            "bad_words_ids={ids} must be a list of lists of ids, one for each word: generate raises.",
            ids=list(banned)[:3],
        )
        return Said(said, "error", _without(call, ["Paris"]))
    if call.tokenizer is None:
        return None
    given = [list(ids) for ids in banned]
    words = [call.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in given]
    for word in dict.fromkeys(words):
        if not re.fullmatch(r"\w[\w' -]*", word):
            continue
        whole = rf"(?<!\w){re.escape(word)}(?!\w)"
        spaced = call.tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
        if any(re.search(whole, row.new_text) for row in call.rows):
            said = _("{word!r} is banned, and the text has it, as other tokens.", word=word)
            return Said(said, fix=_without(call, words))
        if not call.made and spaced not in given:
            said = _(
                "The banned ids spell {word!r} at the beginning of a text; behind a space it is other tokens.",
                word=word,
            )
            return Said(said, fix=_without(call, words))
    return None


@rule(
    "warning",
    "05_decoding_mode",
    mistake="""
    inputs = tokenizer("My name is Zanzibella Quixotry. I repeat: my name is Zan", return_tensors="pt")
    model.generate(**inputs, max_new_tokens=20, no_repeat_ngram_size=2)
    """,
    fix="output = model.generate(**inputs, max_new_tokens=100, repetition_penalty=1.05)",
    source="https://github.com/huggingface/transformers/issues/33670",
)
def ngrams_of_prompt(call: Call) -> str | Said | None:
    """`no_repeat_ngram_size` counts the prompt, so names and numbers of the prompt, or its end token, can't be written.

    With 2, a token may never follow the same one again, and the prompt's pairs are used up already: a name of several
    tokens breaks off in the middle. In a chat the end token has followed a full stop, and the answer can't end so.
    """
    size = call.get("no_repeat_ngram_size")
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        return None
    code = again(call, "no_repeat_ngram_size", repetition_penalty=1.05)
    if size == 1:
        said = _("no_repeat_ngram_size=1 lets no token come twice, and none of the prompt's at all.")
        return Said(said, fix=code)
    if not call.made or call.tokenizer is None:
        return None
    for row in call.rows:
        for before, forbidden in _forbidden(row.prompt_ids, row.new_ids, size):
            text, token = call.tokenizer.decode(before), call.tokenizer.decode([forbidden])
            ends = forbidden in call.end_ids and row.stopped_by == "length"
            if ends or _goes_on(text, token, size):
                said = _(
                    "no_repeat_ngram_size={size} forbade {token!r} behind {text!r}, because the prompt has it so.",
                    size=size,
                    token=token,
                    text=text,
                )
                return Said(said, "note" if ends else "warning", code)  # nobody knows whether it wanted to end
    return None


@rule(
    "warning",
    "03_generating",
    mistake="""
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    model.generate(**inputs, max_new_tokens=50, min_length=20)
    """,
    fix="output = model.generate(**inputs, max_new_tokens=50, min_new_tokens=20)",
    source="https://huggingface.co/docs/transformers/main_classes/text_generation#transformers.GenerationConfig",
)
def min_length(call: Call) -> str | Said | None:
    """`min_length` counts the prompt too: a prompt that is as long already leaves nothing of it.

    Models without an encoder go on from the prompt, so its tokens count. `min_new_tokens` counts the answer alone.
    """
    wanted = call.given("min_length")
    if not isinstance(wanted, int) or wanted < 1 or call.given("min_new_tokens") is not None or not call.width:
        return None
    ended = [len(row.new_ids) for row in call.rows if row.stopped_by == "end-of-sequence"]
    fewest = min(ended, default=wanted)
    # a round number was not made by adding the prompt's length
    if wanted > call.width and (wanted % 10 or fewest >= wanted):
        return None
    if call.made and fewest >= wanted:
        return None
    most = max(wanted, call.budget)
    told = {"length": wanted, "prompt": call.width}
    said = _("min_length={length} counts the {prompt} tokens of the prompt: min_new_tokens counts the answer.", **told)
    if call.made:
        said = ngettext(
            "min_length={length} counts the {prompt} tokens of the prompt; {n} new ones were written: min_new_tokens "
            "counts the answer.",
            "min_length={length} counts the {prompt} tokens of the prompt; {n} new ones were written: min_new_tokens "
            "counts the answer.",
            fewest,
            **told,
        )
    return Said(said, fix=again(call, "min_length", "max_length", max_new_tokens=most, min_new_tokens=wanted))


@rule(
    "error",
    "10_under_control",
    mistake="""
    answers = {(): [28]}  # what may come after what has been written
    model.generate(
        **inputs, max_new_tokens=1, prefix_allowed_tokens_fn=lambda row, ids: answers.get(tuple(ids.tolist()), [])
    )
    """,
    fix="""
    allowed = [ids[0] for ids in tokenizer([" yes", " no"], add_special_tokens=False)["input_ids"]]
    start = inputs["input_ids"].shape[1]  # the ids before it are the prompt
    output = model.generate(
        **inputs, max_new_tokens=4,
        prefix_allowed_tokens_fn=lambda row, ids: [tokenizer.eos_token_id] if len(ids) > start else allowed,
    )
    """,
    source="https://github.com/tshu-w/DBCopilot/issues/14",
    explains="prefix_allowed_tokens_fn` returned an empty list",
    encoders=True,
)
def allowed_tokens(call: Call) -> str | Said | None:
    """`prefix_allowed_tokens_fn` allowed no token: it gets the whole row with the prompt, not the new tokens alone.

    A function that looks its ids up among the beginnings of answers finds nothing, because they begin with the prompt.
    The new tokens are `ids[start:]`. After an answer that is complete it must allow the end token.
    """
    if "`prefix_allowed_tokens_fn` returned an empty list" not in str(call.error):
        return None
    code = str(allowed_tokens.fix)
    if call.has_encoder:
        said = _(
            "The function allowed no token. Its ids begin with the decoder's start token: look at ids[{start}:], and "
            "allow the end token behind a whole answer.",
            start=call.start,
        )
        return Said(said, fix=code.replace('inputs["input_ids"].shape[1]  # the ids before it are the prompt', "1"))
    said = _(
        "The function allowed no token. Its ids begin with the {start} tokens of the prompt: look at ids[{start}:], "
        "and allow the end token behind a whole answer.",
        start=call.start,
    )
    return Said(said, fix=code)


@rule(
    "error",
    "10_under_control",
    mistake="""
    from transformers import LogitsProcessor
    class Ban(LogitsProcessor):
        def __call__(self, input_ids, scores):
            scores[:, 50] = -float("inf")
    model.generate(**inputs, max_new_tokens=5, logits_processor=[Ban()])
    """,
    fix="""
    from transformers import LogitsProcessor
    class Ban(LogitsProcessor):
        def __call__(self, input_ids, scores):
            scores[:, 50] = -float("inf")
            return scores
    output = model.generate(**inputs, max_new_tokens=50, logits_processor=[Ban()])  # a list, of one too
    """,
    source="https://huggingface.co/docs/transformers/internal/generation_utils#transformers.LogitsProcessor",
    explains="^(TypeError|AttributeError): ",
    encoders=True,
)
def processors(call: Call) -> str | Said | None:
    """A logits processor forgets to return the scores, or one stands alone where `generate` takes a list.

    A processor may change the scores in place, and must return them all the same: what it returns is handed on. One
    processor or one stopping criterion is a list of one.
    """
    for name in ("logits_processor", "stopping_criteria"):
        given = call.arguments.get(name)
        if given is not None and not isinstance(given, (list, tuple)):
            return _(
                "{argument} is a {type}, and must be a list: [{type}(…)].", argument=name, type=type(given).__name__
            )
    error = call.error
    if isinstance(error, (TypeError, AttributeError)) and "NoneType" in str(error) and _asks(call, error):
        return _("A logits processor returned None: it must end with `return scores`.")
    return None


def _asks(call: Call, error: BaseException) -> bool:
    """Whether the error came up outside the model, where the scores go from hand to hand."""
    trace, names = error.__traceback__, []
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    return bool(call.arguments.get("logits_processor")) and "forward" not in names


@rule(
    "warning",
    "08_your_own_code",
    mistake="""
    from transformers import M2M100Config, M2M100ForConditionalGeneration
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    ends = {"eos_token_id": 2, "pad_token_id": 2, "decoder_start_token_id": 2}
    tokenizer.add_tokens(["fra_Latn"], special_tokens=True)
    model = M2M100ForConditionalGeneration(M2M100Config(vocab_size=len(tokenizer), **sizes, **heads, **ends)).eval()
    model.generate(**inputs, max_new_tokens=5)
    """,
    fix="""
    french = tokenizer.convert_tokens_to_ids("fra_Latn")
    output = model.generate(**inputs, max_new_tokens=50, forced_bos_token_id=french)
    """,
    source="https://github.com/huggingface/transformers/pull/41521",
    encoders=True,
)
def target_language(call: Call) -> str | Said | None:
    """A model that translates between many languages is not told into which one.

    M2M100, NLLB and mBART write the language as the first token of the answer. Without `forced_bos_token_id` they
    choose it themselves, often the source's language or English.
    """
    config: Any = getattr(call.model, "config", None)
    if not call.has_encoder or getattr(config, "model_type", None) not in MULTILINGUAL:
        return None
    given, started = call.arguments.get("decoder_input_ids"), call.get("decoder_start_token_id")
    started = getattr(config, "decoder_start_token_id", None) if started is None else started
    plain_starts = (None, *call.end_ids, getattr(config, "bos_token_id", None), getattr(config, "eos_token_id", None))
    if call.get("forced_bos_token_id") is not None or started not in plain_starts:  # early mBART starts with it
        return None
    if given is not None and given.shape[-1] > 1:
        return None
    codes = [token for token in getattr(call.tokenizer, "all_special_tokens", []) if re.fullmatch(LANGUAGE, token)]
    french = next((code for code in codes if re.match(r"_*fr", code)), next(iter(codes), "fra_Latn"))
    first = next((row.new_ids[0] for row in call.rows if row.new_ids), None)
    chosen = call.tokenizer.decode([first]) if first is not None and call.tokenizer is not None else ""
    said = _("No forced_bos_token_id says into which language to translate.")
    if chosen in codes:
        said = _(
            "No forced_bos_token_id says into which language to translate, and the model chose {token!r}.",
            token=chosen,
        )
    return Said(said, fix=again(call, forced_bos_token_id=Code(f"tokenizer.convert_tokens_to_ids({french!r})")))


def _without(call: Call, words: list[str]) -> str:
    """The call with the words banned in both forms."""
    forms = [form for word in dict.fromkeys(words) for form in (word, f" {word}")]
    banned = f'banned = tokenizer({forms!r}, add_special_tokens=False)["input_ids"]\n'
    return banned + again(call, bad_words_ids=Code("banned"))


def _forbidden(prompt: list[int], new: list[int], size: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """The new tokens' n-grams that the prompt has used up: what stands before, and the token that could not come."""
    after: dict[tuple[int, ...], list[int]] = {}
    for n in range(len(prompt) - size + 1):
        after.setdefault(tuple(prompt[n : n + size - 1]), []).append(prompt[n + size - 1])
    ids = prompt + new
    for place in range(len(prompt), len(ids)):
        before = tuple(ids[place - size + 1 : place])
        for token in after.get(before, ()):
            yield before, token


def _goes_on(text: str, token: str, size: int) -> bool:
    """Whether the token would have gone on in the middle of a word or number; pairs of digits meet by chance."""
    within = text[-1:].isalnum() and token[:1].isalnum() and token[0] < "\u2e80"  # not in scripts without spaces
    return within and not (size == 2 and token[0].isdigit())
