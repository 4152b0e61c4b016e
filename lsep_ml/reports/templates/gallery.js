// The test images: their label sets, which are shown and in what order, and one of them large with its scores.
"use strict";
const element = (name, properties, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

const gallery = (() => {
  const $ = (id) => document.getElementById(`explorer-${id}`);
  const FURTHER = 5; // labels of the highest scores that a large picture lists beside those that matter
  const MOST = 30; // labels of a kind that are written below a picture
  const FINER = 24; // times as many pixels as a heat map has places, so that it is drawn smoothly
  let now, order, large, warm = null, pair = null;

  // What a label set says of an image, against what is there and against what was reported.
  const compare = (i) => {
    const { group, reported } = now;
    const image = group.shown[i];
    const labels = group.actual.length;
    const kinds = { found: [], wrong: [], missed: [], dropped: [] };
    const moved = new Set();
    let right = true, wasRight = true;
    for (let k = 0; k < labels; k++) {
      if (image.unknown.includes(k)) continue;
      const there = image.true.includes(k);
      const own = reported[i * labels + k] === 1;
      const set = now.sets[i][k];
      if (set !== own) moved.add(k);
      right &&= set === there;
      wasRight &&= own === there;
      const kind = set ? (there ? "found" : "wrong") : there ? "missed" : own ? "dropped" : null;
      if (kind) kinds[kind].push(k);
    }
    return { ...kinds, moved, right, wasRight, differs: moved.size > 0, errors: kinds.wrong.length + kinds.missed.length };
  };

  const chip = (kind, k, found) => element("span", {
    className: `chip ${kind}${found.moved.has(k) ? " moved" : ""}`,
    textContent: `${now.marks[kind] ?? now.marks.wrong} ${now.group.labels[k]}`,
  });

  const wanted = (i, found) => {
    const { right, wasRight, differs } = found;
    const shows = { all: true, differs, gained: right && !wasRight, lost: wasRight && !right, wrong: !right, right };
    const label = $("label").value, kind = $("kind").value, k = Number(label);
    const there = label === ""
      ? kind === "" || found[kind].length > 0
      : kind === "" ? now.group.shown[i].true.includes(k) || now.sets[i][k] : found[kind].includes(k);
    const paired = !pair || (found.wrong.includes(pair[0]) && found.missed.includes(pair[1]));
    return shows[$("show").value] && there && paired;
  };

  const tile = (i, found) => {
    const image = now.group.shown[i];
    const chips = ["found", "wrong", "missed", "dropped"].flatMap((kind) => {
      const more = found[kind].length - MOST;
      const written = found[kind].slice(0, MOST).map((k) => chip(kind, k, found));
      return more > 0 ? [...written, element("span", { className: `chip ${kind}`, textContent: `and ${more.toLocaleString("en")} more` })] : written;
    });
    if (!chips.length) chips.push(element("span", { className: "faint", textContent: "none" }));
    const became = found.right === found.wasRight ? ", changed" : found.right ? ", gained" : ", lost";
    const picture = element("button", { type: "button", className: "enlarge" },
      element("img", { src: image.picture, alt: `test image ${image.id}` }));
    picture.addEventListener("click", () => open(i));
    return element("figure", { className: found.differs ? "tile differs" : "tile", hidden: !wanted(i, found) },
      picture,
      element("figcaption", {},
        element("span", { className: "verdict", textContent: `${found.right ? "right" : "not right"}${found.differs ? became : ""}` }),
        element("span", { className: "chips" }, ...chips),
        element("span", { className: "faint id", textContent: image.id })));
  };

  const show = (state) => {
    now = state;
    const labels = now.group.actual.length;
    const label = $("label").value;
    ["high", "low"].forEach((name) => { $("order").querySelector(`[value=${name}]`).disabled = label === ""; });
    if (label === "" && ["high", "low"].includes($("order").value)) $("order").value = "";
    const compared = now.group.shown.map((_, i) => compare(i));
    const score = (i) => now.scores[i * labels + Number(label)];
    const by = { "": () => 0, errors: (a, b) => compared[b].errors - compared[a].errors, high: (a, b) => score(b) - score(a), low: (a, b) => score(a) - score(b) };
    const all = compared.map((_, i) => i).sort((a, b) => by[$("order").value](a, b) || a - b);
    const tiles = all.map((i) => tile(i, compared[i]));
    order = all.filter((_, place) => !tiles[place].hidden);
    $("images").replaceChildren(...tiles);
    const differing = compared.filter((found) => found.differs).length;
    $("changed").textContent = tiles.length
      ? `${order.length} of ${tiles.length} shown; ${differing} of ${tiles.length} change` : "no thumbnails in these runs";
    $("none").hidden = !tiles.length || order.length > 0;
    $("pair").hidden = !pair;
    if (pair) $("pair").textContent = `${now.group.labels[pair[0]]} for ${now.group.labels[pair[1]]} ✕`;
  };

  // Only images with label j predicted and not there while label k is missing; null takes that back.
  const only = (chosen) => {
    pair = chosen;
    show(now);
    if (chosen) $("changed").scrollIntoView({ block: "start" });
  };

  const heatPlace = (i, k) => now.heat?.places.get(i * now.group.actual.length + k);

  const heatButton = (i, k) => {
    if (heatPlace(i, k) === undefined) return [];
    const button = element("button", { type: "button", textContent: "where", title: `where the score of ${now.group.labels[k]} comes from` });
    button.setAttribute("aria-pressed", warm === k);
    button.dataset.label = k;
    button.addEventListener("click", () => {
      warm = warm === k ? null : k;
      $("large-labels").querySelectorAll("[data-label]").forEach((one) => one.setAttribute("aria-pressed", Number(one.dataset.label) === warm));
      drawHeat(i);
    });
    return [button];
  };

  // Lays the scores of the chosen label at the places of the network's map over the large picture.
  const drawHeat = (i) => {
    const frame = $("large-picture").querySelector(".framed");
    frame.querySelector("canvas")?.remove();
    const at = warm === null ? undefined : heatPlace(i, warm);
    $("large-heat").hidden = at === undefined;
    if (at === undefined) return;
    const { size: [rows, columns], maps, limits, seen } = now.heat;
    const small = element("canvas", { width: columns, height: rows });
    const pixels = new ImageData(columns, rows);
    const places = maps.subarray(at * rows * columns, (at + 1) * rows * columns);
    const mean = places.reduce((sum, value) => sum + value, 0) / places.length;
    places.forEach((value, p) => pixels.data.set(heatColour(Math.max(0, value - mean) / (255 - mean || 1)), 4 * p));
    small.getContext("2d").putImageData(pixels, 0, 0);
    const drawn = element("canvas", { width: FINER * columns, height: FINER * rows });
    const context = drawn.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(small, 0, 0, drawn.width, drawn.height);
    const [top, left, height, width] = seen.subarray(4 * i, 4 * i + 4);
    Object.assign(drawn.style, { top: `${100 * top}%`, left: `${100 * left}%`, height: `${100 * height}%`, width: `${100 * width}%` });
    frame.append(drawn);
    const [low, high] = limits.subarray(2 * at, 2 * at + 2);
    $("large-heat-label").textContent = now.group.labels[warm];
    $("large-heat-mean").textContent = (low + (high - low) * mean / 255).toFixed(2);
    $("large-heat-high").textContent = high.toFixed(2);
  };

  // From clear through red to a bright yellow: red, green, blue and how much it covers, of a share of the scale.
  const heatColour = (share) => [255, 30 + 210 * share, 0, 255 * 0.75 * share ** 0.8];

  const open = (i) => {
    large = i;
    const { group, scores } = now;
    const labels = group.actual.length;
    const image = group.shown[i];
    const found = compare(i);
    const kinds = Object.fromEntries(["found", "wrong", "missed", "dropped"].flatMap((kind) => found[kind].map((k) => [k, kind])));
    const score = (k) => scores[i * labels + k];
    const ranked = [...Array(labels).keys()].sort((a, b) => score(b) - score(a) || a - b);
    const further = ranked.filter((k) => !(k in kinds)).slice(0, FURTHER);
    const listed = ranked.filter((k) => k in kinds || further.includes(k));
    $("large-title").textContent = image.id;
    const picture = element("img", { src: image.picture, alt: `test image ${image.id}` });
    picture.addEventListener("load", () => picture.parentElement.style.setProperty("--aspect", picture.naturalWidth / picture.naturalHeight));
    $("large-picture").replaceChildren(element("div", { className: "framed" }, picture));
    drawHeat(i);
    $("large-cut").textContent = now.cut ? "cut-off" : "rank";
    $("large-labels").replaceChildren(...listed.map((k) => element("tr", {},
      element("th", { scope: "row" }, kinds[k] ? chip(kinds[k], k, found) : element("span", { className: "faint", textContent: group.labels[k] })),
      element("td", { className: "num", textContent: score(k).toFixed(2) }),
      element("td", { className: "num", textContent: now.cut ? now.cut(i, k).toFixed(2) : String(ranked.indexOf(k) + 1) }),
      element("td", {}, ...heatButton(i, k)))));
    ["back", "next"].forEach((name) => { $(name).disabled = beside(name) === undefined; });
    if (!$("large").open) $("large").showModal();
  };

  const beside = (name) => order[order.indexOf(large) + (name === "next" ? 1 : -1)];
  ["back", "next"].forEach((name) => $(name).addEventListener("click", () => open(beside(name))));
  $("large").addEventListener("keydown", ({ key }) => {
    const i = { ArrowLeft: beside("back"), ArrowRight: beside("next") }[key];
    if (i !== undefined) open(i);
  });
  $("large").addEventListener("click", (event) => { if (event.target === $("large")) $("large").close(); });
  ["show", "label", "kind", "order"].forEach((name) => $(name).addEventListener("change", () => show(now)));
  $("pair").addEventListener("click", () => only(null));
  return { show, only, open, forget: () => { pair = null; } };
})();
