"use strict";
// A slider moves the border between the picture before and the one after; without this script they stand in a column.
for (const figure of document.querySelectorAll("figure")) {
  const controls = figure.querySelector("div.controls");
  const [slider, sharp] = controls.querySelectorAll("input");
  const cut = () => figure.style.setProperty("--cut", `${slider.value}%`);
  slider.addEventListener("input", cut);
  sharp?.addEventListener("input", () => figure.classList.toggle("shows-sharp", sharp.checked));
  figure.classList.add("compared");
  controls.hidden = false;
  cut();
}

// A click on a heading sorts: numbers from the largest, names from the first; a second click reverses.
const body = document.querySelector("#rows tbody");
const heads = [...document.querySelectorAll("#rows thead th")];
const names = new Intl.Collator("en", { numeric: true });
const number = (row, column) => Number(row.cells[column].dataset.value.replace("inf", "Infinity"));

heads.forEach((head, column) => head.addEventListener("click", () => {
  const compare = column === 0
    ? (a, b) => names.compare(a.cells[0].textContent, b.cells[0].textContent)
    : (a, b) => number(a, column) - number(b, column) || 0;
  const current = head.getAttribute("aria-sort");
  const ascending = current === "none" ? column === 0 : current === "descending";
  const rows = [...body.rows].sort((a, b) => (ascending ? 1 : -1) * compare(a, b));
  for (const other of heads) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  body.append(...rows);
}));
