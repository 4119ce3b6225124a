"use strict";
const body = document.querySelector("tbody");
const headers = [...document.querySelectorAll("thead th[data-first]")];

function sortBy(header) {
  const was = header.getAttribute("aria-sort");
  const way = was === "none" ? header.dataset.first : was === "ascending" ? "descending" : "ascending";
  headers.forEach((other) => other.setAttribute("aria-sort", other === header ? way : "none"));
  const sign = way === "ascending" ? 1 : -1;
  const rows = [...body.rows].map((row) => {
    const text = row.cells[header.cellIndex].dataset.value;
    return { row, text, number: text === "" ? NaN : Number(text.replace("inf", "Infinity")) };
  });
  rows.sort((a, b) => {
    if (a.text === "" || b.text === "") return (a.text === "") - (b.text === "");
    const areNumbers = !Number.isNaN(a.number) && !Number.isNaN(b.number);
    return sign * (areNumbers ? Math.sign(a.number - b.number) || 0 : a.text.localeCompare(b.text));
  });
  body.append(...rows.map(({ row }) => row));
}

headers.forEach((header) => header.querySelector("button").addEventListener("click", () => sortBy(header)));
