// Sorts tables by a column, within their sections, and closes an enlarged figure. Without this script a page is whole.
"use strict";
const DIGITS = "⁰¹²³⁴⁵⁶⁷⁸⁹";
const NUMBER = /^[<+]?(-?\d+(?:\.\d+)?)(?:×10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?(?!\w)/;

function number(text) {
  const match = text.replace(/−/g, "-").replace(/,(?=\d{3})/g, "").match(NUMBER);
  if (!match) return null;
  const power = [...(match[2] || "")].map(letter => letter === "⁻" ? "-" : DIGITS.indexOf(letter)).join("");
  return match[1] * 10 ** power;
}

function compare(column, rows, sign) {
  const texts = new Map(rows.map(row => [row, row.cells[column] ? row.cells[column].textContent.trim() : ""]));
  const hole = row => /^(—.*|)$/.test(texts.get(row));
  const values = new Map(rows.map(row => [row, number(texts.get(row))]));
  const numeric = rows.every(row => hole(row) || values.get(row) !== null);
  return (a, b) => hole(a) - hole(b) || sign * (numeric ? values.get(a) - values.get(b)
    : texts.get(a).localeCompare(texts.get(b), "en", { numeric: true })) || a.place - b.place;
}

function sort(table, head, column) {
  const next = { ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")] || "ascending";
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  if (next !== "none") head.setAttribute("aria-sort", next);
  for (const body of table.tBodies) {
    const rows = [...body.rows].filter(row => !row.classList.contains("section"));
    const order = next === "none" ? (a, b) => a.place - b.place : compare(column, rows, next === "ascending" ? 1 : -1);
    body.append(...rows.sort(order));
  }
}

for (const table of document.querySelectorAll("table")) {
  for (const body of table.tBodies) [...body.rows].forEach((row, place) => { row.place = place; });
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(table, head, column));
  });
}
document.addEventListener("keydown", event => {
  if (event.key === "Escape" && location.hash.startsWith("#enlarged-")) location.hash = location.hash.replace("enlarged-", "figure-");
});
addEventListener("beforeprint", () => document.querySelectorAll("details.control").forEach(part => { part.open = true; }));
