// The decision explorer: metrics and counts at every step of a slider, and label sets from a few images' scores.
// gallery.js shows these, errors.js what does not move with the slider.
"use strict";
(() => {
  const { keys, columns, figures, marks, groups } = JSON.parse(document.getElementById("explorer-data").textContent);
  const $ = (id) => document.getElementById(`explorer-${id}`);
  const symbols = { theta: "θ", k: "k", shift: "δ" };
  const drawn = ["ov_p", "ov_r", "f1", "exact_match"];
  let group, run, model, mode, steps, curves;

  const unpack = (text, Kind) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Kind(bytes.buffer);
  };
  const counts = (packed) => packed.unpacked ??= {
    correct: unpack(packed.correct, packed.bytes === 2 ? Uint16Array : Uint32Array),
    predicted: unpack(packed.predicted, packed.bytes === 2 ? Uint16Array : Uint32Array),
  };

  const ratio = (numerator, denominator) => (denominator === 0 ? 0 : numerator / denominator);

  // Every metric at a step, as the functional core computed it.
  const metricsAt = (step) => {
    steps.unpackedMetrics ??= Object.entries(steps.metrics).map(([key, packed]) => [key, unpack(packed, Float64Array)]);
    return Object.fromEntries(steps.unpackedMetrics.map(([key, values]) => [key, values[step]]));
  };

  // The label set of a shown image at a step of the slider, as booleans by label.
  const labelSet = (image, value) => {
    const labels = group.actual.length;
    const scores = (model.unpackedScores ??= unpack(model.scores, Float32Array)).subarray(image * labels, (image + 1) * labels);
    if (mode === "theta") return Array.from(scores, (score) => score > value);
    if (mode === "shift") {
      const own = (run.unpackedThresholds ??= unpack(run.thresholds, Float32Array)).subarray(image * labels, (image + 1) * labels);
      return Array.from(scores, (score, k) => Math.fround(score - own[k]) > value);
    }
    const set = new Array(labels).fill(false);
    model.top[image].slice(0, value).forEach((k) => { if (k >= 0) set[k] = true; });
    return set;
  };

  const percent = (x) => (100 * x).toFixed(1);
  const change = (x) => (Math.abs(x) < 5e-4 ? "0.0" : (x < 0 ? "−" : "+") + Math.abs(100 * x).toFixed(1));
  const showMetrics = (values) => {
    $("metrics").tBodies[0].replaceChildren(...keys.map(({ key, name, note, higher_is_better }) => {
      const reported = run.reported[key];
      const here = element("td", { className: "num", textContent: percent(values[key]) });
      here.dataset.key = key;
      here.dataset.value = values[key];
      const cells = reported === undefined ? ["–", "–"] : [percent(reported), change(values[key] - reported)];
      return element("tr", {},
        element("th", { scope: "row", textContent: name, title: note }),
        here,
        element("td", { className: "num", textContent: cells[0] }),
        element("td", { className: `num ${["+", "−"].includes(cells[1][0]) ? ((cells[1][0] === "+") === higher_is_better ? "up" : "down") : ""}`, textContent: cells[1] }));
    }));
  };

  const showSummary = (step, values) => {
    const kept = run[mode];
    const gained = steps.exact[step] - kept.stillRight[step];
    const lost = run.right - kept.stillRight[step];
    const changed = group.images - kept.same[step];
    const images = group.images.toLocaleString("en");
    $("summary").textContent =
      `${steps.exact[step].toLocaleString("en")} of ${images} images have exactly the right labels: ` +
      `${gained.toLocaleString("en")} gained and ${lost.toLocaleString("en")} lost against the report. ` +
      `${changed.toLocaleString("en")} images have another label set than reported. ` +
      `${values.labels_per_image.toFixed(2)} labels an image.`;
  };

  // Heat maps of the pictures, found by picture and label.
  const heatOf = ({ heat }) => heat && (heat.unpacked ??= {
    size: heat.size,
    places: new Map(Array.from(unpack(heat.at, Uint32Array), (at, i) => [at, i])),
    maps: unpack(heat.maps, Uint8Array),
    limits: unpack(heat.limits, Float32Array),
    seen: unpack(heat.seen, Float32Array),
  });

  const showImages = (value) => {
    const labels = group.actual.length;
    const own = mode === "shift" ? run.unpackedThresholds ??= unpack(run.thresholds, Float32Array) : null;
    gallery.show({
      group, marks,
      sets: group.shown.map((_, i) => labelSet(i, value)),
      reported: (run.unpackedPredictions ??= unpack(run.predictions, Uint8Array)),
      scores: (model.unpackedScores ??= unpack(model.scores, Float32Array)),
      heat: heatOf(model),
      cut: mode === "k" ? null : (i, k) => value + (own ? own[i * labels + k] : 0),
    });
  };

  const showClasses = (step) => {
    const { correct, predicted } = counts(steps);
    const labels = group.actual.length;
    const rows = group.labels.map((name, k) => {
      const [c, p, a] = [correct[step * labels + k], predicted[step * labels + k], group.actual[k]];
      const shares = { f1: ratio(2 * c, p + a), ap: model.ap[k], precision: ratio(c, p), recall: ratio(c, a) };
      const counted = { images: a, predicted: p };
      const numbers = columns.map(({ key }) => {
        if (key in counted) return [counted[key], counted[key]];
        return shares[key] === null ? ["", "–"] : [shares[key], percent(shares[key])];
      });
      return element("tr", {}, element("th", { scope: "row", textContent: name }), ...numbers.map(([raw, text]) => {
        const cell = element("td", { className: "num", textContent: text });
        cell.dataset.value = raw;
        return cell;
      }));
    });
    $("classes").tBodies[0].replaceChildren(...rows);
    [...$("classes").tHead.rows[0].cells].forEach((head) => head.setAttribute("aria-sort", "none"));
  };

  const chart = { left: 36, right: 620, top: 10, bottom: 340 };
  const place = (step) => chart.left + (chart.right - chart.left) * (steps.values.length < 2 ? 0.5 : step / (steps.values.length - 1));
  const height = (fraction) => chart.bottom - (chart.bottom - chart.top) * fraction;
  const svg = (name, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
    if (text !== undefined) made.textContent = text;
    return made;
  };

  const drawChart = () => {
    curves = steps.values.map((_, step) => metricsAt(step));
    const parts = [0, 0.25, 0.5, 0.75, 1].flatMap((y) => [
      svg("line", { x1: chart.left, x2: chart.right, y1: height(y), y2: height(y), class: "grid" }),
      svg("text", { x: chart.left - 6, y: height(y) + 4, "text-anchor": "end" }, String(100 * y)),
    ]);
    const last = steps.values.length - 1;
    const ticks = mode === "k" ? steps.values.map((_, i) => i) : [0, 0.25, 0.5, 0.75, 1].map((x) => Math.round(x * last));
    parts.push(...[...new Set(ticks)].map((step) => svg("text", { x: place(step), y: chart.bottom + 16, "text-anchor": "middle" },
      mode === "k" ? String(steps.values[step]) : steps.values[step].toFixed(2))));
    parts.push(svg("text", { x: (chart.left + chart.right) / 2, y: chart.bottom + 32, "text-anchor": "middle" }, symbols[mode]));
    parts.push(...drawn.map((key) => svg("polyline", {
      class: `line ${key}`,
      points: curves.map((values, step) => `${place(step).toFixed(1)},${height(values[key]).toFixed(1)}`).join(" "),
    })));
    parts.push(svg("line", { id: "explorer-marker", y1: chart.top, y2: chart.bottom, class: "marker" }));
    $("chart").replaceChildren(...parts);
  };

  const update = () => {
    const step = Number($("slider").value);
    const value = steps.values[step];
    const text = mode === "k" ? String(value) : value.toFixed(3);
    $("value").textContent = text;
    $("value").dataset.value = value;
    $("slider").setAttribute("aria-valuetext", `${symbols[mode]} = ${text}`);
    const marker = document.getElementById("explorer-marker");
    ["x1", "x2"].forEach((x) => marker.setAttribute(x, place(step)));
    showMetrics(curves[step]);
    showSummary(step, curves[step]);
    showImages(value);
    showClasses(step);
  };

  // Where the slider comes closest to what was reported: the step at which most images keep their label set.
  const reportedStep = (name) => {
    const { same } = run[name];
    return same.indexOf(Math.max(...same));
  };

  const choose = (name) => {
    mode = name;
    steps = mode === "shift" ? run.shift : model[mode];
    document.querySelectorAll("#explorer-mode input").forEach((input) => {
      input.checked = input.value === mode;
      input.disabled = input.value === "shift" && !run.shift;
    });
    $("symbol").textContent = symbols[mode];
    $("slider").max = steps.values.length - 1;
    $("slider").value = reportedStep(mode);
    drawChart();
    update();
  };

  const chooseRun = () => {
    const [b, r] = $("run").value.split(".").map(Number);
    group = groups[b];
    run = group.runs[r];
    model = group.models[run.model];
    $("note").textContent = group.note;
    $("note").hidden = !group.note;
    const known = $("label").value;
    $("label").replaceChildren(new Option("any label", ""), ...group.labels.map((name, k) => new Option(name, k)));
    $("label").value = known in group.labels ? known : "";
    gallery.forget();
    errors.showConfusions({ group, run });
    errors.showMap({ group, run, model }, unpack);
    finder.choose({ group, run, columns: figures });
    const modes = ["shift", "theta", "k"].filter((name) => run[name]);
    const kept = Object.fromEntries(modes.map((name) => [name, Math.max(...run[name].same)]));
    choose(modes.reduce((best, name) => (kept[name] > kept[best] ? name : best)));
  };

  groups.forEach((found, b) => {
    const options = element("optgroup", { label: found.title });
    options.append(...found.runs.map((one, r) => new Option(one.variant ? `${one.label} [${one.variant}]` : one.label, `${b}.${r}`)));
    $("run").append(options);
  });
  $("keys").replaceChildren(...drawn.map((key) => {
    const sample = svg("svg", { width: 30, height: 8, "aria-hidden": "true" });
    sample.append(svg("line", { x1: 0, x2: 30, y1: 4, y2: 4, class: `line ${key}` }));
    return element("span", {}, sample, ` ${keys.find((one) => one.key === key).name}`);
  }));
  $("run").addEventListener("change", chooseRun);
  $("slider").addEventListener("input", update);
  $("reset").addEventListener("click", () => { $("slider").value = reportedStep(mode); update(); });
  $("mode").addEventListener("change", (event) => choose(event.target.value));
  $("chart").addEventListener("click", (event) => {
    const box = $("chart").getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * 640;
    const share = (x - chart.left) / (chart.right - chart.left);
    $("slider").value = Math.round(share * (steps.values.length - 1));
    update();
  });
  const start = [...$("run").options].find((option) => option.textContent.startsWith(`${groups[0].best}, seed `));
  if (start) $("run").value = start.value;
  chooseRun();
})();
