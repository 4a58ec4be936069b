// Tables that are sorted by a click on a heading.
function valueOf(row, column, numeric) {
  const cell = row.cells[column];
  if (!numeric) return cell.textContent.trim();
  const text = cell.dataset.value ?? cell.textContent.trim().split(" ")[0].replace("−", "-");
  return text === "" || Number.isNaN(Number(text)) ? -Infinity : Number(text);
}

function sortBy(table, heading) {
  const numeric = heading.dataset.sort === "number";
  const was = heading.getAttribute("aria-sort");
  const down = was ? was === "ascending" : numeric;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [valueOf(row, heading.cellIndex, numeric), row]);
  const compare = numeric ? (a, b) => a - b : (a, b) => a.localeCompare(b, "en", { numeric: true });
  rows.sort(([a], [b]) => (down ? -1 : 1) * (Object.is(a, b) ? 0 : compare(a, b)));
  body.append(...rows.map(([, row]) => row));
  say(`Sorted by ${heading.textContent.trim()}, ${heading.getAttribute("aria-sort")}`);
}

function sortable() {
  for (const table of document.querySelectorAll("table.sortable")) {
    for (const heading of table.querySelectorAll("thead th[data-sort]")) {
      const text = heading.textContent;
      heading.replaceChildren(
        el("button", { type: "button", class: "sort", onclick: () => sortBy(table, heading) }, text));
    }
  }
}
