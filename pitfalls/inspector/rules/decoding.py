"""Rules about how the next token is chosen (lesson 5)."""

import re

from pitfalls.inspector.again import BEAM_SETTINGS, again
from pitfalls.inspector.call import Call
from pitfalls.inspector.rows import Row
from pitfalls.inspector.rule import Said, rule
from pitfalls.language import _, ngettext

LESSON = "05_decoding_mode"
SAMPLE = "output = model.generate(**inputs, max_new_tokens=100, do_sample=True, temperature=0.7, top_p=0.9)"
GREEDY = "output = model.generate(**inputs, max_new_tokens=100, do_sample=False)"
IDLE = {  # values that change nothing, or that another rule speaks about (a temperature of 0)
    "temperature": (None, 0, 1),
    "top_p": (None, 1),
    "top_k": (None, 0, 50),
    "min_p": (None, 0),
    "typical_p": (None, 1),
}
LONGEST_LOOP = 60  # tokens
LOOP_TURNS, LOOP_TOKENS = 3, 18  # a loop is seen when it turned so often, over so many tokens
STRONG_PENALTY = 1.1
FAR_PENALTY = 1.8  # lowers every word that has occurred so much that sentences go elsewhere
FEW = 10  # new tokens that are too few to count
UNLIKELY = 0.4  # share of them that were not among the ten likeliest; at temperature 1 it is at most 0.2
REPEATED = 0.3  # share of token pairs that a text has twice
REPEAT = re.compile(r"\b(?:repeat\w*|times|again and again|over and over|chorus|forever)\b", re.IGNORECASE)
ALIKE = 0.6  # share of token pairs that two returned sequences have in common


@rule(
    "warning",
    LESSON,
    mistake='model.generate(**tokenizer("I am a cat.", return_tensors="pt"), max_new_tokens=40)',
    fix=SAMPLE,
    source="https://github.com/microsoft/DialoGPT/issues/45",
)
def decoding_mode(call: Call) -> str | Said | None:
    """Greedy decoding went round in a loop: the same words again and again until the budget was used up.

    Each repetition makes the next one likelier, and taking the likeliest token never leaves the circle. Small models
    and open-ended prompts do it most. Sampling gets out; so does `repetition_penalty=1.1` or `no_repeat_ngram_size=3`.
    Only the output shows it, so `check` can't.
    """
    if not call.made or call.samples:
        return None
    for n, row in enumerate(call.rows):
        period, turns = _loop(row.new_ids)
        if row.stopped_by == "length" and period and n not in call.nan_rows and not _asked_for(row, period):
            if call.tokenizer:
                text = call.tokenizer.decode(row.new_ids[-period:])
                return _("The text ends in a loop: {text!r}, {turns} times.", text=text, turns=turns)
            return ngettext(
                "The text ends in a loop: '{n} tokens', {turns} times.",
                "The text ends in a loop: '{n} tokens', {turns} times.",
                period,
                turns=turns,
            )
    return None


@rule(
    "warning",
    LESSON,
    mistake="model.generate(**inputs, max_new_tokens=5, temperature=0.7)",
    fix=SAMPLE,
    source="https://github.com/huggingface/transformers/issues/2696",
    encoders=True,
)
def ignored_sampling_flags(call: Call) -> str | Said | None:
    """Temperature, top-k or top-p are given, but nothing is sampled: the text is the greedy one.

    These settings shape a distribution to draw from, and without `do_sample=True` nothing is drawn. Transformers 5.23
    names the ignored settings in a log line, once per process.
    """
    if call.samples or call.given("penalty_alpha") is not None:  # contrastive search uses top_k
        return None
    given = {name: call.given(name) for name in IDLE}
    idle = [f"{name}={value}" for name, value in given.items() if value not in IDLE[name]]
    if not idle:
        return None
    said = ngettext(
        "{settings} has no effect: without do_sample=True nothing is sampled.",
        "{settings} have no effect: without do_sample=True nothing is sampled.",
        len(idle),
        settings=", ".join(idle),
    )
    return Said(said, fix=again(call, do_sample=True))


@rule(
    "error",
    LESSON,
    mistake="model.generate(**inputs, max_new_tokens=5, do_sample=True, temperature=0.0)",
    fix=GREEDY,
    source="https://github.com/huggingface/transformers/issues/36896",
    explains="temperature",
    encoders=True,
)
def temperature_zero(call: Call) -> str | Said | None:
    """A temperature of 0 can't be sampled with; greedy decoding is asked for with `do_sample=False`.

    Other interfaces take temperature 0 for "the likeliest token". Transformers divides the logits by it: with sampling
    it raises a ValueError, without sampling the setting is only ignored.
    """
    value = call.get("temperature")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if call.samples and value <= 0:
        said = _(
            "temperature={temperature} with sampling raises a ValueError. For the likeliest token: do_sample=False.",
            temperature=value,
        )
        return Said(said, fix=again(call, *IDLE, do_sample=False) if call.pipeline_asked is not None else None)
    if not call.samples and value == 0:
        return Said(_("temperature=0 is ignored here; the call is greedy anyway, because nothing is sampled."), "note")
    return None


