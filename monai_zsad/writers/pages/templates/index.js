const lists = [...document.querySelectorAll("table.filtered")];
const sortable = document.querySelector("table.worklist");
const heads = sortable ? [...sortable.tHead.rows[0].cells] : [];
const words = new Intl.Collator(undefined, {numeric: true});
const key = (row, column) => row.cells[column].dataset.value;
heads.forEach((head, column) => {
  const button = head.querySelector("button");
  if (!button) return;
  button.addEventListener("click", () => {
    const now = head.getAttribute("aria-sort");
    const down = now ? now === "ascending" : head.dataset.down === "true";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...sortable.tBodies[0].rows];
    rows.sort((one, two) => {
      const a = key(one, column), b = key(two, column);
      if (a === "" || b === "") return (a === "") - (b === "");
      const order = head.dataset.kind === "number" ? a - b : words.compare(a, b);
      return down ? -order : order;
    });
    sortable.tBodies[0].append(...rows);
  });
});

const filters = document.querySelector(".filters");
const fields = filters ? [...filters.querySelectorAll("input, select")] : [];
const rows = lists.flatMap(list => [...list.tBodies[0].rows]);
const texts = new Map(rows.map(row => [row, row.textContent.toLowerCase()]));
const filter = () => {
  const [words, status, modality, least] = fields.map(field => field.value);
  const parts = words.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  rows.forEach(row => {
    const own = row.dataset;
    const fits = (!status || own.status === status) && (!modality || own.modality === modality)
      && (least === "" || (own.score !== "" && Number(own.score) >= Number(least)))
      && parts.every(part => texts.get(row).includes(part));
    row.hidden = !fits;
    shown += fits;
  });
  filters.querySelector("output").value = `${shown} of ${rows.length} shown`;
};
if (filters) {
  filters.hidden = false;
  fields.forEach(field => field.addEventListener("input", filter));
  filters.querySelector("button").addEventListener("click", () => {
    fields.forEach(field => { field.value = ""; });
    filter();
    fields[0].focus();
  });
  // A browser that comes back to the page fills the fields in again, after the script.
  addEventListener("pageshow", filter);
}
