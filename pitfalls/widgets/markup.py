"""What the widgets show, as HTML: token boxes, bars, chats and messages, in the colours of the pictures.

How that looks is in `widgets.css`.
"""

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import NamedTuple

from pitfalls.pictures.drawing import BAR, BAR_CHOSEN, SIGNS, STYLES, percent, short


def _colours() -> str:
    """Those of the pictures, as CSS: of bars, and of each kind of box."""
    rules = [f".pitfalls-play {{ --bar: {BAR}; --taken: {BAR_CHOSEN} }}"]
    for name, style in STYLES.items():
        ground = "var(--hatch)" if "hatch" in style else style["facecolor"]
        border = f"1px {'dashed' if 'linestyle' in style else 'solid'} {style['edgecolor']}"
        ink = "#fff" if name == "end" else "#000"
        rules.append(f".pitfalls-play .pf-{name} {{ background: {ground}; border: {border}; color: {ink} }}")
    return "\n".join(rules)


STYLE = f"<style>\n{_colours()}\n{files(__package__).joinpath('widgets.css').read_text('utf-8')}</style>"

LEGEND = {
    "end": "end token",
    "dropped": "not generated",
    "padding": "masked",
    "changed": "not as alone",
    "special": "by the template",
    "chosen": "this step",
    "later": "where it leads",
}


class Bar(NamedTuple):
    """One token's row: its probability for the model, and what the settings make of it."""

    text: str
    own: float  # the model's probability
    now: float | None = None  # after the settings; None draws one bar only
    cut_by: str = ""  # the filter that removed it
    drawn: int | None = None  # how often it came in a hundred draws
    taken: bool = False


def shown(text: str) -> str:
    """Escaped, with spaces and line breaks as signs that can be seen, as in the pictures."""
    return escape("".join(SIGNS.get(letter, letter) for letter in text))


def summary(text: str) -> str:
    return f'<div class="pf-summary">{escape(text)}</div>'


def problem(text: str) -> str:
    return f'<div class="pf-problem" role="alert">{escape(text)}</div>'


def working() -> str:
    return '<div class="pf-working" role="status">the model is at work …</div>'


def legend(styles: Iterable[str]) -> str:
    names = (f'<span class="pf-box pf-{style}">{LEGEND.get(style, style)}</span>' for style in styles)
    return f'<div class="pf-legend">{"".join(names)}</div>'


def boxes(tokens: Iterable[tuple[str, str]]) -> str:
    """Tokens, each as (text, style): a name of `STYLES`, "dropped", "later" or "changed"."""
    return "".join(f'<span class="pf-box pf-{style}">{shown(text)}</span>' for text, style in tokens)


def bars(rows: Sequence[Bar], rest: Bar | None = None) -> str:
    """A row for each token: name, bar, percentage and how often it was drawn; `rest` is all the others together."""
    lines = [_bar(row, shown(short(row.text, 18))) for row in rows]
    if rest:
        lines.append(_bar(rest, escape(rest.text)))
    return f'<div class="pf-bars">{"".join(lines)}</div>'


def _bar(row: Bar, name: str) -> str:
    now = row.own if row.now is None else row.now
    own = '<div class="pf-own"></div>' if row.now is not None else ""
    bar = "" if row.cut_by else f'<div class="pf-now{" pf-taken" if row.taken else ""}"></div>'
    drawn = '<div class="pf-drawn"></div>' if row.drawn else ""
    number = f"cut by {row.cut_by}" if row.cut_by else percent(now)
    count = "" if row.drawn is None else f" · {row.drawn} ×"
    sizes = f"--own: {row.own:.4f}; --now: {now:.4f}; --drawn: {(row.drawn or 0) / 100}"
    track = f'<div class="pf-track{" pf-cut" if row.cut_by else ""}" style="{sizes}">{own}{bar}{drawn}'
    return f'<div class="pf-row"><code>{name}</code>{track}<span class="pf-number">{number}{count}</span></div></div>'


def grid(rows: Iterable[tuple[str, Sequence[tuple[str, str, str]]]]) -> str:
    """A batch: for each row its name, and its cells as (text, note, style). Where it is too wide, it scrolls."""
    lines = []
    for name, cells in rows:
        columns = (f'<td class="pf-{style}"><b>{shown(text)}</b>{escape(note)}</td>' for text, note, style in cells)
        lines.append(f"<tr><th>{escape(name)}</th>{''.join(columns)}</tr>")
    return f'<div class="pf-scroll" tabindex="0"><table class="pf-grid">{"".join(lines)}</table></div>'


def line(name: str, tokens: Iterable[tuple[str, str]]) -> str:
    """Tokens as `boxes` takes them, behind a name."""
    return f'<div class="pf-line"><b>{escape(name)}</b> {boxes(tokens)}</div>'


def chat(parts: Iterable[tuple[str, str]]) -> str:
    """A rendered chat from (role or "special", text), with every line break shown as a sign and made."""
    spans = (
        f'<span class="pf-{role if role in STYLES else "new"}">{escape(text).replace(chr(10), "⏎" + chr(10))}</span>'
        for role, text in parts
    )
    return f'<div class="pf-chat">{"".join(spans)}</div>'
