"""A `Call`: one generate call as it was asked for, as transformers resolves it, and what came of it.

    call = pitfalls.record(model, tokenizer, inputs, max_new_tokens=20)
    call.new_text           # the continuation, without the prompt
    call.stopped_by         # "end-of-sequence", "length", "stop-string", "time" or the name of a stopping criterion
    call.steps[0]           # the candidates for the first new token, with their probabilities
    call.report             # what the rules say of it

`record` and `watch` give it, `check` makes one of a call that is about to be made, and a rule looks at one.
"""

import copy
import math
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from itertools import groupby
from typing import Any, NamedTuple

import torch
from transformers import GenerationConfig

from pitfalls.inspector.caches import ids_in
from pitfalls.inspector.chat_format import ChatFormat, chat_format
from pitfalls.inspector.conversation import Conversation
from pitfalls.inspector.given import plain, readable, token_ids, tokenizer_in, unwrapped
from pitfalls.inspector.pads import Pads, find_pads
from pitfalls.inspector.report import Report
from pitfalls.inspector.rows import Row
from pitfalls.inspector.vocabulary import role_id, special_ids
from pitfalls.language import _, directed, html_language

DEFAULTS = {  # of `generate` in transformers 5.23, where neither the caller nor the model's own settings say otherwise
    "do_sample": False,
    "max_new_tokens": None,
    "num_beams": 1,
    "num_return_sequences": 1,
    "repetition_penalty": 1.0,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "use_cache": True,
}
ENDLESS = 10**9  # new tokens where the caller sets no real limit
DEFAULT_BUDGET = 20  # new tokens where nobody says how many
PIPELINE_DEFAULTS = {"do_sample": True, "temperature": 0.7, "max_new_tokens": 256}  # of text generation, since 4.57
HEAD, TAIL = 24, 40  # tokens of a long prompt that are read as text
ID_TYPES = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
_FRESH = GenerationConfig()
SETTINGS = set(vars(_FRESH))


class Setting(NamedTuple):
    value: Any
    source: str  # "argument", "generation_config" (the caller's), "model" (its generation_config) or "default"


class Decoded(NamedTuple):
    """What was handed to the tokenizer's `decode` after the call."""

    ids: list[int]
    skip_special_tokens: bool | None  # None where it was not said
    row: int | None = None  # of the output, where these ids are one piece of a row
    first: int | None = None  # their place in that row


