// Sections are drawn when they come near; the address tells which item and which user.
const drawn = new Set();

function drawLate(node) {
  if (!node || drawn.has(node)) return;
  drawn.add(node);
  late[node.dataset.late](node);
}

/** The row that the address names, or null. */
function wanted(kind) {
  const [, of, id] = /^#(item|user)\/(.*)$/.exec(location.hash) ?? [];
  if (of !== kind) return null;
  try {
    const row = rowOf(kind, decodeURIComponent(id));
    return row < 0 ? null : row;
  } catch {
    return null; // the address is no proper one
  }
}

function follow() {
  for (const [kind, section] of [["item", "neighbours"], ["user", "users"]]) {
    const row = wanted(kind);
    const node = document.querySelector(`[data-late="${section}"]`);
    if (row === null || !node) continue;
    const inside = node.contains(document.activeElement) && Boolean(document.activeElement.closest("a, .found"));
    drawLate(node);
    const shown = kind === "item" ? browser : reader;
    const away = !node.contains(document.activeElement);
    shown.pick(row, inside || away);
    if (kind === "item") say(`Item ${titleOf(row)}`);
    if (away || inside) toView(document.getElementById(section));
  }
}

/** Scroll to a section unless its beginning is in sight. */
function toView(section) {
  const { top } = section.getBoundingClientRect();
  if (top < 0 || top > innerHeight * 0.6) section.scrollIntoView();
}

function markCurrent() {
  const links = new Map([...document.querySelectorAll("nav.contents a")].map((a) => [a.hash.slice(1), a]));
  const inSight = new Set();
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) inSight[entry.isIntersecting ? "add" : "delete"](entry.target.id);
    const current = [...links.keys()].find((id) => inSight.has(id));
    for (const [id, link] of links) {
      if (id !== current) link.removeAttribute("aria-current");
      else if (!link.hasAttribute("aria-current")) {
        link.setAttribute("aria-current", "true");
        const bar = link.closest("nav"); // only ever sideways: the page itself stays where it is
        bar.scrollLeft = link.offsetLeft - bar.clientWidth / 2;
      }
    }
  }, { rootMargin: "-20% 0px -60% 0px" });
  for (const section of document.querySelectorAll("main > section")) observer.observe(section);
}

function watch() {
  const nodes = document.querySelectorAll("[data-late]");
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) drawLate(entry.target);
  }, { rootMargin: "400px" });
  for (const node of nodes) near.observe(node);
  addEventListener("beforeprint", () => nodes.forEach(drawLate));
  // Whoever goes on by Tab must not pass over what is not drawn yet.
  addEventListener("focusin", ({ target }) => {
    const others = [...nodes].filter((node) => !node.contains(target));
    const isAfter = (node) => target.compareDocumentPosition(node) & Node.DOCUMENT_POSITION_FOLLOWING;
    drawLate(others.find(isAfter));
    drawLate(others.findLast((node) => !isAfter(node)));
  });
}

sortable();
copying();
markCurrent();
watch();
addEventListener("hashchange", follow);
follow();
