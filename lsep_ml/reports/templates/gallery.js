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
  let now, order, large, pair = null;

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
    const chips = ["found", "wrong", "missed", "dropped"].flatMap((kind) => found[kind].map((k) => chip(kind, k, found)));
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
    $("large-picture").replaceChildren(element("img", { src: image.picture, alt: `test image ${image.id}` }));
    $("large-cut").textContent = now.cut ? "cut-off" : "rank";
    $("large-labels").replaceChildren(...listed.map((k) => element("tr", {},
      element("th", { scope: "row" }, kinds[k] ? chip(kinds[k], k, found) : element("span", { className: "faint", textContent: group.labels[k] })),
      element("td", { className: "num", textContent: score(k).toFixed(2) }),
      element("td", { className: "num", textContent: now.cut ? now.cut(i, k).toFixed(2) : String(ranked.indexOf(k) + 1) }))));
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
