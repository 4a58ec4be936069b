// Points of the map: what is near a place, what lies in a direction, what colour and mark each has.
const OTHER = -1;
const CATEGORIES = 7;
const STEPS = 5;

/** The point nearest to a place, within a radius; points are [row, x, y]. */
function nearest(points, x, y, radius) {
  let best = null;
  let least = radius * radius;
  for (const point of points) {
    const away = (point[1] - x) ** 2 + (point[2] - y) ** 2;
    if (away <= least) [best, least] = [point, away];
  }
  return best;
}

/** The nearest point in a direction, preferring what lies straight ahead. */
function ahead(points, from, [dx, dy]) {
  let best = null;
  let least = Infinity;
  for (const point of points) {
    const x = point[1] - from[1];
    const y = point[2] - from[2];
    const along = x * dx + y * dy;
    const aside = Math.abs(x * dy - y * dx);
    if (along <= 0 || aside > along) continue;
    const cost = along + 2 * aside;
    if (cost < least) [best, least] = [point, cost];
  }
  return best;
}

/** The most frequent categories have a mark of their own, the rest share a grey one. */
function byCategory() {
  const counts = new Map();
  for (const name of items.category) if (name !== null) counts.set(name, (counts.get(name) ?? 0) + 1);
  const named = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, CATEGORIES);
  const place = new Map(named.map(([name], slot) => [name, slot]));
  const slotOf = items.category.map((name) => place.get(name) ?? OTHER);
  const rest = slotOf.filter((slot) => slot === OTHER).length;
  const entries = named.map(([name, count], slot) => ({ slot, name, count }));
  if (rest) entries.push({ slot: OTHER, name: "other or none", count: rest });
  return { slotOf, entries, colour: (slot) => (slot === OTHER ? "var(--other)" : colourOf(slot)),
    mark: (slot) => MARKS[slot === OTHER ? 0 : slot], size: (slot) => (slot === OTHER ? 1.8 : 2.9) };
}

/** Fifths of the items by how many took them; the more, the larger and the stronger. */
function byTaken() {
  const order = [...items.taken].sort((a, b) => a - b);
  const bounds = [...new Set([1, 2, 3, 4].map((k) => order[Math.floor((k * order.length) / STEPS)]))];
  const slotOf = items.taken.map((count) => bounds.filter((bound) => count >= bound).length);
  const edges = [order[0], ...bounds, order.at(-1) + 1];
  const entries = edges.slice(0, -1).map((low, slot) => {
    const high = edges[slot + 1] - 1;
    return { slot, name: high > low ? `${grouped(low)} to ${grouped(high)} users` : plural(low, "user"),
      count: slotOf.filter((each) => each === slot).length };
  });
  return { slotOf, entries: entries.filter((each) => each.count), colour: (slot) => `var(--q${slot})`,
    mark: () => MARKS[0], size: (slot) => 1.7 + slot * 0.5 };
}
