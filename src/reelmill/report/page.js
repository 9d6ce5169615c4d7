"use strict";
(() => {
  const table = document.getElementById("table");
  if (!table) return;
  const body = table.tBodies[0];
  const headings = [...table.querySelectorAll("th[scope=col]")];

  const value = (row, column) => {
    const cell = row.cells[column];
    const given = cell.dataset.value;
    return given === undefined ? cell.textContent.trim() : given === "" ? -Infinity : Number(given);
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });

  for (const heading of headings) {
    heading.querySelector("button").addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const column = heading.cellIndex;
      const rows = [...body.rows].sort((a, b) => (up ? 1 : -1) * compare(value(a, column), value(b, column)));
      body.append(...rows);
    });
  }

  const buttons = new Map([...table.querySelectorAll("[data-play]")].map((button) => [button.dataset.play, button]));
  const players = [...document.querySelectorAll("article audio")];
  for (const player of players) {
    const button = buttons.get(player.closest("article").id);
    if (!button) continue;
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => (player.paused ? player.play() : player.pause()));
    player.addEventListener("play", () => {
      for (const other of players) if (other !== player) other.pause();
      button.setAttribute("aria-pressed", "true");
    });
    for (const event of ["pause", "ended"]) {
      player.addEventListener(event, () => button.setAttribute("aria-pressed", "false"));
    }
  }
})();
