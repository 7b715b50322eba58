// A row of the first page is in the document; a later one is HTML in the data below its table, until it is shown.
const holder = document.createElement("template");
const element = row => {
  if (!row.element) {
    holder.innerHTML = row.html;
    row.element = holder.content.firstElementChild;
  }
  return row.element;
};
const lists = [...document.querySelectorAll("table.filtered")].map(table => {
  const body = table.tBodies[0], size = body.rows.length, section = table.parentNode;
  const rows = JSON.parse(section.querySelector("script").textContent);
  [...body.rows].forEach((own, at) => Object.assign(rows[at], {element: own, text: own.textContent}));
  section.querySelector(".unscripted")?.remove();
  rows.forEach(row => { row.text = row.text.toLowerCase(); });
  return {table, body, size, rows, fitting: rows, page: 1, pager: section.querySelector(".pages")};
});
const show = (list, page) => {
  const {body, size, fitting, pager} = list, last = Math.max(1, Math.ceil(fitting.length / size));
  list.page = Math.min(Math.max(Math.trunc(page) || 1, 1), last);
  const begin = (list.page - 1) * size, end = Math.min(begin + size, fitting.length);
  body.replaceChildren(...fitting.slice(begin, end).map(element));
  if (!pager) return;
  const [before, after] = pager.querySelectorAll("button"), field = pager.querySelector("input");
  pager.hidden = last === 1;
  [field.value, field.max] = [list.page, last];
  pager.querySelector("span").textContent = `of ${last}`;
  pager.querySelector("output").value = `rows ${begin + 1} to ${end}`;
  for (const [button, isEnd] of [[before, list.page === 1], [after, list.page === last]]) {
    // A disabled button loses the focus.
    if (isEnd && button === document.activeElement) field.focus();
    button.disabled = isEnd;
  }
};
for (const list of lists.filter(list => list.pager)) {
  const turn = page => {
    show(list, page);
    if (list.table.getBoundingClientRect().top < 0) list.table.scrollIntoView();
  };
  const [before, after] = list.pager.querySelectorAll("button");
  before.addEventListener("click", () => turn(list.page - 1));
  after.addEventListener("click", () => turn(list.page + 1));
  list.pager.querySelector("input").addEventListener("change", event => turn(event.target.value));
}
addEventListener("beforeprint", () => lists.forEach(list => list.body.replaceChildren(...list.fitting.map(element))));
addEventListener("afterprint", () => lists.forEach(list => show(list, list.page)));

const sortable = lists.find(list => list.table.matches(".worklist"));
const heads = sortable ? [...sortable.table.tHead.rows[0].cells] : [];
const words = new Intl.Collator(undefined, {numeric: true});
heads.forEach((head, column) => {
  const button = head.querySelector("button");
  if (!button) return;
  button.addEventListener("click", () => {
    const now = head.getAttribute("aria-sort");
    const down = now ? now === "ascending" : head.dataset.down === "true";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    sortable.rows.sort((one, two) => {
      // The column of images has no order.
      const a = one.order[column - 1], b = two.order[column - 1];
      if (a === "" || b === "") return (a === "") - (b === "");
      const order = head.dataset.kind === "number" ? a - b : words.compare(a, b);
      return down ? -order : order;
    });
    filter();
  });
});

const filters = document.querySelector(".filters");
const fields = filters ? [...filters.querySelectorAll("input, select")] : [];
const filter = (pages = []) => {
  const [words, status, modality, least] = fields.map(field => field.value);
  const parts = words.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = row => (!status || row.status === status) && (!modality || row.modality === modality)
    && (least === "" || (row.score !== "" && Number(row.score) >= Number(least)))
    && parts.every(part => row.text.includes(part));
  let found = 0, all = 0;
  lists.forEach((list, at) => {
    list.fitting = list.rows.filter(fits);
    found += list.fitting.length;
    all += list.rows.length;
    show(list, pages[at]);
  });
  filters.querySelector("output").value = `${found} of ${all} shown`;
};
if (filters) {
  filters.hidden = false;
  fields.forEach(field => field.addEventListener("input", () => filter()));
  filters.querySelector("button").addEventListener("click", () => {
    fields.forEach(field => { field.value = ""; });
    filter();
    fields[0].focus();
  });
  // A browser that comes back to the page fills the fields in again, after the script.
  addEventListener("pageshow", () => filter(lists.map(list => list.pager?.querySelector("input").value)));
}
