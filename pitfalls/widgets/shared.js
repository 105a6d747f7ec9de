// What the widgets share. Python puts this, with the style, in front of each widget's own module.
// Every word that is shown comes from Python; a sentence has named places, as in "{n} new tokens". Where its words depend
// on the number {n}, it comes in a form for each kind of number.

// An element. An attribute that is one of its properties is set as such: `onclick`, `className`, `disabled`.
function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.flat());
  return element;
}

const fill = (sentence, values) => sentence.replace(/\{(\w+)\}/g, (place, name) => values[name] ?? place);
const number = (value) => value.toLocaleString("en-US");

function percent(probability) {
  if (probability === 0) return "0%"; // cut off, and not only unlikely
  if (probability >= 0.001) return `${(100 * probability).toFixed(1)}%`;
  return probability >= 1e-5 ? `${Number((100 * probability).toPrecision(1))}%` : "<0.001%";
}

// What a widget stands on: its controls, what is said about them, and its view, in a shadow that no page's style reaches.
// Without a kernel (`live` is false) it can show all that it holds, and a control that asks the model is locked.
function stage({ model, el }, name = "pitfalls-play") {
  const words = model.get("words");
  const live = Boolean(model.send);
  const note = h("p", { className: "note", id: "note", hidden: true }, words.needs_notebook ?? "");
  const controls = h("fieldset", { className: "controls" });
  const working = h("p", { className: "working", role: "status" });
  const problem = h("p", { className: "problem", role: "alert", hidden: true });
  const summary = h("p", { className: "summary", ariaLive: "polite" });
  const view = h("div", { className: "view" });
  const root = el.attachShadow({ mode: "open" });
  root.append(h("style", {}, STYLE), controls, note, working, problem, summary, view);
  el.classList.add(name);
  Object.assign(el, words.page);
  el.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab's own keys stay out of the controls

  const kinds = new Intl.PluralRules(words.page.lang);
  let focused = null;
  function lock() {
    focused = root.activeElement;
    working.textContent = words.working;
    controls.disabled = true;
  }
  function unlock() {
    working.textContent = "";
    controls.disabled = false;
    focused?.focus();
    focused = null;
  }
  if (live) model.on("msg:custom", unlock);

  return {
    words,
    live,
    view,
    get: (name) => model.get(name),
    put(name, value) {
      model.set(name, value);
      model.save_changes();
    },
    // A sentence whose words depend on a number.
    count: (forms, n, values) => fill(forms[kinds.select(n)] ?? forms.other, { n: number(n), ...values }),
    // A value that only the model can answer to.
    ask(name, value) {
      lock();
      this.put(name, value);
    },
    send(message) {
      lock();
      model.send(message);
    },
    add: (...elements) => controls.append(...elements),
    // A control that asks the model: without a kernel it says that it needs a notebook.
    asking(element) {
      if (live) return element;
      note.hidden = false;
      element.setAttribute("aria-describedby", "note");
      if (element.matches("input, textarea")) element.readOnly = true;
      else element.disabled = true;
      return element;
    },
    // Draw now and whenever something changes. `draw` fills the view and returns the sentence; what it throws is said.
    show(draw) {
      this.redraw = () => {
        for (const control of controls.querySelectorAll("*")) control.update?.();
        let said = "";
        problem.textContent = model.get("problem");
        if (!problem.textContent) {
          try {
            said = draw();
          } catch (error) {
            if (typeof error !== "string") throw error;
            problem.textContent = error;
          }
        }
        problem.hidden = !problem.textContent;
        summary.hidden = view.hidden = !problem.hidden;
        if (summary.textContent !== said) summary.textContent = said;
      };
      model.on("change", this.redraw);
      this.redraw();
    },
  };
}

// --- controls: each follows its value in the model ---

// `range` gives min, max and step, or is a function that does.
function slider(play, name, label, range) {
  const readout = h("output");
  const input = h("input", { type: "range", dir: "ltr", oninput: () => play.put(name, Number(input.value)) });
  input.update = () => {
    Object.assign(input, typeof range === "function" ? range() : range);
    input.value = play.get(name);
    readout.textContent = number(play.get(name));
  };
  return h("div", { className: "control" }, h("label", {}, h("span", {}, label), input), readout);
}

