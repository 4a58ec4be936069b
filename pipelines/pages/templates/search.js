// A box to search in: type, then choose by arrow keys and Enter, or by a click.
const FOUND = 12;
let boxes = 0;

/** Rows whose texts hold all words; best those whose id or beginning is what was typed. */
function findRows(query, count, id, text) {
  const wanted = query.toLowerCase().trim();
  const words = wanted.split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  const best = [[], [], []];
  for (let row = 0; row < count; row++) {
    const own = id(row).toLowerCase();
    const all = `${own} ${text(row).toLowerCase()}`;
    if (!words.every((word) => all.includes(word))) continue;
    const rank = own === wanted ? 0 : own.startsWith(wanted) || text(row).toLowerCase().startsWith(wanted) ? 1 : 2;
    if (best[rank].length < FOUND) best[rank].push(row);
  }
  return best.flat().slice(0, FOUND);
}

function searchBox(label, hint, find, show, pick) {
  const id = `found-${boxes++}`;
  const list = el("ul", { id, class: "found", role: "listbox", "aria-label": label, hidden: true });
  const input = el("input", { type: "text", role: "combobox", autocomplete: "off", spellcheck: "false",
    placeholder: hint, "aria-expanded": "false", "aria-controls": id, "aria-autocomplete": "list" });
  let rows = [];
  let active = -1;

  const close = () => {
    rows = [];
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
    active = -1;
  };
  const choose = (index) => {
    if (rows[index] === undefined) return;
    const row = rows[index];
    close();
    input.value = "";
    pick(row);
  };
  const activate = (index) => {
    active = (index + rows.length) % rows.length;
    [...list.children].forEach((each, i) => each.setAttribute("aria-selected", String(i === active)));
    input.setAttribute("aria-activedescendant", `${id}-${active}`);
    list.children[active].scrollIntoView({ block: "nearest" });
  };
  const open = () => {
    rows = find(input.value);
    active = -1;
    list.replaceChildren(...rows.map((row, i) =>
      el("li", { id: `${id}-${i}`, role: "option", "aria-selected": "false",
        onmousedown: (event) => event.preventDefault(), onclick: () => choose(i) }, show(row))));
    if (input.value.trim() && !rows.length) say("Nothing found");
    list.hidden = !rows.length;
    input.setAttribute("aria-expanded", String(!list.hidden));
    input.classList.toggle("nothing", Boolean(input.value.trim()) && !rows.length);
  };
  input.addEventListener("input", open);
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
    else if (!list.hidden && event.key === "Enter") choose(Math.max(active, 0));
    else if (list.hidden && event.key === "ArrowDown") open();
    else if (!list.hidden && event.key === "ArrowDown") activate(active + 1);
    else if (!list.hidden && event.key === "ArrowUp") activate(active < 0 ? -1 : active - 1);
    else return;
    event.preventDefault();
  });
  return el("div", { class: "search" }, el("label", {}, el("span", {}, label), input), list);
}

/** Before, after, any: the buttons beside a search box. */
function steps(kind, count, here) {
  const go = (row) => {
    location.hash = address(kind, (row + count()) % count());
  };
  return el("div", { class: "steps", role: "group", "aria-label": `Other ${kind}s` },
    button("← Previous", () => go(here() - 1), { "aria-label": `Previous ${kind}` }),
    button("Next →", () => go(here() + 1), { "aria-label": `Next ${kind}` }),
    button("Random", () => go(Math.floor(Math.random() * count())), { "aria-label": `Random ${kind}` }));
}
