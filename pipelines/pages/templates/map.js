// The map of a space, on a canvas: point, walk by arrow keys, open an item, look closer.
const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

class ItemMap {
  constructor(spaces) {
    this.spaces = spaces;
    this.canvas = el("canvas", { tabindex: 0, role: "application", "aria-roledescription": "map",
      "aria-label": "Map of items. Arrow keys move from item to item, Enter opens the item, plus and minus change the scale." });
    this.base = document.createElement("canvas");
    this.legend = el("ul", { class: "legend" });
    this.pointed = el("div", { class: "pointed" });
    this.only = null; // the one slot that is not dimmed
    this.schemes = items.category.some((name) => name !== null) ? [byCategory(), byTaken()] : [byTaken()];
    this.scheme = this.schemes[0];
    this.choose(0);
    this.listen();
    this.tell(null);
  }

  choose(index) {
    this.points = [];
    block(`map-${this.spaces[index]}`).forEach((xy, row) => xy && this.points.push([row, xy[0], xy[1]]));
    this.at = null;
    this.view = { scale: 1, x: 500, y: 500 };
    this.describe();
    this.draw();
  }

  describe() {
    const press = (slot) => () => {
      this.only = this.only === slot ? null : slot;
      this.describe();
      this.draw();
    };
    const pressed = document.activeElement?.dataset?.slot;
    this.legend.replaceChildren(...this.scheme.entries.map(({ slot, name, count }) =>
      el("li", {}, el("button", { type: "button", class: "quiet entry", "data-slot": slot,
        "aria-pressed": String(this.only === slot), onclick: press(slot) },
        svg("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true", focusable: "false" },
          svg("path", { d: this.scheme.mark(slot)(0, 0, this.scheme.size(slot) + 1), fill: this.scheme.colour(slot) })),
        el("bdi", {}, name), el("span", { class: "range" }, grouped(count))))));
    if (pressed !== undefined) this.legend.querySelector(`[data-slot="${pressed}"]`)?.focus();
  }

  place([, x, y]) {
    const { scale } = this.view;
    const unit = ((this.size - 24) / 1000) * scale;
    return [(x - this.view.x) * unit + this.size / 2, (y - this.view.y) * unit + this.size / 2];
  }

  /** Draw all points on the hidden canvas, then show it. */
  draw() {
    if (!this.size) return;
    const ratio = Math.min(devicePixelRatio || 1, 2);
    for (const canvas of [this.canvas, this.base]) canvas.width = canvas.height = this.size * ratio;
    const pen = this.base.getContext("2d");
    pen.scale(ratio, ratio);
    const bySlot = new Map();
    for (const point of this.points) {
      const slot = this.scheme.slotOf[point[0]];
      if (!bySlot.has(slot)) bySlot.set(slot, []);
      bySlot.get(slot).push(point);
    }
    const grow = Math.min(Math.sqrt(this.view.scale), 2) * (this.points.length > 3000 ? 0.8 : 1.15);
    for (const [slot, points] of [...bySlot].sort((a, b) => a[0] - b[0])) {
      const mark = new Path2D(this.scheme.mark(slot)(0, 0, this.scheme.size(slot) * grow));
      pen.fillStyle = this.real(this.scheme.colour(slot));
      pen.globalAlpha = this.only === null ? 0.82 : this.only === slot ? 1 : 0.1;
      for (const point of points) {
        const [x, y] = this.place(point);
        pen.translate(x, y);
        pen.fill(mark);
        pen.translate(-x, -y);
      }
    }
    this.show();
  }

  /** What a colour of the style is in the present theme, as canvases want it. */
  real(colour) {
    this.canvas.style.color = colour;
    return getComputedStyle(this.canvas).color;
  }

  show() {
    const pen = this.canvas.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    pen.drawImage(this.base, 0, 0);
    pen.scale(this.canvas.width / this.size, this.canvas.width / this.size);
    const open = this.points.find(([row]) => row === browser?.row);
    if (open) this.ring(pen, open, 9, "var(--accent)", 2);
    if (this.at) this.ring(pen, this.at, 7, "var(--ink)", 2.5);
  }

  ring(pen, point, radius, colour, width) {
    const [x, y] = this.place(point);
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.lineWidth = width;
    pen.strokeStyle = this.real(colour);
    pen.stroke();
  }

  point(at, aloud = false) {
    if (at?.[0] === this.at?.[0]) return;
    this.at = at;
    this.show();
    this.tell(at?.[0] ?? null);
    if (aloud && at) say(`${titleOf(at[0])}, ${items.category[at[0]] ?? "no category"}`);
  }

  tell(row) {
    if (row === null) {
      this.pointed.replaceChildren(el("p", { class: "range" }, "No item is pointed at."));
      return;
    }
    this.pointed.replaceChildren(picture(row),
      el("p", {}, el("strong", { dir: "auto" }, titleOf(row)), el("br"),
        el("span", { class: "range" }, [items.category[row], takenBy(row)].filter(Boolean).join(" · "))));
  }

  inMap(event) {
    const unit = ((this.size - 24) / 1000) * this.view.scale;
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left - this.size / 2) / unit + this.view.x,
      (event.clientY - box.top - this.size / 2) / unit + this.view.y, 16 / unit];
  }

  zoom(factor) {
    const centre = this.at && factor > 1 ? this.at : [0, this.view.x, this.view.y];
    const scale = Math.min(Math.max(this.view.scale * factor, 1), 32);
    this.view = scale === 1 ? { scale, x: 500, y: 500 } : { scale, x: centre[1], y: centre[2] };
    this.draw();
  }

  listen() {
    let held = null;
    const canvas = this.canvas;
    canvas.addEventListener("pointerdown", (event) => {
      held = { x: event.clientX, y: event.clientY, view: this.view, moved: false };
    });
    canvas.addEventListener("pointermove", (event) => {
      if (held && this.view.scale > 1) this.drag(held, event);
      else this.point(nearest(this.points, ...this.inMap(event)));
    });
    canvas.addEventListener("pointerleave", () => (held = null));
    canvas.addEventListener("click", (event) => {
      const found = nearest(this.points, ...this.inMap(event));
      if (found && !held?.moved) location.hash = address("item", found[0]);
      held = null;
    });
    canvas.addEventListener("keydown", (event) => this.key(event));
    document.addEventListener("themechange", () => this.draw());
    document.addEventListener("itempicked", () => this.size && this.show());
  }

  drag(held, event) {
    const unit = ((this.size - 24) / 1000) * this.view.scale;
    const [dx, dy] = [event.clientX - held.x, event.clientY - held.y];
    held.moved ||= Math.hypot(dx, dy) > 4;
    this.view = { ...held.view, x: held.view.x - dx / unit, y: held.view.y - dy / unit };
    this.draw();
  }

  key(event) {
    if (DIRECTIONS[event.key]) {
      const from = this.at ?? [null, this.view.x, this.view.y];
      const to = this.at ? ahead(this.points, from, DIRECTIONS[event.key]) : nearest(this.points, from[1], from[2], 2000);
      if (to) this.point(to, true);
    } else if (event.key === "Enter" && this.at) location.hash = address("item", this.at[0]);
    else if (event.key === "+" || event.key === "=") this.zoom(2);
    else if (event.key === "-") this.zoom(0.5);
    else return;
    event.preventDefault();
  }
}

late.map = (node) => {
  const spaces = overview.spaces.map((_, index) => index).filter((index) => block(`map-${index}`).some(Boolean));
  const map = new ItemMap(spaces);
  const frame = el("div", { class: "map-frame" }, map.canvas);
  const colours = map.schemes.length < 2 ? null :
    choice("Coloured by", ["category", "how many took it"], 0, (index) => {
      map.scheme = map.schemes[index];
      map.only = null;
      map.describe();
      map.draw();
    });
  node.append(
    el("div", { class: "tools" },
      dropdown("Space", spaces.map((index) => overview.spaces[index].name), (index) => map.choose(index)), colours,
      el("div", { class: "steps", role: "group", "aria-label": "Scale of the map" },
        button("Closer", () => map.zoom(2)), button("Wider", () => map.zoom(0.5)), button("Whole", () => map.zoom(0)))),
    el("div", { class: "map" }, frame, el("div", { class: "beside" }, map.legend, map.pointed)));
  whenSized(frame, (width) => {
    map.size = width;
    map.draw();
  });
};
