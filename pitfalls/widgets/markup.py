"""What the widgets show, as HTML: token boxes, bars, chats and messages, in the colours of the pictures.

Boxes are light with dark letters, and everything else takes the page's own ink, so both themes can be read.
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from pitfalls.pictures.drawing import BAR, BAR_CHOSEN, SIGNS, STYLES, percent, short

_HATCH = "repeating-linear-gradient(135deg, #ccc 0 1px, #fff 1px 7px)"
_BOXES = "\n".join(
    f".pitfalls-play .pf-{name} {{ background: {_HATCH if 'hatch' in style else style['facecolor']}; "
    f"border: 1px {'dashed' if 'linestyle' in style else 'solid'} {style['edgecolor']}; "
    f"color: {'#fff' if name == 'end' else '#000'} }}"
    for name, style in STYLES.items()
)
STYLE = f"""<style>
.pitfalls-play {{ max-width: 940px; overflow: hidden }}
.pitfalls-play .widget-html-content {{ line-height: 1.5; font-size: 13px; overflow-wrap: anywhere }}
.pitfalls-play .pf-controls {{ flex-flow: row wrap; gap: 0 16px; overflow: visible }}
.pitfalls-play .pf-controls > * {{ flex: 1 1 270px; min-width: 0; width: auto }}
.pitfalls-play .pf-controls > button {{ flex: 0 0 auto }}
.pitfalls-play .pf-controls > .pf-whole {{ flex-basis: 100% }}
.pitfalls-play .pf-controls .pf-whole {{ flex-wrap: wrap }}
.pitfalls-play .pf-choices > button {{ flex: 1 1 4.5em; width: auto }}
.pitfalls-play .widget-label {{ width: min(9.5em, 40%); text-align: left }}
.pitfalls-play .pf-choices > .widget-label {{ width: auto; padding-right: 8px }}
.pitfalls-play textarea {{ field-sizing: content; min-height: 1.8em }}
.pitfalls-play .widget-html, .pitfalls-play .widget-html-content {{ min-width: 0; max-width: 100% }}
.pitfalls-play .pf-finding {{ font-weight: 600; margin: 6px 0 }}
.pitfalls-play .pf-problem {{ border-left: 4px solid #d62728; padding: 4px 10px; font-weight: 600 }}
.pitfalls-play .pf-box {{ display: inline-block; font: 12px/1.45 monospace; border-radius: 3px; margin: 0 2px 3px 0;
  padding: 1px 3px; white-space: pre-wrap; overflow-wrap: anywhere; max-width: 100% }}
{_BOXES}
.pitfalls-play .pf-dropped, .pitfalls-play .pf-later {{ border: 1px dashed; opacity: .65 }}
.pitfalls-play .pf-chosen {{ background: {BAR_CHOSEN}; border: 2px solid #000; outline: 1px solid #fff; color: #000 }}
.pitfalls-play .pf-changed {{ background: #fff; border: 2px solid #c1121f; color: #000;
  text-decoration: underline wavy #c1121f }}
.pitfalls-play .pf-line > b {{ display: inline-block; min-width: 7em }}
.pitfalls-play .pf-legend {{ margin: 4px 0 }}
.pitfalls-play .pf-legend .pf-box {{ font: 11px/1.3 sans-serif; margin-right: 6px }}
.pitfalls-play .pf-working {{ font-style: italic }}
.pitfalls-play .pf-bars {{ display: grid; grid-template-columns: fit-content(9em) 1fr; gap: 3px 8px }}
.pitfalls-play .pf-row {{ display: contents }}
.pitfalls-play .pf-row code {{ font: 12px/17px monospace; text-align: right; background: none; color: inherit;
  white-space: pre; overflow: hidden }}
.pitfalls-play .pf-track {{ position: relative; height: 17px; --full: (100% - 8em) }}
.pitfalls-play .pf-track > * {{ position: absolute; box-sizing: border-box }}
.pitfalls-play .pf-own {{ height: 17px; width: calc(var(--own) * var(--full)); border: 1px dashed }}
.pitfalls-play .pf-now {{ top: 2px; height: 13px; width: calc(var(--now) * var(--full)); background: {BAR};
  border: 1px solid #333 }}
.pitfalls-play .pf-taken {{ background: {BAR_CHOSEN}; border: 2px solid #000 }}
.pitfalls-play .pf-drawn {{ top: 11px; height: 6px; width: calc(var(--drawn) * var(--full)); background: #222;
  border: 1px solid #fff }}
.pitfalls-play .pf-number {{ left: calc(max(var(--own), var(--now), var(--drawn)) * var(--full) + 6px);
  line-height: 17px; white-space: pre }}
.pitfalls-play .pf-cut {{ opacity: .8 }}
.pitfalls-play .pf-cut .pf-own {{ background: {_HATCH} }}
.pitfalls-play .pf-scroll {{ overflow-x: auto; padding-bottom: 6px }}
.pitfalls-play .pf-grid {{ border-spacing: 1px; font-size: 10.5px }}
.pitfalls-play .pf-grid td, .pitfalls-play .pf-grid th {{ text-align: center; padding: 1px 2px; line-height: 1.35;
  white-space: pre }}
.pitfalls-play .pf-grid b {{ font: 12px monospace; display: block }}
.pitfalls-play .pf-chat {{ white-space: pre-wrap; font: 13px/1.7 monospace }}
.pitfalls-play .pf-chat span {{ border-radius: 3px; padding: 1px 2px; -webkit-box-decoration-break: clone }}
</style>"""


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


def finding(text: str) -> str:
    return f'<div class="pf-finding">{escape(text)}</div>'


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
