// Items: their text, picture and place in the address; users are told apart the same way.
const items = block("items");
const users = block("users");
const rowsById = { item: null, user: null };

const textOf = (row) => block("texts")[row];
const inBlock = (name, row, size) => block(`${name}-${Math.floor(row / size)}`)[row % size];
const pictureOf = (row) => inBlock("pictures", row, overview.items_a_block);
const neighboursOf = (space, row) => inBlock(`neighbours-${space}`, row, overview.items_a_block);
const userOf = (row) => inBlock("users", row, overview.users_a_block);

/** The row of an item or user by its id, -1 for an unknown one. */
function rowOf(kind, id) {
  const ids = kind === "item" ? items.id : users;
  rowsById[kind] ??= new Map(ids.map((each, row) => [each, row]));
  return rowsById[kind].get(id) ?? -1;
}

const address = (kind, row) => `#${kind}/${encodeURIComponent((kind === "item" ? items.id : users)[row])}`;

/** What an item is called here: the first sentence of its text, or its id. */
function titleOf(row, most = 64) {
  const text = (textOf(row) ?? "").trim();
  if (!text) return items.id[row];
  const first = text.split(/(?<=[.!?])\s|\n| {2,}/u, 1)[0].replace(/\.$/, "");
  const letters = [...(first.length > 3 ? first : text)];
  return letters.length > most ? `${letters.slice(0, most - 1).join("").trimEnd()}…` : letters.join("");
}

/** An item's picture; where it has none, a box that says so. */
function picture(row, alt = "") {
  const [data, why] = pictureOf(row);
  if (!data) return el("span", { class: "picture none", title: why }, "no picture");
  return el("img", { class: "picture", src: `data:image/webp;base64,${data}`, alt, decoding: "async" });
}

const takenBy = (row) => `taken by ${plural(items.taken[row], "user")}`;

/** An item as a link into the neighbour browser. */
const card = (row, ...notes) =>
  el("a", { class: "card", href: address("item", row), "data-row": row },
    picture(row), el("span", { class: "name", dir: "auto" }, titleOf(row)), notes);

/** A list of items side by side, cut until the rest is asked for. */
function strip(rows, make, label, most = 24) {
  const list = el("ol", { class: "strip", "aria-label": label });
  list.append(...rows.slice(0, most).map((row, rank) => el("li", {}, make(row, rank))));
  if (rows.length > most) {
    const rest = button(`Show all ${grouped(rows.length)}`, () => {
      const more = strip(rows, make, label, rows.length);
      list.replaceWith(more);
      more.querySelectorAll("a")[most].focus();
    });
    list.append(el("li", { class: "more-items" }, rest));
  }
  return roving(list, "a, button");
}