@dataclass(eq=False, repr=False)  # two calls hold tensors, which `==` can't compare
class Call:
    """One generate call. With a single row, its texts and steps can be read from the call itself.

    Before it is made, and where it raised or returned no ids, `output_ids` is None and there are no rows.
    """

    # as asked
    model: Any = None  # None again when the call has ended
    tokenizer: Any = None
    arguments: dict[str, Any] = field(default_factory=dict)  # of `generate`, positional ones by their names
    pipeline_asked: set[str] | None = None  # the settings that the caller gave a pipeline; None without a pipeline
    # what came of it
    output_ids: torch.Tensor | None = None  # (rows, prompt + new tokens): what `generate` returned
    rows: list[Row] = field(default_factory=list)
    error: BaseException | None = None
    answered_for_all: set[str] = field(default_factory=set)  # criteria that ended several rows by one answer
    nan_rows: list[int] = field(default_factory=list)  # rows for which a logit was not a number
    decoded: Decoded | None = None
    conversations: list[Conversation | None] = field(default_factory=list)  # of each row, where it was heard
    place: str = ""  # where it was made, such as "train.py:17"
    answer_read: bool = False  # whether exactly the new tokens were decoded
    address: Any = None  # where in memory the output lies, see `decoded.py`
    report: Report = field(default_factory=Report)
    _texts: dict[int, str] = field(default_factory=dict)
    _settings: dict[str, Setting] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.given_model = self.model  # in its wrapper, where it has one
        self.model, self.tokenizer = unwrapped(self.model), tokenizer_in(self.tokenizer)

    # --- what came of it ---

    @property
    def made(self) -> bool:
        """Whether it has been made, and has returned ids."""
        return self.output_ids is not None

    @property
    def _only_row(self) -> Row:
        if self.error is not None:
            error = type(self.error).__name__
            raise ValueError(_("This call raised {error}, so it has no rows: see call.error.", error=error))
        if not self.rows:
            raise ValueError(
                _("This call has no rows: it was only looked at, or returned no ids of a decoder-only model.")
            )
        if len(self.rows) != 1:
            rows = len(self.rows)
            raise ValueError(_("This call has {rows} rows: say which, as in call.rows[0].new_text.", rows=rows))
        return self.rows[0]

    prompt_ids = property(lambda self: self._only_row.prompt_ids)
    new_ids = property(lambda self: self._only_row.new_ids)
    prompt_text = property(lambda self: self._only_row.prompt_text)
    new_text = property(lambda self: self._only_row.new_text)
    stopped_by = property(lambda self: self._only_row.stopped_by)
    steps = property(lambda self: self._only_row.steps)

    def told(self) -> str:
        """What came of each row, in a line."""
        if self.error is not None:
            return _("raised {error}", error=type(self.error).__name__)
        return "\n".join(self._row_told(n, row) for n, row in enumerate(self.rows)) or _("no rows")

    def _row_told(self, n: int, row: Row) -> str:
        told = {"row": n, "prompt": len(row.prompt_ids), "new": len(row.new_ids), "criterion": row.stopped_by}
        if self.tokenizer:
            return _(
                "row {row}: {prompt} prompt tokens, {new} new, stopped by {criterion}: {text!r}",
                text=row.new_text,
                **told,
            )
        return _(
            "row {row}: {prompt} prompt tokens, {new} new, stopped by {criterion}: "
            "no tokenizer, so no text, and no rule about texts",
            **told,
        )

    def __str__(self) -> str:
        return directed(self.told())

    def __repr__(self) -> str:
        return f"{self}\n{self.report!r}"

    def _repr_html_(self) -> str:
        told = f"<pre{html_language()} style='font-family: monospace'>{escape(self.told())}</pre>"
        return f"{told}{self.report._repr_html_()}"

    def release(self) -> None:
        """Keep what was read and the settings; let go of the model, its cache and all else that the caller gave."""
        _read = self.settings, self.start
        self.model, self.given_model, self.conversations = None, None, []
        kept = SETTINGS | {"generation_config"}
        self.arguments = {name: value for name, value in self.arguments.items() if name in kept}

    @cached_property
    def has_encoder(self) -> bool:
        """With one (T5, BART, Whisper), the output has no prompt in it, and lengths count the decoder alone."""
        return bool(getattr(getattr(self.model, "config", None), "is_encoder_decoder", False))

    @cached_property
    def start(self) -> int:
        """Where the new tokens begin in a row of the output."""
        if self.has_encoder:
            given = self.arguments.get("decoder_input_ids")
            return given.shape[-1] if readable(given) and given.ndim else 1
        embedded = self.arguments.get("inputs_embeds") is not None
        return 1 if self.given_ids is None and not embedded else self.width  # of nothing, generate makes a BOS token

    def prompt_of(self, row: int) -> int:
        """The number of the prompt that a row of the output belongs to: one may have several."""
        return row * len(self.token_rows) // len(self.rows)

    # --- the settings ---

    def setting(self, name: str) -> Setting:
        """The value that counts: an argument, then the caller's configuration, then the model's, then the default."""
        if name in self.arguments:
            return Setting(self.arguments[name], "argument")
        if name not in self._settings:  # a hundred rules and more ask for the same few
            self._settings[name] = self._configured(name)
        return self._settings[name]

    def _configured(self, name: str) -> Setting:
        for source, config in (
            ("generation_config", self.arguments.get("generation_config")),
            ("model", self.defaults),
        ):
            value = getattr(config, name, None)
            if value is not None and value != getattr(_FRESH, name, None):
                return Setting(value, source)
        return Setting(DEFAULTS.get(name), "default")

    @cached_property
    def settings(self) -> GenerationConfig:
        """As `generate` resolves them: the caller's, the model's, the defaults; `max_length` counts the prompt."""
        settings = GenerationConfig()
        names = {name for config in (_FRESH, self.defaults) for name in vars(config or _FRESH) if name[0] != "_"}
        for name in names:
            value = self.setting(name).value
            if value is not None or name in self.arguments:
                setattr(settings, name, copy.deepcopy(value))
        settings.max_length = (self.start if self.has_encoder else self.width) + self.budget
        return settings

    def get(self, name: str) -> Any:
        return plain(self.setting(name).value)

    def given(self, name: str) -> Any:
        """The caller's own value; None where there is none, or where a pipeline filled in its default."""
        value, source = self.get(name), self.setting(name).source
        return value if source in ("argument", "generation_config") and name not in self.from_pipeline else None

    @cached_property
    def defaults(self) -> GenerationConfig | None:
        return getattr(self.model, "generation_config", None)

    @cached_property
    def from_pipeline(self) -> set[str]:
        """Settings that the text-generation pipeline adds by itself."""
        if self.pipeline_asked is None:
            return set()
        added = PIPELINE_DEFAULTS | {"max_length": 20}  # the default of `generate`, which transformers 5.0 writes down
        return {name for name in added if name not in self.pipeline_asked and self.setting(name).value == added[name]}

    @property
    def samples(self) -> bool:
        return bool(self.get("do_sample"))

    @property
    def budget(self) -> int:
        """New tokens allowed; can be negative."""
        new, total = self.get("max_new_tokens"), self.get("max_length")
        if isinstance(new, (int, float)):  # 12.0 works
            return math.ceil(new) if abs(new) < ENDLESS else ENDLESS  # float("inf"), too
        if self.has_encoder:
            return total - self.start if isinstance(total, int) else DEFAULT_BUDGET
        embeddings = self.arguments.get("inputs_embeds")
        before = embeddings.shape[1] if self.input_ids is None and readable(embeddings) else self.width
        return total - before if isinstance(total, int) else DEFAULT_BUDGET

    @property
    def end_ids(self) -> list[int]:
        return token_ids(self.get("eos_token_id"))

    @property
    def own_end_ids(self) -> list[int]:
        """Those of the model's generation_config, whatever the call says."""
        return token_ids(plain(getattr(self.defaults, "eos_token_id", None)))

    # --- the ids ---

    def read_inputs(self) -> None:
        """Copy the ids and the mask, and the length of a cache, now: the call changes them, or a GPU fails under it."""
        try:
            _read = self.token_rows, self.mask, self.continues, self.cached_ids
        except Exception:  # tensors without numbers, such as those of a compiler that traces
            vars(self).update(input_ids=None, token_rows=[], mask=None, continues=False, cached_ids=None)

    @property
    def given_ids(self) -> Any:
        """What the caller gave for the ids, whatever it is."""
        given = self.arguments.get("inputs")
        return self.arguments.get("input_ids") if given is None else given

    @cached_property
    def input_ids(self) -> torch.Tensor | None:
        """A copy on the CPU, (rows, tokens); None where there are none to look at."""
        ids = self.given_ids
        good = readable(ids) and ids.ndim == 2 and ids.dtype in ID_TYPES
        return ids.to("cpu", copy=True) if good else None

    @cached_property
    def attention_mask(self) -> torch.Tensor | None:
        """Of the shape of `input_ids`; ones where the caller gave none."""
        if self.input_ids is None:
            return None
        return torch.ones_like(self.input_ids) if self.mask is None else torch.tensor(self.mask)

    @cached_property
    def token_rows(self) -> list[list[int]]:
        """The ids of each row as given, pads included."""
        return [] if self.input_ids is None else self.input_ids.tolist()

    @property
    def unmasked_rows(self) -> list[list[int]]:
        """The ids of each row that the mask lets through."""
        if self.mask is None:
            return self.token_rows
        return [
            [token for token, seen in zip(row, mask, strict=True) if seen]
            for row, mask in zip(self.token_rows, self.mask, strict=True)
        ]

    @property
    def width(self) -> int:
        return 0 if self.input_ids is None else self.input_ids.shape[1]

    @cached_property
    def mask(self) -> list[list[int]] | None:
        """The attention mask as given; None where there is none for these ids."""
        mask = self.arguments.get("attention_mask")
        if self.cache_length and readable(mask) and mask.ndim == 2:
            mask = mask[:, -self.width :]  # it counts the tokens in the cache too
        return mask.tolist() if readable(mask) and mask.shape == getattr(self.input_ids, "shape", 0) else None

    @cached_property
    def cache_length(self) -> int | None:
        """Tokens in the cache that the caller gave, before the call; None without one, and with an encoder."""
        cache = self.arguments.get("past_key_values")
        try:
            return None if cache is None or self.has_encoder else int(cache.get_seq_length())
        except Exception:  # a tuple, or a cache of states that have no length
            return None

    @cached_property
    def cached_ids(self) -> list[list[int]] | None:
        """The ids in that cache, a list for each row, where earlier watched calls tell them."""
        return ids_in(self.arguments.get("past_key_values"), self.cache_length) if self.cache_length else None

    @property
    def mask_width(self) -> int:
        """Columns of the attention mask as given; those of the ids where there is none."""
        mask = self.arguments.get("attention_mask")
        return mask.shape[1] if isinstance(mask, torch.Tensor) and mask.ndim == 2 else self.width

    @cached_property
    def continues(self) -> bool:
        """Whether the ids go on with what a cache holds, so that the beginning of the text is not among them."""
        held = self.cache_length or 0
        return held > 0 and (self.mask_width > self.width or held >= self.width)

    @cached_property
    def inferred_pad(self) -> int | None:
        """The pad id by which generate makes the mask itself: there is none, and the pad id is no end id."""
        pads = token_ids(self.get("pad_token_id"))
        return pads[0] if self.mask is None and len(pads) == 1 and pads[0] not in self.end_ids else None

    @cached_property
    def pad_ids(self) -> set[int]:
        return set(token_ids(self.get("pad_token_id"), role_id(self.tokenizer, "pad")))

    @cached_property
    def special_ids(self) -> set[int]:
        """Of the tokens that decoding with `skip_special_tokens=True` drops."""
        return special_ids(self.tokenizer) if self.tokenizer is not None else set()

    @cached_property
    def pads(self) -> list[Pads]:
        """Of each row: how many stand before and after its text."""
        tokens = [role_id(self.tokenizer, role) for role in ("bos", "eos")]
        ends = {*self.end_ids, *token_ids(self.get("bos_token_id"), self.chat.end_id, *tokens)}
        return find_pads(self.token_rows, self.mask, self.pad_ids, ends, self.inferred_pad)

    @cached_property
    def prompts(self) -> list[list[int]]:
        """Each row without its pads, and without numbers that no tokenizer has for a token (-100 of labels)."""
        inner = [row[pad.left : self.width - pad.right] for row, pad in zip(self.token_rows, self.pads, strict=True)]
        odd = self.token_rows and self.width and not 0 <= self.input_ids.min() <= self.input_ids.max() < 2**31
        return [[token for token in row if 0 <= token < 2**31] for row in inner] if odd else inner

    # --- the text ---

    @cached_property
    def chat(self) -> ChatFormat:
        return chat_format(self.tokenizer) if self.tokenizer is not None else ChatFormat()

    @cached_property
    def excerpts(self) -> list[str]:
        """Each prompt as text, special tokens included; of long ones the beginning and the end, which tell its form."""
        if self.tokenizer is None:
            return [""] * len(self.token_rows)
        short = [ids if len(ids) <= HEAD + TAIL else ids[:HEAD] + ids[-TAIL:] for ids in self.prompts]
        backend: Any = getattr(self.tokenizer, "backend_tokenizer", None)  # several times faster than row by row
        if hasattr(backend, "decode_batch"):
            return backend.decode_batch(short, skip_special_tokens=False)
        return [self.tokenizer.decode(ids) for ids in short]

    def text(self, row: int) -> str:
        """A whole prompt as text, special tokens included; a marker that is spelled in letters shows as dots."""
        if row not in self._texts:
            ids = self.prompts[row]
            text = self.tokenizer.decode(ids)
            marks = self.chat.special.items()
            if any(text.count(mark) > ids.count(token) for mark, token in marks):  # a message that was sanitized
                text = self._without_spelled(ids)
            self._texts[row] = text
        return self._texts[row]

    def _without_spelled(self, ids: list[int]) -> str:
        names = {token: mark for mark, token in self.chat.special.items()}
        parts = []
        for special, run in groupby(ids, names.__contains__):
            piece = list(run)
            text = "".join(names[token] for token in piece) if special else self.tokenizer.decode(piece)
            for mark in () if special else names.values():
                text = text.replace(mark, "·" * len(mark))
            parts.append(text)
        return "".join(parts)

    @cached_property
    def templated(self) -> list[bool]:
        """For each row: whether it holds the marker that opens a user's turn in the tokenizer's chat template."""
        chat = self.chat
        if not chat or self.tokenizer is None:
            return [False] * len(self.token_rows)
        if chat.open_ids:
            return [chat.open_ids <= set(ids) for ids in self.prompts]
        marks = [mark for mark in (chat.user_open.strip(), chat.header.strip()) if mark]
        return [any(mark in text for mark in marks) for text in self.excerpts]

    @cached_property
    def embeddings(self) -> int | None:
        """Rows of the embedding table: ids from 0 up to this are allowed."""
        table = self.model.get_input_embeddings() if hasattr(self.model, "get_input_embeddings") else None
        return getattr(table, "num_embeddings", None)

    @property
    def window(self) -> int | None:
        """How many tokens, prompt and new together, the model was made for."""
        config: Any = getattr(self.model, "config", None)
        if not hasattr(config, "max_position_embeddings") and hasattr(config, "get_text_config"):
            config = config.get_text_config()  # of a model that sees or hears too; asking costs a fifth of a check
        return getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)


def name_row(call: Call, row: int) -> str:
    return _("Row {row}", row=row) if len(call.token_rows) > 1 else _("The prompt")  # from 0, as in call.rows[0]
