// What a budget keeps of an answer.
function render(context) {
  const play = stage(context);
  const { words } = play;
  const { rows, most } = play.get("data");
  const select = h(
    "select",
    { dir: "auto", ariaLabel: words.row, onchange: () => play.put("row", select.selectedIndex) },
    rows.map(({ name }) => h("option", {}, name)),
  );
  select.update = () => (select.selectedIndex = play.get("row"));
  play.add(
    h("label", { className: "wide" }, h("span", {}, words.row), select),
    slider(play, "budget", "max_new_tokens", { min: 1, max: most, step: 1 }),
  );

  play.show(() => {
    const row = rows[play.get("row")];
    const budget = play.get("budget");
    const kept = row.new.slice(0, budget);
    const reason = budget < row.new.length ? "length" : row.stopped_by;
    if (reason === "end-of-sequence") kept.push([kept.pop()[0], "end"]);
    const dropped = row.new.slice(budget).map(([text]) => [text, "dropped"]);
    play.view.replaceChildren(
      boxes([...row.prompt, ...kept, ...dropped]),
      legend(play, ["prompt", "new", "end", "dropped"]),
    );
    const unused = budget - kept.length;
    const all = row.prompt.length + kept.length;
    const share = `${Math.round((100 * row.prompt.length) / all)}%`;
    const ended = play.count(unused > 0 ? words.unused : words.used_up, kept.length, { budget, unused, reason });
    return `${ended} ${play.count(words.prompt, row.prompt.length, { all, share })}`;
  });
}

export default { render };
