// Tables sort by a click on a heading: down, up, back. And differences between any two rows.
"use strict";
(() => {
  const value = (row, column) => {
    const cell = row.cells[column];
    const raw = cell.dataset.value ?? cell.textContent.trim();
    const number = Number(raw);
    return raw === "" ? null : Number.isNaN(number) ? raw : number;
  };

  const compare = (a, b, direction) => {
    if (a === null || b === null) return (a === null) - (b === null); // empty cells stay last
    if (typeof a === "number" && typeof b === "number") return direction * (a - b);
    return direction * String(a).localeCompare(String(b), undefined, { numeric: true });
  };

  const sort = (table, column) => {
    const heads = [...table.tHead.rows[0].cells];
    const order = { none: "descending", descending: "ascending", ascending: "none" };
    const next = order[heads[column].getAttribute("aria-sort")] ?? "descending";
    heads.forEach((head, i) => head.setAttribute("aria-sort", i === column ? next : "none"));
    const body = table.tBodies[0];
    const rows = [...body.rows];
    rows.forEach((row, i) => { row.dataset.place ??= i; });
    const direction = next === "descending" ? -1 : 1;
    rows.sort((a, b) => next === "none"
      ? a.dataset.place - b.dataset.place
      : compare(value(a, column), value(b, column), direction) || a.dataset.place - b.dataset.place);
    body.append(...rows);
    table.classList.toggle("sorted", next !== "none");
  };

  document.addEventListener("click", (event) => {
    const head = event.target.closest("table.sortable thead th");
    if (head && event.target.closest("button")) sort(head.closest("table"), head.cellIndex);
  });

  // On a narrow screen the metrics that matter most come first, and what scrolls sideways says so.
  const narrow = matchMedia("(max-width: 40rem)");
  const arrange = () => document.querySelectorAll("table.results").forEach((table) => {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, i) => { head.dataset.place ??= i; });
    const place = (head) => (narrow.matches && "first" in head.dataset ? 0.5 : Number(head.dataset.place));
    const order = heads.map((_, i) => i).sort((a, b) => place(heads[a]) - place(heads[b]) || a - b);
    [...table.rows].forEach((row) => {
      const cells = [...row.cells];
      row.append(...order.map((i) => cells[i]));
    });
  });
  narrow.addEventListener("change", arrange);
  arrange();
  const overflow = new ResizeObserver((entries) => entries.forEach(({ target }) => {
    target.classList.toggle("overflows", target.scrollWidth > target.clientWidth + 1);
  }));
  document.querySelectorAll(".scroll").forEach((one) => overflow.observe(one));

  const data = document.getElementById("comparison-data");
  const groups = data ? JSON.parse(data.textContent) : [];
  const signed = (x) => (x < 0 ? "−" : "+") + Math.abs(x).toFixed(1);

  const differences = (details) => {
    const { methods, pairs, best } = groups[details.dataset.group];
    const select = details.querySelector("select");
    const body = details.querySelector("tbody");
    methods.forEach((name, i) => select.add(new Option(name, i)));
    const fill = () => {
      const reference = Number(select.value);
      body.replaceChildren(...methods.flatMap((name, i) => {
        if (i === reference) return [];
        const found = pairs[`${i}-${reference}`];
        // A pair is stored once: the other way round the signs and the bounds change places.
        const triples = found ?? pairs[`${reference}-${i}`].map(([d, low, high]) => [-d, -high, -low]);
        const row = document.createElement("tr");
        const head = document.createElement("th");
        head.scope = "row";
        head.textContent = name;
        row.append(head, ...triples.map(([d, low, high]) => {
          const cell = document.createElement("td");
          cell.className = low > 0 || high < 0 ? "num best" : "num";
          cell.dataset.value = d;
          cell.textContent = `${signed(d)} [${signed(low)}, ${signed(high)}]`;
          return cell;
        }));
        return [row];
      }));
    };
    select.addEventListener("change", fill);
    select.value = Math.max(0, methods.indexOf(best));
    fill();
  };
  document.querySelectorAll("details.differences").forEach(differences);
})();
