// Learning curves: a panel a system, a line a seed.
const PANEL = { width: 300, left: 40, right: 10, top: 8, middle: 108, gap: 26, bottom: 184, height: 206 };
const DASHES = ["", "5 3", "1.5 2.5", "8 3 2 3"];

function line(points) {
  let path = "";
  let pen = "M";
  for (const [x, y] of points) {
    if (!isNumber(y)) continue;
    path += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = "L";
  }
  return path;
}

const between = (values) => {
  const known = values.filter(isNumber);
  const low = Math.min(...known), high = Math.max(...known);
  return known.length ? (high > low ? [low, high] : [low - 0.05, high + 0.05]) : [0, 1];
};

function curveLine(panel, curve, values, scale, kind, order) {
  const points = curve.epochs.map((epoch, i) => [panel.x(epoch), isNumber(values[i]) ? scale(values[i]) : null]);
  return svg("path", { class: `curve ${kind}`, d: line(points), "stroke-dasharray": DASHES[order % DASHES.length] });
}

function curveScale(drawing, [low, high], top, bottom, most) {
  const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - top);
  for (const tick of ticks(low, high, most)) {
    drawing.append(
      svg("line", { class: "grid", x1: PANEL.left, x2: PANEL.width - PANEL.right, y1: y(tick.value), y2: y(tick.value) }),
      svg("text", { class: "tick", x: PANEL.left - 5, y: y(tick.value) + 3.5, "text-anchor": "end" }, tick.text));
  }
  return y;
}

function curvePanel(name, curves, extent, last) {
  const x = (epoch) => PANEL.left + (epoch / last) * (PANEL.width - PANEL.left - PANEL.right);
  const drawing = svg("svg", { viewBox: `0 0 ${PANEL.width} ${PANEL.height}`, role: "img",
    "aria-label": `Learning curves of ${name}` });
  const upper = curveScale(drawing, extent, PANEL.top, PANEL.middle, 5);
  const lower = curveScale(drawing, between(curves.flatMap((c) => c.loss)), PANEL.middle + PANEL.gap, PANEL.bottom, 4);
  for (const tick of ticks(0, last, 4)) {
    drawing.append(svg("text", { class: "tick", x: x(tick.value), y: PANEL.height - 6, "text-anchor": "middle" }, tick.text));
  }
  curves.forEach((curve, order) => {
    drawing.append(
      curveLine({ x }, curve, curve.validation, upper, "validation", order),
      curveLine({ x }, curve, curve.loss, lower, "loss", order));
    const best = curve.validation[curve.epochs.indexOf(curve.best_epoch)];
    if (isNumber(best)) {
      drawing.append(svg("circle", { class: "best", cx: x(curve.best_epoch), cy: upper(best), r: 3.6 }));
    }
  });
  const bests = curves.map((c) => Math.max(...c.validation.filter(isNumber)));
  const told = curves.map((c, i) => `${isNumber(bests[i]) ? share(bests[i]) : "–"} at epoch ${c.best_epoch}`);
  return el("figure", { class: "panel" },
    el("figcaption", {}, el("strong", {}, el("bdi", {}, name)), el("span", {}, `best ${told.join("; ")}`)), drawing);
}

late.curves = (node) => {
  const curves = block("curves");
  const names = [...new Set(curves.map((curve) => curve.system))];
  const systems = names.map((name) => comparison.systems.find((each) => each.name === name) ?? { name });
  const extent = between(curves.flatMap((curve) => curve.validation));
  const last = Math.max(1, ...curves.flatMap((curve) => curve.epochs));
  const panels = el("div", { class: "panels" });
  const draw = () =>
    panels.replaceChildren(...shown.all.map(([name]) =>
      curvePanel(name, curves.filter((curve) => curve.system === name), extent, last)));
  const shown = new Shown(systems, draw);
  shown.legend.hidden = true; // each panel bears its name
  const metrics = [...new Set(curves.map((curve) => metricName(curve.metric)))];
  node.append(shown.node,
    el("p", { class: "key-line" },
      el("span", { class: "swatch validation" }), ` ${metrics.join(", ")} on validation `,
      el("span", { class: "swatch loss" }), " loss"),
    panels);
  draw();
};
