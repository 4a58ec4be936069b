// Systems as series: which are shown, and by which mark. Colour is never alone: marks differ, too.
const MARKS = [
  (x, y, r) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`,
  (x, y, r) => `M${x - r * 0.9} ${y - r * 0.9}h${r * 1.8}v${r * 1.8}h${-r * 1.8}Z`,
  (x, y, r) => `M${x} ${y - r * 1.2}L${x + r * 1.15} ${y + r * 0.9}H${x - r * 1.15}Z`,
  (x, y, r) => `M${x} ${y - r * 1.35}L${x + r * 1.35} ${y}L${x} ${y + r * 1.35}L${x - r * 1.35} ${y}Z`,
  (x, y, r) => `M${x} ${y + r * 1.2}L${x + r * 1.15} ${y - r * 0.9}H${x - r * 1.15}Z`,
  (x, y, r) => `M${x - r * 0.4} ${y - r * 1.2}h${r * 0.8}v${r * 0.8}h${r * 0.8}v${r * 0.8}h${-r * 0.8}v${r * 0.8}h${-r * 0.8}v${-r * 0.8}h${-r * 0.8}v${-r * 0.8}h${r * 0.8}Z`,
  (x, y, r) => `M${x - r * 1.2} ${y - r * 0.45}h${r * 2.4}v${r * 0.9}h${-r * 2.4}Z`,
];
const COLOURS = 8;

const markOf = (slot) => MARKS[(slot + Math.floor(slot / COLOURS)) % MARKS.length];
const colourOf = (slot) => `var(--c${slot % COLOURS})`;

/** The mark of a slot as a small drawing for legends. */
const sample = (slot) =>
  svg("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true", focusable: "false" },
    svg("path", { d: markOf(slot)(0, 0, 4), fill: colourOf(slot) }));

/** What is shown at first: the best, its controls, and the best that sees interactions only. */
function firstSystems(systems, most = 4) {
  const best = systems.find((each) => !each.control) ?? systems[0];
  const kin = systems.filter((each) => each.control && each.model === best.model);
  const plain = systems.find((each) => each.features === "none" && each !== best);
  const chosen = [best, ...kin, ...(plain ? [plain] : [])];
  for (const each of systems) if (chosen.length < 3 && !chosen.includes(each)) chosen.push(each);
  return chosen.slice(0, most).map((each) => each.name);
}

/** Which systems are shown, each in a slot that it keeps as long as it is shown. */
class Shown {
  constructor(systems, changed) {
    this.names = systems.map((each) => each.name);
    this.slots = new Map(firstSystems(systems).map((name, slot) => [name, slot]));
    this.changed = changed;
    this.legend = el("ul", { class: "legend" });
    this.node = el("div", { class: "series" }, this.legend, this.list());
    this.tell();
  }

  list() {
    const one = (name) =>
      el("label", { class: "option" },
        el("input", { type: "checkbox", checked: this.slots.has(name),
          onchange: (event) => this.toggle(name, event.target.checked) }),
        el("span", {}, name));
    this.count = el("summary");
    return el("details", { class: "choose" }, this.count,
      el("fieldset", { class: "choice wrap" }, el("legend", { class: "unseen" }, "Systems shown"),
        this.names.map(one)));
  }

  toggle(name, on) {
    if (on) {
      const taken = new Set(this.slots.values());
      let free = 0;
      while (taken.has(free)) free++;
      this.slots.set(name, free);
    } else {
      this.slots.delete(name);
    }
    this.tell();
    this.changed();
  }

  /** Names and slots of what is shown, in the order of the systems. */
  get all() {
    return this.names.filter((name) => this.slots.has(name)).map((name) => [name, this.slots.get(name)]);
  }

  tell() {
    this.count.textContent = `Choose systems (${this.slots.size} of ${this.names.length} shown)`;
    this.legend.replaceChildren(
      ...this.all.map(([name, slot]) => el("li", {}, sample(slot), el("bdi", {}, name))));
  }
}
