// Charts and table: filters, order, sorting.
const filters = find("filters");
if (filters) {
  const panels = all(".panel");
  const body = find("numbers").tBodies[0];
  const rows = [...body.rows];
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const fits = (wanted, value) => wanted === "" || wanted === value;

  const filter = () => {
    const [c, l, k] = ["by-class", "by-layer", "by-concept"].map((id) => find(id).value);
    const only = find("only").checked;
    const sought = find("find").value.trim().toLowerCase();
    for (const panel of panels) {
      let shown = 0;
      for (const strip of all("li", panel)) {
        strip.hidden = !fits(k, strip.dataset.concept) || (only && strip.dataset.significant !== "1");
        shown += !strip.hidden;
      }
      panel.hidden = !fits(c, panel.dataset.class) || !fits(l, panel.dataset.layer) || !shown;
    }
    let count = 0;
    for (const row of rows) {
      const data = row.dataset;
      row.hidden = !fits(c, data.class) || !fits(l, data.layer) || !fits(k, data.concept)
        || (only && data.significant !== "1") || !texts.get(row).includes(sought);
      count += !row.hidden;
    }
    find("none").hidden = panels.some((panel) => !panel.hidden);
    find("shown").textContent = `${count} of ${rows.length} rows shown`;
  };

  const orders = {
    given: (a, b) => a.dataset.given - b.dataset.given,
    mean: (a, b) => b.dataset.mean - a.dataset.mean,
    name: (a, b) => a.dataset.name.localeCompare(b.dataset.name),
  };
  const arrange = () => {
    for (const list of all(".panel .strips")) {
      list.append(...all("li", list).sort(orders[find("order").value]));
    }
  };

  filters.addEventListener("change", () => { arrange(); filter(); });
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("reset", () => setTimeout(() => { find("find").value = ""; arrange(); filter(); }));
  find("find").addEventListener("input", filter);

  const heads = all("#numbers thead th");
  const key = (row, column, numeric) => {
    const cell = row.cells[column];
    if (cell.dataset.v !== undefined) return cell.dataset.v === "" ? NaN : Number(cell.dataset.v);
    return numeric ? Number(cell.textContent) : cell.textContent.trim().toLowerCase();
  };
  const compare = (a, b) => {
    if (typeof a === "number") {
      // rows without a number come last in both orders
      if (Number.isNaN(a) || Number.isNaN(b)) return null;
      return a - b;
    }
    return a.localeCompare(b);
  };
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const numeric = head.dataset.kind === "number";
    const first = numeric ? "descending" : "ascending";
    const other = numeric ? "ascending" : "descending";
    const way = head.getAttribute("aria-sort") === first ? other : first;
    heads.forEach((each) => each.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", way);
    const keyed = rows.map((row) => [key(row, column, numeric), row]);
    keyed.sort(([a], [b]) => {
      const found = compare(a, b);
      if (found === null) return Number.isNaN(a) - Number.isNaN(b);
      return way === "ascending" ? found : -found;
    });
    body.append(...keyed.map(([, row]) => row));
  }));
  filter();
}
