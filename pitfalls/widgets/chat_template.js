// A chat with and without its template, its system turn and its generation prompt.
function render(context) {
  const play = stage(context);
  const { words } = play;
  const list = barList();
  const prompted = tick(play, "prompted", words.prompted);
  const system = field(play, "system", () => play.get("system_text"), (text) => play.ask("system_text", text), 1);
  const turn = ({ role }, n) => {
    const write = (content) => play.ask("turns", play.get("turns").map((each, m) => (m === n ? { role, content } : each)));
    return field(play, role, () => play.get("turns")[n].content, write, 1);
  };
  const switches = [tick(play, "template", words.template), tick(play, "system", words.system), prompted];
  play.add(
    h("div", { className: "wide row" }, switches),
    system,
    ...play.get("turns").map(turn),
  );
  const spans = (parts) => parts.map(([role, text]) => h("span", { className: role }, text.replaceAll("\n", "⏎\n")));

  play.show(() => {
    prompted.control.disabled = !play.get("template");
    system.hidden = !play.get("system");
    const state = play.get("data")[["template", "system", "prompted"].map((name) => play.get(name)).join(" ")];
    if (state.problem) throw state.problem;
    const { parts, end, candidates } = state;
    play.view.replaceChildren(
      h("div", { className: "chat", dir: "auto" }, spans(parts)),
      legend(play, [...new Set(parts.map(([role]) => role))]),
      list,
    );
    bars(list, candidates.map(([text, now]) => ({ text: short(text), now })));
    const [token, share] = candidates[0];
    return fill(words.summary, { end: percent(end), token, share: percent(share) });
  });
}

export default { render };
