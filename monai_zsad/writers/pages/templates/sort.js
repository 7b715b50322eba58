const table = document.querySelector("table.sortable");
const heads = table ? [...table.tHead.rows[0].cells] : [];
const key = (row, column) => row.cells[column].dataset.value;
heads.forEach((head, column) => {
  const button = head.querySelector("button");
  if (!button) return;
  button.addEventListener("click", () => {
    const now = head.getAttribute("aria-sort");
    const down = now ? now === "ascending" : head.dataset.down === "true";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows];
    rows.sort((one, two) => {
      const a = key(one, column), b = key(two, column);
      if (a === "" || b === "") return (a === "") - (b === "");
      const order = head.dataset.kind === "number" ? a - b : a.localeCompare(b, undefined, {numeric: true});
      return down ? -order : order;
    });
    table.tBodies[0].append(...rows);
  });
});