@rule(
    "warning",
    LESSON,
    mistake="model.generate(**inputs, max_new_tokens=20, do_sample=True, temperature=2.0, top_k=0)",
    fix=SAMPLE,
    source="https://github.com/karpathy/llama2.c/issues/200",
    encoders=True,
)
def high_temperature(call: Call) -> str | Said | None:
    """A high temperature with nothing to filter unlikely tokens: the text falls apart.

    At 2.0 the tens of thousands of unlikely tokens together weigh more than the likely ones. Without top-k, top-p or
    min-p any of them may be drawn. `generate` has top_k=50 unless the call or the model says otherwise, so mostly only
    a `top_k=0` lets it happen. After the call, what was drawn is counted.
    """
    temperature = call.get("temperature")
    if not call.samples or not isinstance(temperature, float) or temperature < 1.3:
        return None
    filters = ("top_p", "min_p", "typical_p", "top_h", "epsilon_cutoff", "eta_cutoff")
    filtered = bool(call.get("top_k")) or any(call.get(name) not in IDLE.get(name, (None, 0)) for name in filters)
    if filtered:
        return None
    drawn = [step for row in call.rows for step in row.steps]
    far = sum(all(step.chosen.token_id != other.token_id for other in step.candidates) for step in drawn)
    if len(drawn) >= FEW and far >= UNLIKELY * len(drawn):
        return _(
            "With temperature={temperature}, {far} of {drawn} new tokens were none of the ten likeliest.",
            temperature=temperature,
            far=far,
            drawn=len(drawn),
        )
    if len(drawn) < FEW and temperature >= 2 and not call.arguments.get("logits_processor"):
        return _(
            "temperature={temperature} and no top_k, top_p or min_p: any token may be drawn, and the text falls apart.",
            temperature=temperature,
        )
    return None


@rule(
    "note",
    LESSON,
    mistake="""
    model.generation_config.update(do_sample=True, temperature=0.6)  # as some checkpoints do
    model.generate(**inputs, max_new_tokens=5)
    """,
    fix="print(model.generation_config)\n" + GREEDY,
    source="https://github.com/huggingface/transformers/issues/35045",
    encoders=True,
)
def model_defaults(call: Call) -> str | Said | None:
    """Sampling settings came from the model's own configuration, or a pipeline's, and not from the call.

    A checkpoint's generation_config.json can switch sampling on, or set temperature, top-k and top-p, and it does so
    silently. The text-generation pipeline samples at temperature 0.7 unless told otherwise. Set what matters yourself.
    """
    if not call.samples:
        return None
    if "do_sample" in call.from_pipeline:
        said = _("The pipeline samples by default (temperature 0.7), so each run gives another text.")
        return Said(said, fix=again(call, do_sample=False))
    plain = {"do_sample": (None, False), **IDLE, "repetition_penalty": (None, 1)}
    own = {name: call.setting(name).value for name in plain if call.setting(name).source == "model"}
    changed = [f"{name}={value}" for name, value in own.items() if value not in plain[name]]
    if not changed:
        return None
    said = _("{settings} came from the model's own generation_config, not from this call.", settings=", ".join(changed))
    return Said(said, fix=again(call, do_sample=False) if call.pipeline_asked is not None else None)


@rule(
    "warning",
    LESSON,
    mistake="model.generate(**inputs, max_new_tokens=5, do_sample=True, num_beams=4, temperature=0.2)",
    fix=SAMPLE,
    source="https://github.com/huggingface/transformers/issues/11267",
    explains="probability tensor contains",
    encoders=True,
)
def beam_sampling(call: Call) -> str | Said | None:
    """Beams and sampling together, at a low temperature: scores overflow, or the beams fall into one.

    The scores of whole beams are divided by the temperature before drawing. They grow with the length, and at 0.2 they
    soon pass what a softmax can tell apart; some versions then raise because of inf or nan.
    """
    beams, temperature = call.get("num_beams"), call.get("temperature")
    if call.samples and isinstance(beams, int) and beams > 1 and isinstance(temperature, float) and 0 < temperature < 1:
        return _(
            "num_beams={beams} with do_sample=True and temperature={temperature}: such beams are unreliable.",
            beams=beams,
            temperature=temperature,
        )
    return None


