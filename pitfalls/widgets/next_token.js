// The distribution over the next token, computed here as transformers computes it.

// What tokens and the bins of the rest weigh under the settings, in the order of transformers: penalty, temperature,
// top-k, top-p, min-p. Returns the tokens, each with `p` and the filter that `cut` it, how many can be drawn, and whether
// a filter's limit lies inside a bin, so that this number is not exact.
function distribute({ logits, seen, rest }, { temperature, top_k, top_p, min_p, repetition_penalty }) {
  const tokens = logits.map((score) => ({ score, count: 1, cut: "" }));
  for (const n of seen) tokens[n].score *= tokens[n].score < 0 ? repetition_penalty : 1 / repetition_penalty;
  const bins = rest.counts.map((count, n) => ({ score: rest.low + (n + rest.means[n] / 100) * rest.width, count, n }));
  const sorted = [...tokens, ...bins.filter((bin) => bin.count)].sort((a, b) => b.score - a.score);
  const best = sorted[0].score;
  for (const item of sorted) item.weight = Math.exp((item.score - best) / temperature);

  const drop = (item, filter, gone = item.count) => {
    item.count -= gone;
    if (!item.count) item.cut = filter;
  };
  const mass = () => sorted.reduce((sum, item) => sum + item.count * item.weight, 0);
  if (top_k) {
    let room = top_k;
    for (const item of sorted) {
      const kept = Math.min(room, item.count);
      room -= kept;
      drop(item, "top-k", item.count - kept);
    }
  }
  if (top_p < 1) {
    let room = (1 - top_p) * mass(); // what the unlikeliest may hold together and go
    for (const item of sorted.slice(1).reverse()) {
      if (!item.count) continue;
      const gone = Math.min(item.count, Math.floor(room / item.weight));
      room -= gone * item.weight;
      drop(item, "top-p", gone);
      if (item.count) break;
    }
  }
  if (min_p) {
    const limit = best + temperature * Math.log(min_p);
    for (const item of sorted) {
      if (!item.count) continue;
      const inBin = item.n !== undefined;
      const above = inBin ? rest.low / rest.width + item.n + 1 - limit / rest.width : Number(item.score >= limit);
      const left = Math.round((inBin ? rest.counts[item.n] : 1) * Math.min(1, Math.max(0, above)));
      drop(item, "min-p", item.count - Math.min(item.count, left));
    }
  }
  const total = mass();
  for (const token of tokens) token.p = (token.count * token.weight) / total;
  const kept = sorted.reduce((sum, item) => sum + item.count, 0);
  const about = bins.some((bin) => bin.count && bin.count < rest.counts[bin.n]);
  return { tokens, kept, about };
}

// How often each of these came in so many draws; a last place counts all the others.
function draw(probabilities, draws) {
  const counts = [...probabilities, 0].fill(0);
  for (let n = 0; n < draws; n++) {
    let left = Math.random();
    const place = probabilities.findIndex((p) => (left -= p) < 0);
    counts[place < 0 ? probabilities.length : place]++;
  }
  return counts;
}

function render(context) {
  const play = stage(context);
  const { words } = play;
  const list = barList();
  const settings = () => Object.fromEntries(Object.keys(words.sliders).map((name) => [name, play.get(name)]));
  let alone = {}; // what the model alone says, with the data that it is of
  let sample = {}; // how often each token came, with the state that it was drawn in

  play.add(field(play, words.prompt, () => play.get("prompt"), (text) => play.ask("prompt", text)));
  for (const [name, { label, ...range }] of Object.entries(words.sliders)) play.add(slider(play, name, label, range));
  const draws = button(words.sample, () => {
    sample = { wanted: true };
    play.redraw();
  });
  play.add(h("div", { className: "row" }, draws));
  play.view.append(list);

  play.show(() => {
    const data = play.get("data");
    const state = JSON.stringify([play.get("prompt"), settings()]);
    if (alone.data !== data) alone = { data, tokens: distribute(data, words.off).tokens };
    const { tokens, kept, about } = distribute(data, settings());
    const shown = tokens.slice(0, data.shown);
    if (sample.wanted) sample = { state, counts: draw(shown.map(({ p }) => p), 100) };
    const drawn = sample.state === state ? sample.counts : [];

    const rows = shown.map(({ p, cut }, n) => ({
      text: short(data.texts[n]),
      own: alone.tokens[n].p,
      now: p,
      cut: cut && fill(words.cut, { filter: cut }),
      drawn: drawn[n],
    }));
    const others = (key) => Math.max(0, 1 - rows.reduce((sum, row) => sum + row[key], 0));
    rows.push({
      text: ours(play.count(words.others, data.size - shown.length)),
      own: others("own"),
      now: others("now"),
      cut: kept > shown.filter(({ cut }) => !cut).length ? "" : words.cut_all,
      drawn: drawn[shown.length],
    });
    bars(list, rows);

    const best = tokens.reduce((most, { p }, n) => (p > tokens[most].p ? n : most), 0);
    const changed = Object.entries(settings()).filter(([name, value]) => value !== words.off[name]);
    const said = about ? words.about : changed.length ? words.changed : words.alone;
    return play.count(said, about ? Number(kept.toPrecision(3)) : kept, {
      settings: changed.map(([name, value]) => `${name}=${value}`).join(", "),
      token: data.texts[best],
      now: percent(tokens[best].p),
      own: percent(alone.tokens[best].p),
      all: number(data.size),
    });
  });
}

export default { render };
