// The user page: what somebody took, beside what each system would show them.
let reader = null;
const HISTORY = 20;
const MOST_LISTED = 500; // of more users a drop-down is no help

class Reader {
  constructor(node) {
    this.row = 0;
    const listed = comparison.systems.filter((system) => userOf(0).lists[system.name]);
    this.shown = new Shown(listed, () => this.show());
    this.shown.legend.hidden = true;
    this.view = el("div", { class: "user" });
    const find = (query) => findRows(query, users.length, (row) => users[row], () => "");
    this.list = users.length > MOST_LISTED ? null
      : dropdown("User", users, (row) => (location.hash = address("user", row)));
    node.append(
      el("div", { class: "tools" }, this.list,
        searchBox("Search users", "Id", find, (row) => el("bdi", {}, users[row]), (row) => (location.hash = address("user", row))),
        steps("user", () => users.length, () => this.row)),
      this.shown.node, this.view);
  }

  pick(row, focus) {
    this.row = row;
    if (this.list) this.list.querySelector("select").value = row;
    this.show();
    if (focus) this.view.querySelector("h3").focus({ preventScroll: true });
    say(`User ${users[row]}`);
  }

  show() {
    const user = userOf(this.row);
    const held = new Set(user.held_out);
    const systems = this.shown.all.map(([name]) => name);
    this.view.replaceChildren(
      el("h3", { tabindex: -1 }, "User ", el("bdi", {}, user.id)),
      el("h4", {}, `Took ${plural(user.history.length, "item")}`),
      user.history.length ? strip(user.history, (row) => card(row), `What user ${user.id} took`, HISTORY)
        : el("p", { class: "range" }, "Nothing in training."),
      el("h4", {}, "First ten of each system"),
      el("div", { class: "scroll lists", tabindex: 0, role: "region", "aria-label": "Lists side by side" },
        systems.map((name) => this.column(name, user.lists[name] ?? [], held))),
      this.heldOut(user));
  }

  column(name, rows, held) {
    const hits = rows.filter((row) => held.has(row)).length;
    const line = (row, rank) => {
      const hit = held.has(row);
      return el("li", { class: hit ? "hit" : null },
        el("a", { class: "entry-link", href: address("item", row) },
          el("span", { class: "rank" }, rank + 1), picture(row),
          el("span", { class: "name", dir: "auto" }, hit ? el("span", { class: "hit-word" }, "✓ hit ") : null, titleOf(row, 48))));
    };
    return el("section", { class: "column" },
      el("h5", {}, el("bdi", {}, name), el("span", { class: "range" }, `${plural(hits, "hit")}`)),
      roving(el("ol", { class: "top", "aria-label": `First ten of ${name}` }, rows.map(line)), "a", true));
  }

  heldOut(user) {
    const all = Object.entries(user.lists);
    const foundBy = new Map(user.held_out.map((row) => [row, all.filter(([, rows]) => rows.includes(row)).length]));
    const missed = user.held_out.filter((row) => !foundBy.get(row));
    const part = (heading, rows, note) => rows.length
      ? [el("h4", {}, heading), strip(rows, (row) => card(row, el("span", { class: "meta" }, note(row))), heading, HISTORY)] : [];
    return el("div", {},
      part(`Held out, found by somebody (${user.held_out.length - missed.length} of ${user.held_out.length})`,
        user.held_out.filter((row) => foundBy.get(row)), (row) => `✓ by ${foundBy.get(row)} of ${all.length}`),
      part(`Held out, found by nobody (${missed.length} of ${user.held_out.length})`, missed, () => "✗ in no first ten"));
  }
}

late.users = (node) => {
  reader = new Reader(node);
  reader.pick(wanted("user") ?? 0, false);
};
