// A batch with its pads on either side, with or without a mask.
function render(context) {
  const play = stage(context);
  const { words } = play;
  play.add(
    field(play, words.texts, () => play.get("texts"), (text) => play.ask("texts", text), 3),
    choice(play, "side", words.side, Object.entries(words.sides)),
    choice(play, "masked", words.mask, [true, false].map((masked) => [masked, words.masks[masked]])),
  );

  const cell = ([text, mask, position]) =>
    h("td", { className: mask ? "prompt" : "padding" }, h("b", {}, text), fill(words.cells[mask], { position }));

  play.show(() => {
    const { states, alone } = play.get("data");
    const { grid, new: rows, same } = states[`${play.get("side")} ${play.get("masked")}`];
    const table = grid.map((cells, n) => h("tr", {}, h("th", { scope: "row" }, fill(words.row, { row: n })), cells.map(cell)));
    const lines = rows.flatMap((tokens, n) => {
      const differs = JSON.stringify(tokens) !== JSON.stringify(alone[n]);
      return [line(fill(words.goes_on, { row: n }), tokens), ...(differs ? [line(words.alone, alone[n])] : [])];
    });
    play.view.replaceChildren(
      h("div", { className: "scroll", tabIndex: 0, role: "group", ariaLabel: words.mask, dir: "ltr" }, h("table", {}, table)),
      ...lines,
      legend(play, ["prompt", "padding", "new", "changed"]),
    );
    const side = words.sides[play.get("side")];
    return play.count(play.get("masked") ? words.masked : words.unmasked, same, { side, rows: rows.length });
  });
}

export default { render };
