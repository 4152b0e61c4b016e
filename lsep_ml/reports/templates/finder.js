// Every label of the chosen run by its name: names and figures lie compressed in the page, unpacked when first asked for.
"use strict";
const finder = (() => {
  const $ = (id) => document.getElementById(`explorer-${id}`);
  const MOST = 50; // labels that are listed at a time
  const NONE = 65535; // a share that is not defined
  const kinds = {
    share: [Uint16Array, (value) => (value === NONE ? "–" : (value / 10).toFixed(1))],
    count: [Uint32Array, (value) => value.toLocaleString("en")],
    number: [Float32Array, (value) => value.toFixed(3)],
  };
  let group, run, columns;

  const inflate = (text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();
  };
  const fold = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().replace(/[\s_]+/g, " ").trim();
  const namesOf = async (of) => {
    const names = JSON.parse(new TextDecoder().decode(await inflate(of.names)));
    return { names, folded: names.map(fold) };
  };
  const figuresOf = ({ figures }) => Promise.all(columns.filter(({ key }) => key in figures).map(async ({ key, name, kind }) => {
    const [Kind, text] = kinds[kind];
    return { key, name, text, values: new Kind(await inflate(figures[key])) };
  }));

  // The labels that have all words of a text in their name, those that are or begin so first, then the most frequent.
  const matches = (text, folded, support) => {
    const wanted = fold(text);
    const words = wanted.split(" ");
    const rank = (name) => (name === wanted ? 0 : name.startsWith(wanted) ? 1 : name.includes(wanted) ? 2 : 3);
    return folded.flatMap((name, k) => (words.every((word) => name.includes(word)) ? [[rank(name), k]] : []))
      .sort(([a, j], [b, k]) => a - b || support[k] - support[j] || j - k).map(([, k]) => k);
  };

  // The label's pictures, where it is among those that the page has more of.
  const pictures = (k) => {
    const place = group.places.indexOf(k);
    if (place < 0) return [];
    const button = element("button", { type: "button", textContent: "pictures" });
    button.addEventListener("click", () => {
      $("label").value = place;
      $("label").dispatchEvent(new Event("change", { bubbles: true }));
      $("images-title").scrollIntoView();
      $("label").focus({ preventScroll: true });
    });
    return [button];
  };

  const say = (text, table = false) => {
    $("find-status").textContent = text;
    $("find-scroll").hidden = !table;
  };

  const search = async () => {
    const asked = [group, run, $("find").value];
    const text = asked[2].trim();
    if (typeof run.figures === "string") return say(run.figures);
    if (!text) return say(`${group.number.toLocaleString("en")} labels`);
    if (!("DecompressionStream" in window)) return say("This browser is too old to unpack the labels; per_class.csv in the run's folder has them.");
    const { names, folded } = await (group.found ??= namesOf(group));
    const found = await (run.found ??= figuresOf(run));
    if (asked[0] !== group || asked[1] !== run || asked[2] !== $("find").value) return; // asked anew meanwhile
    const all = matches(text, folded, found.find(({ key }) => key === "support").values);
    const row = (k) => element("tr", {}, element("th", { scope: "row", textContent: names[k] }),
      ...found.map(({ text: write, values }) => element("td", { className: "num", textContent: write(values[k]) })),
      element("td", {}, ...pictures(k)));
    $("find-labels").tHead.rows[0].replaceChildren(element("th", { scope: "col", textContent: "label" }),
      ...found.map(({ name }) => element("th", { scope: "col", className: "num", textContent: name })),
      element("th", { scope: "col", ariaLabel: "pictures" }));
    $("find-labels").tBodies[0].replaceChildren(...all.slice(0, MOST).map(row));
    const number = all.length === 1 ? "1 label" : `${all.length.toLocaleString("en")} labels`;
    if (!all.length) say(`No label of ${names.length.toLocaleString("en")} has “${text}” in its name.`);
    else say(all.length > MOST ? `${number}, the first ${MOST} of them are listed` : number, true);
  };

  $("find").addEventListener("input", search);
  return {
    choose: (chosen) => {
      ({ group, run, columns } = chosen);
      $("find").disabled = typeof run.figures === "string";
      search();
    },
  };
})();
