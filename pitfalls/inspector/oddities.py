"""What is odd about a checkpoint: each as a finding, whose fix can be pasted behind the loading of its parts.

They have the names of the rules that would find the same in a call. A checkpoint has made no call yet, so what is
usual among good ones, such as padding on the right, is a note.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from transformers import GenerationConfig, __version__

from pitfalls.inspector.chat_format import ChatFormat
from pitfalls.inspector.given import token_ids
from pitfalls.inspector.report import Finding
from pitfalls.inspector.rules import RULES
from pitfalls.inspector.vocabulary import role_id, special_ids
from pitfalls.language import _

SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p")  # have a say only where something is drawn
SHAPING = ("num_beams", "repetition_penalty", "no_repeat_ngram_size", "penalty_alpha", "suppress_tokens",
           "bad_words_ids", "min_length", "min_new_tokens")  # fmt: skip
NAMED_AFTER_CHATS = re.compile(r"(?i)(?:^|[-_.])(?:instruct|chat)(?:$|[-_.])|gemma.*-it(?:$|[-_.])")
NEEDS_BOS = ("gemma", "gemma2", "gemma3", "gemma3_text")  # write nonsense without a BOS


class Parts(NamedTuple):
    """What was read of a checkpoint."""

    name: str
    config: Any
    settings: GenerationConfig  # as the loaded model has them
    tokenizer: Any  # None where there is none, or none that can be loaded
    chat: ChatFormat
    facts: dict[str, Any]

    @property
    def text_config(self) -> Any:
        """Of a model that sees or hears too, the part that writes."""
        try:
            return self.config.get_text_config(decoder=True)
        except Exception:  # it has several, or its code is not in transformers
            return self.config

    def ids(self, text: str, **options: Any) -> list[int]:
        try:
            return list(self.tokenizer(text, **options)["input_ids"])
        except Exception:  # a tokenizer with an empty unknown token recurses for ever at some texts
            return []

    def token(self, token_id: int) -> str | None:
        try:
            return self.tokenizer.convert_ids_to_tokens(token_id)
        except Exception:  # an id below 0, or past the vocabulary
            return None


def find_oddities(parts: Parts) -> Iterator[Finding]:
    """All of them; of a model that does not write texts, only that."""
    yield from _loading(parts)
    if not parts.facts["architecture"]["generates"]:
        return
    looks: list[Callable[[Parts], Iterator[Finding]]] = [_settings]
    if parts.tokenizer is not None:
        looks += [_vocabulary, _padding]
        looks += [] if parts.facts["architecture"]["has_encoder"] else [_template, _bos, _end, _window]
    for look in looks:
        yield from look(parts)


def _finding(rule: str, severity: str, message: str, fix: str, lesson: str = "01_loading") -> Finding:
    return Finding(rule, severity, message, fix, RULES[rule].lesson if rule in RULES else lesson)


def _loading(parts: Parts) -> Iterator[Finding]:
    built, wrong = parts.facts["architecture"], parts.facts["weights"]["wrong"]
    again = 'from huggingface_hub import snapshot_download\nfolder = snapshot_download("owner/name")  # the Hub id'
    if wrong:
        problem, more = next(iter(wrong.values())), len(wrong) - 1
        if more:
            told = _("{problem} ({more} more like it): the model can't be loaded.", problem=problem, more=more)
        else:
            told = _("{problem}: the model can't be loaded.", problem=problem)
        yield _finding("missing-weights", "error", told, again)
    if built["own_code"] == "needed":
        yield _finding(
            "remote-code",
            "note",
            _(
                "The checkpoint needs Python code that comes with it: from_pretrained runs it, with all your rights, "
                "where you say trust_remote_code=True. It was not run here; read it first, and fix its version."
            ),
            "from transformers import AutoModelForCausalLM\n"
            f'model = AutoModelForCausalLM.from_pretrained({parts.name!r}, trust_remote_code=True, revision="main")\n'
            '# better than "main": the commit that you have read',
        )
    if not built["generates"]:
        yield _finding(
            "no-generation",
            "error",
            _(
                "{architecture} is not made to write text: AutoModelForCausalLM has no class for it, or adds an "
                "untrained head.",
                architecture=built["class"] or built["model_type"],
            ),
            f"from transformers import AutoModel\nmodel = AutoModel.from_pretrained({parts.name!r})",
        )
    elif parts.tokenizer is None and not built["own_code"]:
        yield _finding(
            "no-tokenizer",
            "warning",
            _("No tokenizer can be loaded from here: {error}.", error=_(parts.facts["vocabulary"]["error"])),
            f"tokenizer.save_pretrained({parts.name!r})  # the one that the model was trained with",
            "02_tokenizing",
        )


def _vocabulary(parts: Parts) -> Iterator[Finding]:
    rows, highest = parts.facts["vocabulary"]["config"], parts.facts["vocabulary"]["highest_id"]
    if not isinstance(rows, int) or highest is None or highest < rows:
        return
    roles = {role: role_id(parts.tokenizer, role) for role in ("bos", "eos", "pad")}
    chat = {*parts.chat.header_ids, *parts.chat.open_ids, *parts.chat.close_ids, *token_ids(parts.chat.end_id)}
    used = sorted(token for token in {*roles.values(), *chat} if token is not None and token >= rows)
    size = {"highest": highest, "rows": rows, "last": rows - 1}
    if used:
        told = _(
            "The tokenizer's ids go up to {highest}, the model has {rows} rows: an id past {last} raises, {token!r} "
            "({id}) among them. Rows that are added are untrained.",
            token=parts.token(used[0]),
            id=used[0],
            **size,
        )
    else:
        told = _(
            "The tokenizer's ids go up to {highest}, the model has {rows} rows: an id past {last} raises. "
            "Rows that are added are untrained.",
            **size,
        )
    yield _finding(
        "ids-past-embedding",
        "error" if used else "note",
        told,
        f"model.resize_token_embeddings({highest + 1})",
    )


def _padding(parts: Parts) -> Iterator[Finding]:
    pad, decoder_only = parts.facts["pad"], not parts.facts["architecture"]["has_encoder"]
    right = pad["side"] == "right" and decoder_only
    left = 'tokenizer.padding_side = "left"'
    if pad["token"] is None:
        stand_in = "tokenizer.eos_token" if parts.tokenizer.eos_token else "tokenizer.convert_ids_to_tokens(0)"
        told = _("The tokenizer has no pad token: padding=True raises. Where the mask hides it, any token will do.")
        sides = _("It would also pad on the right, where the answer begins.")
        yield _finding(
            "no-pad-token",
            "note",
            f"{told} {sides}" if right else told,
            f"tokenizer.pad_token = {stand_in}" + (f"\n{left}" if right else ""),
        )
    elif right:
        yield _finding(
            "padding-side",
            "note",
            _("The tokenizer pads on the right: in a batch, the answers of the shorter texts would start after pads."),
            left,
        )
    own, rows = pad["generation_config"], parts.facts["vocabulary"]["config"]
    if not isinstance(own, int):
        return
    special = special_ids(parts.tokenizer) | {*token_ids(parts.settings.eos_token_id)}
    added = getattr(parts.tokenizer, "added_tokens_decoder", {}).get(own)
    past = own < 0 or (isinstance(rows, int) and own >= rows)
    if past or (own not in special and not getattr(added, "special", False)):
        if past:
            told = _(
                "generation_config fills short answers up with id {id}, which is no token: it stays in the decoded "
                "text, or can't be decoded.",
                id=own,
            )
        else:
            told = _(
                "generation_config fills short answers up with id {id}, which is {token!r}, an ordinary token: it "
                "stays in the decoded text, or can't be decoded.",
                id=own,
                token=parts.token(own),
            )
        set_it = "tokenizer.pad_token_id" if pad["token"] is not None else "model.generation_config.eos_token_id"
        first = "[0]" if pad["token"] is None and isinstance(parts.settings.eos_token_id, list) else ""
        yield _finding(
            "pad-mismatch",
            "warning",
            told,
            f"model.generation_config.pad_token_id = {set_it}{first}",
        )


def _template(parts: Parts) -> Iterator[Finding]:
    facts, chat = parts.facts["chat"], parts.chat
    if not facts["template"]:
        if NAMED_AFTER_CHATS.search(Path(parts.name).resolve().name):
            yield _finding(
                "template-on-base-model",
                "warning",
                _(
                    "The name is a chat model's, and the tokenizer has no chat template: apply_chat_template raises. "
                    "The form of its prompts is on the model's card, or in a chat_template.jinja that was left behind."
                ),
                'inputs = tokenizer("Once upon a time", return_tensors="pt")  # until then, it can only complete text',
            )
        return
    if facts["system"] == "dropped":
        yield _finding(
            "system-role",
            "warning",
            _("The chat template leaves out a system turn, without a word: the model never sees it."),
            r'messages = [{"role": "user", "content": "Be brief.\n\nHello!"}]  # the instruction in the user turn',
        )
    if chat.ignores_header and isinstance(parts.tokenizer.chat_template, str):
        header = "{% if add_generation_prompt %}{{ " + json.dumps(chat.header, ensure_ascii=False) + " }}{% endif %}"
        yield _finding(
            "generation-prompt",
            "warning",
            _(
                "The chat template ignores add_generation_prompt=True: no prompt ends in {header!r}, as answers do.",
                header=chat.header,
            ),
            f"tokenizer.chat_template += {header!r}",
        )


def _bos(parts: Parts) -> Iterator[Finding]:
    bos = parts.facts["bos"]
    if bos["id"] is None:
        return
    name, text, chat, again = bos["token"], bos["in_text"], bos["in_chat"], bos.get("in_chat_tokenized_again")
    if again and again > 1:
        yield _finding(
            "double-bos",
            "note" if chat == 1 else "warning",
            _(
                "The template writes {bos!r}, and the tokenizer adds it to every text: a chat made into text first "
                "(tokenize=False) and then tokenized begins with {again}.",
                bos=name,
                again=again,
            ),
            'messages = [{"role": "user", "content": "Hello!"}]\n'
            "text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)\n"
            'inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt")',
        )
    if text == 0 and bos["asked"]:
        yield _finding(
            "missing-bos",
            "warning",
            _(
                "tokenizer_config.json says add_bos_token, and transformers {version} puts no {bos!r} before a text.",
                version=__version__,
                bos=name,
            ),
            "tokenizer.add_bos_token = True",
        )
    elif text == 0 and parts.facts["architecture"]["model_type"] in NEEDS_BOS:
        yield _finding(
            "missing-bos",
            "warning",
            _(
                "The tokenizer puts no {bos!r} before a text, and models of this family write nonsense without it.",
                bos=name,
            ),
            "tokenizer.add_bos_token = True",
        )
    elif text and chat == 0:
        yield _finding(
            "missing-bos",
            "note",
            _(
                "Every text gets {bos!r} from the tokenizer, and a chat gets none from the template. That is right "
                "only if the model was trained so.",
                bos=name,
            ),
            'tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template  # if its chats began with one',
        )


def _end(parts: Parts) -> Iterator[Finding]:
    ends, chat = parts.facts["end_ids"], parts.chat
    stops, own = ends["generation_config"], ends["tokenizer"]
    needed = ends["chat_template"] if chat else own
    if parts.settings.stop_strings or not needed or needed[0] in stops:
        return
    new = [*stops, needed[0]] if stops else needed[0]
    told = {"token": ends["names"][str(needed[0])], "id": needed[0]}
    stop = _("generation_config stops at {ids}", ids=stops) if stops else _("generation_config stops at nothing")
    if chat:
        message = _(
            "{token!r} ({id}) ends an answer of the chat template, and {stop}: generate does not stop where the model "
            "does.",
            stop=stop,
            **told,
        )
    else:
        message = _(
            "{token!r} ({id}) is the tokenizer's end token, and {stop}: generate does not stop where the model does.",
            stop=stop,
            **told,
        )
    yield _finding(
        "end-token",
        "warning",
        message,
        f"model.generation_config.eos_token_id = {new}",
    )


def _window(parts: Parts) -> Iterator[Finding]:
    window, limit = parts.facts["window"]["config"], parts.facts["window"]["tokenizer"]
    if window and limit and limit > window:
        yield _finding(
            "context-window",
            "note",
            _(
                "With truncation=True the tokenizer keeps up to {limit} tokens, and the model's window is {window}.",
                limit=limit,
                window=window,
            ),
            f"tokenizer.model_max_length = {window}",
        )


def _settings(parts: Parts) -> Iterator[Finding]:
    own = parts.facts["settings"]
    shaping = [name for name in SHAPING if name in own]
    sampling = [name for name in SAMPLING if name in own]
    samples, temperature = bool(own.get("do_sample")), parts.settings.temperature
    clear = ", ".join(["do_sample=False", *(f"{name}=None" for name in sampling)])
    greedy = f"model.generation_config.update({clear})"
    if samples and isinstance(temperature, (int, float)) and temperature <= 0:
        yield _finding(
            "temperature-zero",
            "error",
            _(
                "The checkpoint samples at temperature={temperature}, by its generation_config: generate raises.",
                temperature=temperature,
            ),
            greedy,
        )
    changed = [*(["do_sample", *sampling] if samples else []), *shaping]
    if changed:
        said = ", ".join(f"{name}={own[name]!r}" for name in changed)
        clear = ", ".join(f"{name}={False if name == 'do_sample' else None}" for name in changed)
        if samples:
            told = _(
                "{settings} in generation_config: each run gives another text, unless the call says otherwise.",
                settings=said,
            )
        else:
            told = _(
                "{settings} in generation_config: the text is not the plainly likeliest one, unless the call says "
                "otherwise.",
                settings=said,
            )
        yield _finding(
            "model-defaults",
            "note",
            told,
            f"# or say in each call what you want\nmodel.generation_config.update({clear})",
        )
    if sampling and not samples:
        said = ", ".join(f"{name}={own[name]!r}" for name in sampling)
        yield _finding(
            "ignored-sampling-flags",
            "note",
            _("{settings} in generation_config has no effect until a call says do_sample=True.", settings=said),
            greedy,
        )
    if "max_length" in own:
        yield _finding(
            "two-lengths",
            "note",
            _(
                "generation_config sets max_length={length}, prompt included: without max_new_tokens an answer may be "
                "that long, and with it transformers logs that both are set.",
                length=own["max_length"],
            ),
            "model.generation_config.max_length = None",
        )
    if own.get("use_cache") is False:
        yield _finding(
            "use-cache",
            "warning",
            _("The checkpoint switches the key-value cache off: each new token reads the whole text again."),
            "model.generation_config.use_cache = True",
        )
    if own.get("stop_strings"):
        yield _finding(
            "stop-strings",
            "error",
            _(
                "generation_config sets stop_strings={strings!r}: a call without tokenizer=tokenizer raises.",
                strings=own["stop_strings"],
            ),
            "model.generation_config.stop_strings = None",
        )
