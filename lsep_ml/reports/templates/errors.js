// What a run's own label sets get wrong: labels predicted in the place of others, and where images lie on the map.
"use strict";
const errors = (() => {
  const $ = (id) => document.getElementById(`explorer-${id}`);
  const names = { right: "entirely right", failed: "not entirely right", found: "found", wrong: "predicted, not there", missed: "missing", absent: "neither" };
  let now;

  const showConfusions = ({ group, run }) => {
    const rows = run.confusions.map(([j, k, images, missed]) => {
      const button = element("button", { type: "button", textContent: "show" });
      button.addEventListener("click", () => gallery.only([j, k]));
      const cells = [[images, images.toLocaleString("en")], [images / missed, `${(100 * images / missed).toFixed(1)}%`]].map(([raw, text]) => {
        const cell = element("td", { className: "num", textContent: text });
        cell.dataset.value = raw;
        return cell;
      });
      return element("tr", {}, element("th", { scope: "row", textContent: group.labels[j] }), element("td", { textContent: group.labels[k] }),
        ...cells, element("td", {}, button));
    });
    if (!rows.length) rows.push(element("tr", {}, element("td", { colSpan: 5, className: "faint", textContent: "no label is predicted where another is missing" })));
    $("confusions").tBodies[0].replaceChildren(...rows);
    [...$("confusions").tHead.rows[0].cells].forEach((head) => head.hasAttribute("aria-sort") && head.setAttribute("aria-sort", "none"));
  };

  // A point of each kind has a form of its own, not a colour alone.
  const point = (kind, x, y, size = 1) => {
    const shape = { found: "circle", right: "circle", absent: "circle", missed: "circle", wrong: "rect", failed: "rect" }[kind];
    const made = document.createElementNS("http://www.w3.org/2000/svg", shape);
    const half = size * (kind === "absent" ? 2.5 : 4.2);
    const place = shape === "circle" ? { cx: x, cy: y, r: half }
      : { x: x - half, y: y - half, width: 2 * half, height: 2 * half, transform: `rotate(45 ${x} ${y})` };
    Object.entries({ ...place, class: `point ${kind}` }).forEach(([key, value]) => made.setAttribute(key, value));
    return made;
  };

  const has = (bits, i, k) => (bits[i * Math.ceil(now.group.labels.length / 8) + (k >> 3)] >> (k & 7) & 1) === 1;

  const kindOf = (i, label) => {
    const { known, truth, predicted } = now;
    if (label === "") {
      const width = Math.ceil(now.group.labels.length / 8);
      for (let b = i * width; b < (i + 1) * width; b++) if ((truth[b] ^ predicted[b]) & known[b]) return "failed";
      return "right";
    }
    if (!has(known, i, label)) return null;
    const [there, set] = [has(truth, i, label), has(predicted, i, label)];
    return set ? (there ? "found" : "wrong") : there ? "missed" : "absent";
  };

  const drawMap = () => {
    const { group, model } = now;
    const label = $("map-label").value === "" ? "" : Number($("map-label").value);
    const pictures = new Map(group.shown.map((image, i) => [image.row, i]));
    const size = matchMedia("(max-width: 40rem)").matches ? 1.8 : 1; // where the whole map is drawn small
    const drawn = group.map.rows.flatMap((row, i) => {
      const kind = kindOf(i, label);
      if (!kind) return [];
      const [x, y] = [640 * model.map.places[2 * i], 480 * (1 - model.map.places[2 * i + 1])];
      const made = point(kind, x, y, size);
      const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
      title.textContent = `${group.map.ids[i]}: ${names[kind]}`;
      made.append(title);
      if (pictures.has(row)) {
        made.classList.add("pictured");
        Object.entries({ tabindex: 0, role: "button", "aria-label": title.textContent }).forEach(([key, value]) => made.setAttribute(key, value));
        const show = () => gallery.open(pictures.get(row));
        made.addEventListener("click", show);
        made.addEventListener("keydown", (event) => {
          if (event.key !== "Enter" && event.key !== " ") return;
          event.preventDefault(); // else the key is pressed in the dialog, too
          show();
        });
      }
      return [[kind, made]];
    });
    const order = ["absent", "right", "missed", "found", "failed", "wrong"]; // what matters lies on top
    drawn.sort(([a], [b]) => order.indexOf(a) - order.indexOf(b));
    $("map").replaceChildren(...drawn.map(([, made]) => made));
    const kinds = (label === "" ? ["right", "failed"] : ["found", "wrong", "missed", "absent"]);
    $("map-keys").replaceChildren(...kinds.map((kind) => {
      const sample = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      Object.entries({ width: 16, height: 16, "aria-hidden": "true" }).forEach(([key, value]) => sample.setAttribute(key, value));
      sample.append(point(kind, 8, 8));
      return element("span", {}, sample, ` ${names[kind]}: ${drawn.filter(([one]) => one === kind).length}`);
    }));
  };

  const showMap = ({ group, run, model }, unpack) => {
    $("map-section").hidden = !(group.map && model.map && run.onMap);
    if ($("map-section").hidden) return;
    group.map.unpacked ??= { known: unpack(group.map.known, Uint8Array), truth: unpack(group.map.true, Uint8Array) };
    now = { group, model, ...group.map.unpacked, predicted: (run.unpackedOnMap ??= unpack(run.onMap, Uint8Array)) };
    const kept = $("map-label").value;
    $("map-label").replaceChildren(new Option("all: entirely right or not", ""), ...group.labels.map((name, k) => new Option(name, k)));
    $("map-label").value = kept in group.labels ? kept : "";
    const { share } = model.map;
    $("map-title").textContent = `Map of the test images, by ${share === null ? "UMAP" : "principal components"}`;
    $("map-axes").textContent = share === null
      ? "laid out by UMAP (neighbours stay neighbours, distances between groups say little)"
      : `in their first two principal components (${(100 * share).toFixed(0)}% of the variance)`;
    drawMap();
  };
  $("map-label").addEventListener("change", drawMap);
  return { showConfusions, showMap };
})();
