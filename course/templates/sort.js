"use strict";
// Tables whose heads are buttons that sort by their column: numbers by size, words by the alphabet, what is empty last.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], heads = table.tHead ? [...table.tHead.rows[0].cells] : [];
  if (!body || body.rows.length < 2) continue;
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const text = (row) => row.cells[column].textContent.trim();
      const number = (row) => parseFloat(text(row).replace("<", "0"));
      const rows = [...body.rows].filter((row) => text(row));
      const isNumeric = rows.every((row) => /^[-−<]?[\d.]+( ?%)?$/.test(text(row)));
      const order = isNumeric ? (a, b) => number(a) - number(b) : (a, b) => text(a).localeCompare(text(b), undefined, {numeric: true});
      rows.sort((a, b) => (up ? order(a, b) : order(b, a)));
      body.append(...rows, ...[...body.rows].filter((row) => !text(row)));
    });
  });
}
