const page = document.documentElement;
const spaces = [...document.querySelectorAll('input[name="space"]')];
const choose = space => {
  page.classList.toggle("in-lps", space === "LPS");
  spaces.forEach(box => { box.checked = box.value === space; });
  document.dispatchEvent(new Event("zsad:space"));
};
// A browser may refuse to remember anything for a local file.
const remembered = value => {
  try {
    if (value) localStorage.setItem("zsad-space", value);
    return localStorage.getItem("zsad-space");
  } catch { return null; }
};
choose(remembered() === "LPS" ? "LPS" : "RAS");
spaces.forEach(box => box.addEventListener("change", () => { choose(box.value); remembered(box.value); }));
// Paper cannot be unfolded.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach(part => { part.open = true; });
});
addEventListener("afterprint", () => folded.forEach(part => { part.open = false; }));
