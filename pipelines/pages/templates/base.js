// Data blocks, elements, numbers: what all parts of the page use.
const parsed = new Map();

/** The content of a data block, parsed when it is first asked for; undefined where there is none. */
function block(name) {
  if (!parsed.has(name)) {
    const source = document.getElementById(`data-${name}`);
    parsed.set(name, source ? JSON.parse(source.textContent) : undefined);
  }
  return parsed.get(name);
}

/** Text as it can be shown: controls become the sign for an unknown letter. */
const clean = (text) => String(text).replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/g, "\ufffd");

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : clean(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : clean(child));
  }
  return node;
}

/** An element; attributes called on... are listeners; text is always text. */
const el = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);

/** An element of a drawing. */
const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const isNumber = (x) => typeof x === "number" && Number.isFinite(x);

/** .3721 */
function share(x, decimals = 4) {
  if (!isNumber(x)) return "–";
  const text = Math.abs(x).toFixed(decimals);
  const sign = x < 0 && Number(text) ? "−" : "";
  return sign + (decimals ? text.replace(/^0/, "") : text);
}

const grouped = (n) => n.toLocaleString("en-US");
const plural = (n, one, many = `${one}s`) => `${grouped(n)} ${n === 1 ? one : many}`;
const metricName = (name) => name.replace(/^(ndcg|map|mrr)@/, (kind) => kind.toUpperCase());

/** Tell those who listen instead of look. */
function say(text) {
  document.getElementById("said").textContent = clean(text);
}

/** Round numbers from low to high, at most `most` steps. */
function ticks(low, high, most = 4) {
  const least = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= least * (1 - 1e-9));
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) {
    found.push({ value: k * step, text: k === 0 ? "0" : share(k * step, decimals) });
  }
  return found;
}

/** Call `draw(width)` now and whenever the width of a node has changed. */
function whenSized(node, draw) {
  let last = 0;
  new ResizeObserver(() => {
    const width = Math.floor(node.clientWidth);
    if (width && width !== last) draw((last = width));
  }).observe(node);
}

const overview = block("page");
const comparison = overview.comparison;
const late = {}; // section to what draws it, once it comes near
