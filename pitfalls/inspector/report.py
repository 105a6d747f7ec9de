"""What the inspector says of one call: a table in a notebook, coloured text in a terminal, a dict for a log."""

import html
import os
import sys
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pitfalls import SITE
from pitfalls.language import N_, _, directed, folder, html_code, html_language, right_to_left

SEVERITIES = (N_("error"), N_("warning"), N_("note"))  # it raises or can't be right; the text suffers; worth knowing
COLOURS = {"error": "31", "warning": "33", "note": "36"}  # ANSI: red, yellow, cyan
BORDERS = {"error": "#d62728", "warning": "#e69f00", "note": "#0072b2"}
NOTHING = N_("No pitfall found.")
NO_CALL = N_("No generate call was seen in this process.")


class PitfallError(Exception):
    """Raised by `Report.raise_for_errors`."""


@dataclass(frozen=True)
class Finding:
    """One mistake in one call."""

    rule: str
    severity: str
    message: str  # what will happen, or did, with the numbers of this call; in the language of that moment
    fix: str  # code that runs as it stands where `model`, `tokenizer`, `inputs`, `texts` and `messages` are yours
    lesson: str  # such as "06_padding_side"

    @property
    def link(self) -> str:
        """The page of its rule: why, the mistake, the fix, the lesson."""
        return f"{SITE}{folder()}rules/{self.rule}.html"

    def as_dict(self) -> dict[str, str]:
        return {name: str(text) for name, text in vars(self).items()} | {"link": self.link}


def lesson_link(lesson: str) -> str:
    """Where a reader without a copy of the course finds the lesson."""
    return f"{SITE}{folder()}lessons/{lesson}.html"


class Report:
    """Findings about one call, the most severe first."""

    def __init__(self, findings: Iterable[Finding] = ()):
        self.findings: list[Finding] = []
        for finding in findings:
            self.add(finding)

    def add(self, finding: Finding) -> None:
        """One finding per rule: what is already said is not said again."""
        if finding.rule not in self.rules:
            self.findings.append(finding)
            self.findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))

    def discard(self, rule: str) -> None:
        """Take back what later code has shown to be right."""
        self.findings = [finding for finding in self.findings if finding.rule != rule]

    @property
    def rules(self) -> set[str]:
        return {finding.rule for finding in self.findings}

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def raise_for_errors(self) -> None:
        """For tests and scripts: raises `PitfallError` with the errors' text; warnings and notes pass."""
        errors = [finding for finding in self if finding.severity == "error"]
        if errors:
            raise PitfallError("\n" + "\n".join(as_text(finding) for finding in errors))

    def as_dicts(self) -> list[dict[str, str]]:
        """One dict of texts per finding, for a log."""
        return [finding.as_dict() for finding in self]

    def __str__(self) -> str:
        return "\n".join(as_text(finding) for finding in self) or directed(_(NOTHING))

    def __repr__(self) -> str:
        coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        return "\n".join(as_text(finding, coloured) for finding in self) or directed(_(NOTHING))

    def _repr_html_(self) -> str:
        if not self.findings:
            nothing = f"<em>{_(NOTHING)}</em>"
            return f"<div{html_language()}>{nothing}</div>" if right_to_left() else nothing
        rows = "".join(map(_html_row, self))
        return f'<table{html_language()} style="text-align: start; border-collapse: collapse">{rows}</table>'


def as_text(finding: Finding, coloured: bool = False) -> str:
    """A finding in some lines of at most 100 characters; code and links are never broken."""
    start, end = (f"\x1b[1;{COLOURS[finding.severity]}m", "\x1b[0m") if coloured else ("", "")
    head = _("{severity}: {rule}", severity=_(finding.severity), rule=finding.rule)
    message = textwrap.wrap(finding.message, 96, initial_indent="  ", subsequent_indent="  ", break_long_words=False)
    said = directed("\n".join([f"{start}{head}{end}", *message]))
    fix, more = _("fix:"), _("more:")
    width = max(len(fix), len(more)) + 2
    above = [directed(f"  {fix}")] if right_to_left() else []  # no line is prose and code
    code = [f"  {'' if n or above else fix:{width}}{line}" for n, line in enumerate(finding.fix.splitlines())]
    return "\n".join([said, *above, *code, directed(f"  {more:{width}}{finding.link}")])


def _html_row(finding: Finding) -> str:
    style = "text-align: start; vertical-align: top; padding: 6px 10px"
    name = f"<b>{html.escape(finding.rule)}</b><br><small>{_(finding.severity)}</small>"
    link = f'<a href="{html.escape(finding.link)}" target="_blank">' + _("more") + "</a>"
    code = "margin: 4px 0 0; white-space: pre-wrap; font-family: monospace; background: none"
    fix = f'<pre{html_code()} style="{code}">{html.escape(finding.fix)}</pre>'
    return (
        f'<tr><td style="{style}; white-space: nowrap; border-inline-start: 4px solid {BORDERS[finding.severity]}">'
        f"{name}</td>"
        f'<td style="{style}">{html.escape(finding.message)} {link}{fix}</td></tr>'
    )
