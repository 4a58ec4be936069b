// The neighbour browser: one item, and what each space puts next to it.
let browser = null;
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const letterOf = (space) => LETTERS[space % 26] + (space < 26 ? "" : Math.floor(space / 26) + 1);
const FIRST_SPACES = 8;
const LEAST_OVERLAP = 12;
const LETTERS_AT_FIRST = 360;

class Browser {
  constructor(node) {
    this.row = 0;
    this.spaces = new Set(overview.spaces.slice(0, FIRST_SPACES).keys());
    this.picked = el("article", { class: "picked", "aria-label": "Picked item" });
    this.rows = el("div", { class: "rows" });
    const find = (query) => findRows(query, items.id.length, (row) => items.id[row], (row) => textOf(row) ?? "");
    const found = (row) => [picture(row), el("span", { dir: "auto" }, titleOf(row)), el("span", { class: "range" }, items.id[row])];
    node.append(
      el("div", { class: "tools" },
        searchBox("Search items", "Text or id", find, found, (row) => (location.hash = address("item", row))),
        steps("item", () => items.id.length, () => this.row)),
      this.chooser(), el("div", { class: "browser" }, this.picked, this.rows), disagreements());
  }

  chooser() {
    if (overview.spaces.length < 2) return null;
    const toggle = (space) => (event) => {
      this.spaces[event.target.checked ? "add" : "delete"](space);
      this.show();
    };
    const one = (space, index) =>
      el("label", { class: "option" },
        el("input", { type: "checkbox", checked: this.spaces.has(index), onchange: toggle(index) }),
        el("span", {}, el("b", { class: "letter" }, letterOf(index)), " ", space.name));
    return el("details", { class: "choose" }, el("summary", {}, "Choose spaces"),
      el("fieldset", { class: "choice wrap" }, el("legend", { class: "unseen" }, "Spaces shown"), overview.spaces.map(one)));
  }

  pick(row, focus) {
    this.row = row;
    this.show();
    document.dispatchEvent(new Event("itempicked"));
    if (focus) this.picked.querySelector("h3").focus({ preventScroll: true });
  }

  show() {
    const { row } = this;
    this.picked.replaceChildren(...this.facts(row));
    const shown = [...this.spaces].sort((a, b) => a - b).map((space) => ({ space, lists: neighboursOf(space, row) }));
    this.rows.replaceChildren(...shown.map((each) => this.near(each, shown)));
  }

  facts(row) {
    const [data, why] = pictureOf(row);
    const text = textOf(row);
    return [
      picture(row, `Picture of ${titleOf(row)}`),
      el("h3", { tabindex: -1, dir: "auto" }, titleOf(row, 120)),
      el("p", { class: "range" }, [items.category[row], takenBy(row)].filter(Boolean).join(" · ")),
      el("p", { class: "range" }, "id ", el("bdi", {}, items.id[row])),
      !data && why ? el("p", { class: "range" }, `No picture: ${why}`) : "",
      text ? passage(text) : el("p", { class: "range" }, "No text."),
    ];
  }

  near({ space, lists: [rows, similarities] }, shown) {
    const name = overview.spaces[space].name;
    const heading = el("h4", {}, el("b", { class: "letter" }, letterOf(space)), " ", el("bdi", {}, name));
    if (!rows.length) {
      return el("section", { class: "near" }, heading, el("p", { class: "range" }, "The item has no vector here."));
    }
    const others = shown.filter((each) => each.space !== space);
    const make = (row, rank) => {
      const also = others.filter(({ lists }) => lists[0].includes(row)).map((each) => letterOf(each.space));
      return card(row, el("span", { class: "meta" },
        el("span", { class: "cosine" }, share(similarities[rank] / 100, 2)),
        also.length ? el("span", { class: "also" }, "also ", also.map((letter) => [el("b", { class: "letter" }, letter), " "])) : null));
    };
    return el("section", { class: "near" }, heading, strip(rows, make, `Neighbours by ${name}`));
  }
}

/** A text, cut until the rest is asked for. */
function passage(text) {
  const letters = [...text];
  if (letters.length <= LETTERS_AT_FIRST * 1.2) return el("p", { class: "item-text", dir: "auto" }, text);
  const shown = el("p", { class: "item-text", dir: "auto" }, `${letters.slice(0, LETTERS_AT_FIRST).join("")}… `);
  shown.append(button("All of the text", () => {
    shown.replaceChildren(clean(text));
    shown.tabIndex = -1;
    shown.focus();
  }));
  return shown;
}

/** Where two spaces agree least: of items that are in both. */
function disagreements() {
  if (!overview.disagreements.length) return null;
  const list = el("div");
  const show = (index) => {
    const overlap = block(`disagreement-${index}`);
    const known = overlap.map((part, row) => [row, part]).filter(([, part]) => isNumber(part));
    known.sort((a, b) => a[1] - b[1] || items.taken[b[0]] - items.taken[a[0]]);
    const rows = known.slice(0, LEAST_OVERLAP).map(([row]) => row);
    const mean = known.reduce((sum, [, part]) => sum + part, 0) / known.length;
    const note = (row) => card(row, el("span", { class: "meta" }, `${Math.round(overlap[row] * 100)} % shared`));
    list.replaceChildren(
      el("p", { class: "range" }, known.length
        ? `Over ${plural(known.length, "item")} the two share ${Math.round(mean * 100)} % of their neighbours; least they share of these, the most often taken first:`
        : "No item is in both."),
      strip(rows, note, "Items where the two spaces disagree most"));
  };
  const pairs = overview.disagreements.map(({ one, other }) => `${one} against ${other}`);
  show(0);
  return el("div", { class: "disagree" }, el("h3", {}, "Where two spaces disagree most"),
    el("div", { class: "tools" }, dropdown("Spaces", pairs, show)), list);
}

late.neighbours = (node) => {
  browser = new Browser(node);
  browser.pick(wanted("item") ?? mostTaken(), false);
};

const mostTaken = () => items.taken.indexOf(items.taken.reduce((a, b) => Math.max(a, b), 0));