function tick(play, name, label) {
  const input = h("input", { type: "checkbox", onchange: () => play.put(name, input.checked) });
  input.update = () => (input.checked = play.get(name));
  return h("label", { className: "tick" }, input, label);
}

// One of several, as radio buttons; `choices` are [value, label].
function choice(play, name, label, choices) {
  const inputs = choices.map(([value, text]) => {
    const input = h("input", { type: "radio", name, onchange: () => play.put(name, value) });
    input.update = () => (input.checked = play.get(name) === value);
    return h("label", { className: "tick" }, input, text);
  });
  return h("div", { className: "control", role: "radiogroup", ariaLabel: label }, h("span", {}, label), inputs);
}

// A text that the model has to answer to, once it is entered.
function field(play, label, read, write, rows = 0) {
  const enter = () => input.value !== read() && write(input.value);
  const input = play.asking(h(rows ? "textarea" : "input", { onchange: enter, dir: "auto", ...(rows && { rows }) }));
  input.update = () => (input.value = read());
  return h("label", { className: "wide" }, h("span", {}, label), input);
}

const button = (text, onclick) => h("button", { type: "button", onclick }, text);

// --- what is drawn: tokens and bars keep their order from left to right in every language ---

// Tokens, each as [text, style].
const box = ([text, style]) => h("span", { className: `box ${style}` }, text);
const boxes = (tokens) => h("div", { dir: "ltr" }, tokens.map(box));
const line = (name, tokens) =>
  h("div", { className: "line" }, h("b", {}, name), " ", h("span", { dir: "ltr" }, tokens.map(box)));

// The names of styles: `words.legend` has them.
const legend = ({ words }, styles) =>
  h("div", { className: "legend" }, styles.map((style) => box([words.legend[style] ?? style, style])));

// Words of ours among them, which run as the language does.
const ours = (text) => h("bdi", {}, text);

// A row for each token, in a list that is kept, so that bars can glide: `now` is its probability, `own` that of the model
// alone where it is drawn too, `drawn` how often it came of a hundred, `cut` what is said of a token that is gone.
function bars(list, rows) {
  while (list.children.length > rows.length) list.lastChild.remove();
  while (list.children.length < rows.length) {
    const marks = ["own", "now", "drawn", "number"].map((name) => h("span", { className: name }));
    list.append(h("li", {}, h("code"), h("span", { className: "track" }, marks)));
  }
  rows.forEach(({ text, now, own = null, cut = "", drawn, taken = false }, n) => {
    const [name, track] = list.children[n].children;
    name.replaceChildren(text);
    track.className = `track${own === null ? " single" : ""}${taken ? " taken" : ""}${cut ? " gone" : ""}`;
    for (const [key, value] of Object.entries({ own: own ?? 0, now: cut ? 0 : now, drawn: (drawn ?? 0) / 100 })) {
      track.style.setProperty(`--${key}`, value);
    }
    track.lastChild.replaceChildren(ours(cut || percent(now)), drawn === undefined ? "" : ` · ${drawn} ×`);
  });
}

const barList = () => h("ul", { className: "bars", dir: "ltr" });
const short = (text, length = 18) => (text.length <= length ? text : `${text.slice(0, length - 1)}…`);

// --- a page without a kernel ---

// Draw the widget in each element that waits for it. What it holds stands in for the kernel's model.
function onPage(name, state, render) {
  for (const place of document.querySelectorAll(`[data-pitfalls="${name}"]`)) {
    const values = structuredClone(state);
    const heard = [];
    const model = {
      get: (key) => values[key],
      set: (key, value) => (values[key] = value),
      save_changes: () => heard.forEach((call) => call()),
      on: (event, call) => heard.push(call),
    };
    const el = h("div");
    render({ model, el });
    place.replaceChildren(el);
    place.removeAttribute("data-pitfalls");
  }
}
