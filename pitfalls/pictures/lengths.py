"""Figures of how long rows are: where each began, what ended it, and what a budget cuts off."""

from collections.abc import Iterator, Mapping

from matplotlib.patches import Patch, Rectangle

from pitfalls.inspector.call import Call
from pitfalls.inspector.rows import Row
from pitfalls.language import N_, _, ngettext
from pitfalls.pictures.drawing import SMALLEST, STYLES, WIDTH, Picture, no_frame, short, subplots, titled, visible
from pitfalls.pictures.sources import at_least_one, kind

LEGEND = {
    "prompt": N_("prompt"),
    "new": N_("new"),
    "end": N_("end token"),
    "padding": N_("cut off by the budget"),
    "special": N_("ended: waits for the longest row"),
}


def lengths(
    source: Call | Mapping[str, Call], budget: int | None = None, title: str | None = None, limit: int | None = None
) -> Picture:
    """Each row as a line of small boxes, one a token: its prompt, what is new, and what ended it.

    The rows of one call stand as in a left-padded batch: their new tokens begin together, and a row that has ended
    waits for the longest. Several calls by name stand one below the other, each from its own beginning, by their first
    row. With `budget`, new tokens beyond it are hatched, after a line with scissors. With `limit`, a line stands where
    prompt and new tokens together are that many.
    """
    at_least_one(**{name: value for name, value in {"budget": budget, "limit": limit}.items() if value is not None})
    one = isinstance(source, Call)
    rows = _rows(source)
    starts = [-len(row.prompt_ids) if one else 0 for row in rows.values()]
    last = max(len(row.new_ids) for row in rows.values())
    figure, axis = subplots(figsize=(WIDTH, 1.1 + 0.34 * len(rows)))
    shown, cuts = set(), set()
    for y, (row, start) in enumerate(zip(rows.values(), starts, strict=True)):
        styles = list(_styles(row, budget, last if one else 0))
        shown.update(styles)
        for x, style in enumerate(styles, start):
            axis.add_patch(Rectangle((x + 0.06, y - 0.36), 0.88, 0.72, linewidth=0.6, **STYLES[style]))
        if budget is not None and len(row.new_ids) > budget:
            cut = start + len(row.prompt_ids) + budget
            axis.plot([cut, cut], [y - 0.5, y + 0.5], color="black", linewidth=1.6)
            if not one or cut not in cuts:
                words = _("✂ budget {budget}", budget=budget) if one else "✂"
                axis.text(cut, y - 0.66, words, ha="center", va="center", fontsize=SMALLEST)
            cuts.add(cut)
        axis.text(start + len(styles) + 0.6, y, _ending(row, budget), va="center", fontsize=SMALLEST)
    if limit is not None:
        line = min(starts) + limit
        axis.plot([line, line], [-0.46, len(rows) - 0.5], color="black", linewidth=1.6)
        axis.text(line, -0.7, f"✂ max_length={limit}", ha="center", va="center", fontsize=SMALLEST)
    right = max(
        start + len(row.prompt_ids) + len(row.new_ids) for start, row in zip(starts, rows.values(), strict=True)
    )
    width = right - min(starts)
    axis.set(xlim=(min(starts) - 0.3, right + 0.3 * width), ylim=(len(rows) - 0.4, -0.85), xticks=[])
    names = [short(visible(name), 30) for name in rows]
    axis.set_yticks(range(len(rows)), names, family="monospace", fontsize=SMALLEST)
    no_frame(axis)
    kinds = [Patch(label=_(LEGEND[style]), linewidth=0.6, **STYLES[style]) for style in LEGEND if style in shown]
    axis.legend(handles=kinds, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=len(kinds), fontsize=SMALLEST,
                frameon=False)  # fmt: skip
    told = "; ".join(_row_told(name, row, budget) for name, row in rows.items())
    if limit is None:
        alt = _("A line of boxes for each row. {rows}.", rows=told)
    else:
        alt = _("A line of boxes for each row, and a line at max_length={limit}. {rows}.", limit=limit, rows=told)
    return titled(figure, title or _title(list(rows.values()), budget), alt)


def _rows(source: Call | Mapping[str, Call]) -> dict[str, Row]:
    if isinstance(source, Call) and source.rows:
        texts = [row.prompt_text for row in source.rows]
        names = texts if len(set(texts)) == len(texts) else [f"{n}: {text}" for n, text in enumerate(texts)]
        return dict(zip(names, source.rows, strict=True))
    if isinstance(source, Mapping) and source and all(isinstance(c, Call) and c.rows for c in source.values()):
        return {name: call.rows[0] for name, call in source.items()}
    raise ValueError(_("`lengths` takes a recorded call, or several by name, and not {what}.", what=kind(source)))


def _styles(row: Row, budget: int | None, last: int) -> Iterator[str]:
    """Of each box; `last` is the number of new tokens of the longest row, for which the others wait."""
    yield from ["prompt"] * len(row.prompt_ids)
    for n in range(len(row.new_ids)):
        if budget is not None and n >= budget:
            yield "padding"
        else:
            yield "end" if row.stopped_by == "end-of-sequence" and n == len(row.new_ids) - 1 else "new"
    if budget is None:
        yield from ["special"] * (last - len(row.new_ids))


def _ending(row: Row, budget: int | None) -> str:
    if budget is not None and len(row.new_ids) > budget:
        return ngettext("{n} new, cut off", "{n} new, cut off", budget)
    new, reason = len(row.new_ids), row.stopped_by
    if reason == "length":
        return ngettext("{n} new, stopped by {reason}", "{n} new, stopped by {reason}", new, reason=reason)
    return ngettext("{n} new, {reason}", "{n} new, {reason}", new, reason=reason)


def _row_told(name: str, row: Row, budget: int | None) -> str:
    return ngettext(
        "'{name}': {n} prompt tokens, {ending}",
        "'{name}': {n} prompt tokens, {ending}",
        len(row.prompt_ids),
        name=name,
        ending=_ending(row, budget),
    )


def _title(rows: list[Row], budget: int | None) -> str:
    if budget is not None:
        cut = sum(len(row.new_ids) > budget or row.stopped_by == "length" for row in rows)
        return ngettext(
            "A budget of {n} new tokens cuts off {cut} of {rows} rows",
            "A budget of {n} new tokens cuts off {cut} of {rows} rows",
            budget,
            cut=cut,
            rows=len(rows),
        )
    new = [len(row.new_ids) for row in rows]
    if min(new) < max(new):
        return _("From {least} to {most} new tokens", least=min(new), most=max(new))
    return ngettext("{n} new tokens each", "{n} new tokens each", max(new))
