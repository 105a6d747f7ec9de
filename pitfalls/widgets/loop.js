// The generation loop, step by step, with other ways to go.
function render(context) {
  const play = stage(context);
  const { words } = play;
  const list = barList();
  const steps = () => play.get("data").steps ?? [];
  const move = (by) => play.put("step", Math.max(1, Math.min(play.get("step") + by, steps().length)));
  const takes = h("div", { className: "wide row takes", role: "group", ariaLabel: words.take });

  play.add(
    field(play, words.prompt, () => play.get("prompt"), (text) => play.ask("prompt", text)),
    slider(play, "step", words.step, () => ({ min: 1, max: steps().length, step: 1 })),
    h("div", { className: "row" }, button(words.back, () => move(-1)), button(words.forward, () => move(1))),
    takes,
  );

  play.show(() => {
    const { prompt, new: taken, greedy } = play.get("data");
    const at = play.get("step") - 1;
    const { candidates, taken: place } = steps()[at];
    const path = taken.map(([text], n) => [text, n < at ? "new" : n === at ? "chosen" : "later"]);
    const left = greedy.length ? [line(words.greedy, greedy)] : [];
    play.view.replaceChildren(
      boxes([...prompt, ...path]),
      ...left,
      legend(play, ["prompt", "new", "chosen", "later"]),
      list,
    );
    bars(list, candidates.map(([text, now], n) => ({ text: short(text), now, taken: n === place })));
    const focused = [...takes.children].findIndex((each) => each.matches(":focus"));
    takes.replaceChildren(
      h("span", {}, words.take),
      ...candidates.map(([text], n) => {
        const take = play.asking(button(text, () => play.send({ take: n })));
        take.dir = "ltr";
        take.disabled ||= n === place;
        return take;
      }),
    );
    takes.children[focused]?.focus();
    const [text, share] = candidates[place];
    return fill(place ? words.instead : words.likeliest, {
      step: at + 1,
      steps: steps().length,
      token: text,
      share: percent(share),
      best: candidates[0][0],
    });
  });
}

export default { render };
