// Small things to operate: one of several, some of several, arrow keys.

/** Move among a node's links or buttons by arrow keys; all but one are out of the tab order. */
function roving(node, selector, vertical = false) {
  const all = () => [...node.querySelectorAll(selector)];
  const settle = (chosen) => {
    for (const each of all()) each.tabIndex = each === chosen ? 0 : -1;
  };
  settle(all()[0]);
  node.addEventListener("focusin", (event) => {
    const chosen = event.target.closest(selector);
    if (chosen) settle(chosen);
  });
  node.addEventListener("keydown", (event) => {
    const places = all();
    const here = places.indexOf(document.activeElement);
    const [back, on] = vertical ? ["ArrowUp", "ArrowDown"] : ["ArrowLeft", "ArrowRight"];
    const to = { [back]: here - 1, [on]: here + 1, Home: 0, End: places.length - 1 }[event.key];
    if (here < 0 || to === undefined) return;
    event.preventDefault();
    places[Math.min(Math.max(to, 0), places.length - 1)].focus();
  });
  return node;
}

let names = 0;

/** One of several: radio buttons, as many as there are options. */
function choice(label, options, picked, change) {
  const name = `choice-${names++}`;
  const one = (text, index) =>
    el("label", { class: "option" },
      el("input", { type: "radio", name, value: index, checked: index === picked,
        onchange: () => change(index) }),
      el("span", {}, text));
  return el("fieldset", { class: "choice" }, el("legend", {}, label), options.map(one));
}

/** One of many, by a list that drops down. */
function dropdown(label, options, change) {
  const id = `list-${names++}`;
  const list = el("select", { id, onchange: (event) => change(Number(event.target.value)) },
    options.map((text, index) => el("option", { value: index }, text)));
  return el("div", { class: "dropdown" }, el("label", { for: id }, label), list);
}

const button = (text, click, attributes = {}) =>
  el("button", { type: "button", class: "quiet", onclick: click, ...attributes }, text);

function copying() {
  const copy = document.getElementById("copy");
  if (!copy || !navigator.clipboard) return;
  copy.hidden = false;
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(comparison.command);
      copy.textContent = "Copied";
    } catch {
      copy.textContent = "The browser does not allow it";
    }
  });
}