@rule(
    "error",
    LESSON,
    mistake="model.generate(**inputs, max_new_tokens=5, num_return_sequences=3)",
    fix="output = model.generate(**inputs, max_new_tokens=100, do_sample=True, num_return_sequences=3)",
    source="https://github.com/huggingface/transformers/issues/2415",
    explains="num_return_sequences",
    encoders=True,
)
def several_sequences(call: Call) -> str | Said | None:
    """Several answers are asked for from a search that has only one, or that gives almost the same one each time.

    Greedy decoding knows one answer, and raises. Beam search returns its best beams, which mostly differ in a word or
    two at the end. Sampling gives answers that differ.
    """
    wanted, beams = call.get("num_return_sequences"), call.get("num_beams")
    if not isinstance(wanted, int) or not isinstance(beams, int) or wanted <= 1 or call.samples:
        return None
    if wanted > beams:
        said = _(
            "num_return_sequences={wanted} with greedy decoding raises: there are not so many answers.", wanted=wanted
        )
        if beams > 1:
            said = _(
                "num_return_sequences={wanted} with num_beams={beams} raises: there are not so many answers.",
                wanted=wanted,
                beams=beams,
            )
        return Said(said, fix=again(call, *BEAM_SETTINGS, do_sample=True))
    if call.made and all(_alike(call.rows[0].new_ids, row.new_ids) for row in call.rows[1:wanted]):
        said = _("The {beams} beams are almost the same text.", beams=wanted)
        return Said(said, "note", again(call, *BEAM_SETTINGS, do_sample=True))
    return None


@rule(
    "note",
    LESSON,
    mistake="""
    messages = [*messages, {"role": "assistant", "content": "Paris."}, {"role": "user", "content": "And of Spain?"}]
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    model.generate(**inputs, max_new_tokens=5, repetition_penalty=1.3)
    """,
    fix="output = model.generate(**inputs, max_new_tokens=200, repetition_penalty=1.05)",
    source="https://github.com/huggingface/transformers/issues/26902",
)
def repetition_penalty(call: Call) -> str | Said | None:
    """The repetition penalty also falls on the end token, which stands in the prompt after every turn.

    The penalty lowers every token that has occurred, the prompt's too. In a chat the end-of-turn token has, so the
    model finds it harder and harder to stop, and answers grow longer from turn to turn.
    """
    penalty = call.get("repetition_penalty")
    if isinstance(penalty, bool) or not isinstance(penalty, (int, float)) or penalty <= 0:
        return None
    if penalty < 1:
        if call.made and not any(_repeats(row.new_ids) for row in call.rows):
            return None
        said = _(
            "repetition_penalty={penalty} is below 1, so it makes repetition likelier; 1 is neutral.", penalty=penalty
        )
        return Said(said, "warning", again(call, repetition_penalty=1.05))
    if penalty <= STRONG_PENALTY or (call.made and all(row.stopped_by == "end-of-sequence" for row in call.rows)):
        return None
    code = again(call, repetition_penalty=1.05)
    for ids in call.prompts:
        count = sum(token in call.end_ids for token in ids)
        if count > 1:
            said = _(
                "repetition_penalty={penalty} lowers the end token too, which stands {count} times in the prompt.",
                penalty=penalty,
                count=count,
            )
            return Said(said, fix=code)
    if penalty >= FAR_PENALTY:
        said = _(
            "repetition_penalty={penalty} is far from 1: words that the text needs twice are avoided.", penalty=penalty
        )
        return Said(said, "warning", code)
    return None


def _asked_for(row: Row, period: int) -> bool:
    """Whether the prompt repeats the piece itself, or has it and asks to repeat it."""
    piece, ids = row.new_ids[-period:], row.prompt_ids
    shown = any(ids[n : n + 2 * period] == 2 * piece for n in range(len(ids) - 2 * period + 1))
    words = row.new_text.split()[-1:]  # of a loop, any of its words is as good
    return shown or bool(words and words[0] in row.prompt_text and REPEAT.search(row.prompt_text))


def _loop(ids: list[int]) -> tuple[int, int]:
    """Length of the loop that `ids` end in, in tokens, and how often it turned; (0, 0) if they don't."""
    for period in range(1, min(LONGEST_LOOP, len(ids) // LOOP_TURNS) + 1):
        same = 0
        while same + period < len(ids) and ids[-1 - same] == ids[-1 - same - period]:
            same += 1
        turns = 1 + same // period
        if turns >= LOOP_TURNS and turns * period >= LOOP_TOKENS:
            return period, turns
    return 0, 0


def _alike(one: list[int], other: list[int]) -> bool:
    pairs, others = set(zip(one, one[1:], strict=False)), set(zip(other, other[1:], strict=False))
    return len(pairs & others) >= ALIKE * max(1, min(len(pairs), len(others)))


def _repeats(ids: list[int]) -> bool:
    pairs = list(zip(ids, ids[1:], strict=False))
    return len(ids) >= FEW and 1 - len(set(pairs)) / len(pairs) >= REPEATED
