"""The rules to read: one in full, the list of all, and what transformers itself says of each mistake.

python -m pitfalls rules                  the list
python -m pitfalls rules padding-side     one rule
python -m pitfalls rules --table          each mistake made: `heard.md` beside this file
"""

import copy
import io
import logging
import re
import textwrap
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, __version__
from transformers.utils import logging as transformers_logging

from pitfalls.inspector.checking import no_such_rule
from pitfalls.inspector.report import SEVERITIES, lesson_link
from pitfalls.inspector.rules import RULES
from pitfalls.inspector.watching import watch
from pitfalls.language import N_, _, directed, html_language, right_to_left
from pitfalls.model.choose import fetch_model

HEARD = Path(__file__).with_name("heard.md")  # what `summary` gave
ROW = re.compile(r"^\| \d\d \| `([\w-]+)` \| .* \| (nothing|warning|raises `\w+`) \| (\w+) \|$", re.MULTILINE)
VERSION = ".".join(__version__.split(".")[:2])  # of transformers, without the patch
TEXTS = ["1, 2, 3", "A, B, C, D, E"]
MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
NOTHING = N_("nothing")


class Comparison(NamedTuple):
    """One mistake, made for real: the reaction of transformers beside the inspector's."""

    rule: str
    transformers: str  # "nothing", "warning: …" or "error: …"
    pitfalls: str  # the severity of the finding, or "nothing"
    message: str


def listing() -> str:
    """All rules, a line each, by lesson."""
    lines, width = [], max(map(len, RULES))
    severities = {severity: _(severity) for severity in SEVERITIES}
    longest = max(map(len, severities.values()))
    for lesson in sorted({rule.lesson for rule in RULES.values()}):
        lines.append(f"\n{lesson}")
        rules = [rule for rule in RULES.values() if rule.lesson == lesson]
        lines += [
            directed(f"  {rule.name:{width}}  {severities[rule.severity]:{longest}}  {rule.summary}") for rule in rules
        ]
    in_full = _("One in full: {command}", command="python -m pitfalls rules padding-side")
    return "\n".join(lines).lstrip() + f"\n\n{directed(in_full)}"


def describe(name: str) -> str:
    """One rule in full. Raises `KeyError` with the nearest name for an unknown one."""
    rule = RULES.get(name.replace("_", "-"))
    if rule is None:
        raise KeyError(no_such_rule(name))
    parts = [
        directed(f"{rule.name} ({_(rule.severity)})"),
        directed(_(rule.story)),
        directed(_("The mistake:")) + "\n" + textwrap.indent(rule.mistake, "    "),
        directed(_("The fix:")) + "\n" + textwrap.indent(rule.fix, "    "),
        directed(_("Lesson: {link}", link=lesson_link(rule.lesson)) + "\n" + _("Source: {link}", link=rule.source)),
    ]
    return "\n\n".join(parts)


def compare(names: Iterable[str] = tuple(RULES)) -> Iterator[Comparison]:
    """Make the mistake of each rule: what transformers said of it, and what the inspector says.

    The code is that of `rule.mistake`, run on the embedded model in 32 bits on the CPU, whatever the caller works with:
    there every mistake ends in an exception at worst. On a GPU, or with weights in 4 bits, one can end the process.
    What the code does to the settings of model and tokenizer is undone before the next.
    """
    folder = fetch_model()
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, device_map="cpu")
    for rule in (RULES[name] for name in names):
        changes = re.search(r"tokenizer\.(\w+ = |add_special_tokens)", rule.mistake)
        tokens = copy.deepcopy(tokenizer) if changes else tokenizer
        error = None
        with _put_back(model), _heard() as heard, redirect_stdout(io.StringIO()):
            try:
                with watch(tokenizer=tokens) as calls:
                    exec(rule.mistake, _names(model, tokens))
            except Exception as raised:
                error = raised
        found = next((finding for finding in calls.report if finding.rule == rule.name), None)
        said = f"error: {type(error).__name__}: {error}" if error else f"warning: {heard[0]}" if heard else NOTHING
        yield Comparison(rule.name, said, found.severity if found else NOTHING, found.message if found else "")


def heard() -> list[Comparison]:
    """What `compare` heard of all rules when the table of rules was made: no message, and no model is run."""
    rows = ROW.findall(HEARD.read_text(encoding="utf-8"))
    return [Comparison(name, said.replace("raises `", "error: ").rstrip("`"), found, "") for name, said, found in rows]


def table(comparisons: Iterable[Comparison]) -> str:
    """The comparisons as a Markdown table, each rule with the public source that reports its mistake."""
    lines = [_("| rule | the mistake | transformers says | the inspector says |"), "|---|---|---|---|"]
    for row in comparisons:
        rule = RULES[row.rule]
        source = f"[{rule.name}]({rule.source}) | {rule.summary}"
        said = f"**{_(row.pitfalls)}**: {_cell(row.message)}"
        lines.append(f"| {source} | {_cell(_(row.transformers))} | {said} |")
    rows = "\n".join(lines)
    return f"<div{html_language()}>\n\n{rows}\n\n</div>" if right_to_left() else rows


def summary(comparisons: Iterable[Comparison]) -> str:
    """The table of rules: each in a line, by lesson; transformers says nothing, warns, or raises what?"""
    head = _("| lesson | rule | what happens | transformers {version} | the inspector |", version=VERSION)
    lines = [head, "|---|---|---|---|---|"]
    for row in sorted(comparisons, key=lambda row: RULES[row.rule].lesson):
        rule, (kind, _colon, what) = RULES[row.rule], row.transformers.partition(": ")
        error = f"`{what.partition(':')[0]}`"
        said = _("raises {error}", error=error) if kind == "error" else _(kind)
        lines.append(f"| {rule.lesson[:2]} | `{row.rule}` | {rule.summary} | {said} | {_(row.pitfalls)} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Text that keeps its form inside a Markdown table."""
    for character in "\\|<>*_[]`$":
        text = text.replace(character, f"\\{character}")
    return textwrap.shorten(text, 160, placeholder=" …")


def _names(model: Any, tokenizer: Any) -> dict[str, Any]:
    """What the code of the rules may use: the reader's own names."""
    inputs = tokenizer("The weather today is", return_tensors="pt")
    return {"model": model, "tokenizer": tokenizer, "inputs": inputs, "texts": list(TEXTS), "messages": list(MESSAGES)}


@contextmanager
def _put_back(model: Any) -> Iterator[None]:
    """Undo what the code of a rule may do to the model's settings."""
    settings, window, training = copy.deepcopy(model.generation_config), _window(model), model.training
    try:
        yield
    finally:
        model.generation_config = settings
        model.config.max_position_embeddings = window
        model.train(training)


def _window(model: Any) -> int | None:
    return getattr(model.config, "max_position_embeddings", None)


@contextmanager
def _heard() -> Iterator[list[str]]:
    """The warnings and log messages of transformers, also those it says only once per process."""
    heard: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("transformers")
    others, logger.handlers = logger.handlers, [handler]
    level = logger.level
    logger.setLevel(logging.WARNING)
    transformers_logging.warning_once.cache_clear()
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield heard
    finally:
        logger.handlers = others
        logger.setLevel(level)
        heard += [str(warning.message) for warning in warned]
