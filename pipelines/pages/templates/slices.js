// Recall of each slice, a row a slice, a mark and its interval a system.
function slicePlot(width, kind, shown) {
  const chosen = shown.all.map(([name, slot]) => ({
    name, slot,
    slices: comparison.systems.find((each) => each.name === name).slices.filter((s) => s.kind === kind),
  }));
  const rows = new Map(); // of whatever system: slices are the same for all
  for (const system of comparison.systems) {
    for (const slice of system.slices) if (slice.kind === kind) rows.set(slice.name, slice);
  }
  const labels = Math.min(210, Math.round(width * 0.36));
  const height = Math.max(38, 13 * chosen.length + 16);
  const values = chosen.flatMap((c) => c.slices.flatMap((s) => [s.recall.mean, s.recall.low, s.recall.high]));
  const known = values.filter(isNumber);
  const high = Math.max(...known, 0) * 1.03 || 1;
  const x = (value) => labels + 8 + (value / high) * (width - labels - 26);
  const total = rows.size * height + 26;
  const drawing = svg("svg", { width, height: total, viewBox: `0 0 ${width} ${total}`, role: "img",
    "aria-label": `Recall by ${kind} of ${chosen.map((c) => c.name).join(", ")}; the table below has the numbers.` });
  for (const tick of ticks(0, high, width < 500 ? 3 : 6)) {
    drawing.append(
      svg("line", { class: "grid", x1: x(tick.value), x2: x(tick.value), y1: 20, y2: total }),
      svg("text", { class: "tick", x: x(tick.value), y: 12, "text-anchor": "middle" }, tick.text));
  }
  [...rows.values()].forEach((slice, index) => {
    drawing.append(sliceRow(slice, 22 + index * height, height, labels, width));
    const inside = chosen.map((c) => [c, c.slices.find((s) => s.name === slice.name)?.recall]);
    const step = Math.min(13, (height - 14) / Math.max(chosen.length, 1));
    inside.forEach(([c, recall], place) => {
      if (!recall || !isNumber(recall.mean)) return;
      const y = 22 + index * height + height / 2 + (place - (chosen.length - 1) / 2) * step;
      drawing.append(sliceMark(recall, c, x, y));
    });
  });
  return drawing;
}

function sliceRow(slice, top, height, labels, width) {
  const middle = top + height / 2;
  const most = Math.floor(labels / 7.2);
  const name = slice.name.length > most ? `${slice.name.slice(0, most - 1)}…` : slice.name;
  return svg("g", {},
    svg("line", { class: "row", x1: 0, x2: width, y1: top, y2: top }),
    svg("text", { class: "label", x: 0, y: middle - 2 }, name),
    svg("text", { class: "tick", x: 0, y: middle + 13 }, `${plural(slice.pairs, "pair")} of ${grouped(slice.members)}`));
}

function sliceMark(recall, { name, slot }, x, y) {
  const mark = svg("g", {}, svg("title", {}, `${name}: ${share(recall.mean)} [${share(recall.low)}, ${share(recall.high)}]`));
  if (isNumber(recall.low) && isNumber(recall.high)) {
    mark.append(svg("line", { x1: x(recall.low), x2: x(recall.high), y1: y, y2: y,
      stroke: colourOf(slot), "stroke-width": 1.5 }));
  }
  mark.append(svg("path", { d: markOf(slot)(x(recall.mean), y, 4.2), fill: colourOf(slot) }));
  return mark;
}

late.slices = (node) => {
  const systems = comparison.systems.filter((each) => each.slices.length);
  const kinds = [...new Set(systems.flatMap((each) => each.slices.map((slice) => slice.kind)))];
  let kind = kinds[0];
  const plot = el("div", { class: "plot-box" });
  const draw = () => plot.replaceChildren(slicePlot(plot.clientWidth, kind, shown));
  const shown = new Shown(systems, draw);
  node.append(
    choice("Sliced by", kinds, 0, (index) => {
      kind = kinds[index];
      draw();
      say(`Sliced by ${kind}`);
    }),
    shown.node, plot);
  whenSized(plot, draw);
};
