// A question about code, with a button for each choice.
function render(context) {
  const play = stage(context, "pitfalls-predict");
  const { question, code, choices, feedback: known } = play.get("data");
  const told = (n) => play.get("data").feedback[n] ?? { state: "not yet" };
  const choose = (n) => {
    play.put("chosen", n);
    if (told(n).state === "not yet") play.send({ choose: n }); // the code has not run, or could not
  };
  const buttons = choices.map((text, n) => button(text, () => choose(n)));
  play.add(
    h("legend", {}, question),
    h("pre", { dir: "ltr", tabIndex: 0 }, h("code", {}, code)),
    h("div", { className: "choices" }, known.length ? buttons : buttons.map(play.asking)),
  );
  play.view.ariaLive = "polite";

  play.show(() => {
    const chosen = play.get("chosen");
    buttons.forEach((each, n) => (each.ariaPressed = n === chosen));
    const { state, sign, text } = told(chosen);
    const said = text ? [h("b", {}, sign), " ", withCode(text)] : [];
    play.view.replaceChildren(h("div", { className: `said ${state.replace(" ", "-")}`, hidden: !text }, said));
    return "";
  });
}

// What stands between backticks, in the letters of code.
const withCode = (text) => text.split("`").map((part, n) => (n % 2 ? h("code", {}, part) : part));

export default { render };
