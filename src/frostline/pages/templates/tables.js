"use strict";
(() => {
  const valueOf = (row, column) => row.cells[column].dataset.value;

  // Numbers by their size, all else as text; what has no value comes last, either way.
  const compare = (a, b, sign) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const [x, y] = [Number(a), Number(b)];
    const isText = Number.isNaN(x) || Number.isNaN(y);
    return sign * (isText ? a.localeCompare(b) : x - y);
  };

  const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

  for (const part of document.querySelectorAll(".sortable")) {
    const headings = [...part.querySelectorAll("th")];
    const body = part.querySelector("tbody");
    headings.forEach((heading, column) => {
      heading.querySelector("button").addEventListener("click", () => {
        const direction = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
        for (const other of headings) other.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", direction);
        const sign = direction === "ascending" ? 1 : -1;
        const rows = [...body.rows].sort((a, b) => compare(valueOf(a, column), valueOf(b, column), sign));
        body.append(...rows);
      });
    });
    part.querySelector(".download").addEventListener("click", () => {
      const lines = [headings.map((heading) => heading.textContent)];
      for (const row of body.rows) lines.push([...row.cells].map((cell) => cell.dataset.value));
      const text = lines.map((line) => line.map((word) => quoted(word.trim())).join(",")).join("\r\n");
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([text + "\r\n"], { type: "text/csv" }));
      link.download = part.dataset.file;
      link.click();
      URL.revokeObjectURL(link.href);
    });
  }
})();
