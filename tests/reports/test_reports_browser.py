"""The page in a real browser: it loads without an error, its numbers are the metrics', it works without a mouse."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
import pytest
from report_runs import top, write_failure, write_run, write_sweep
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from lsep_ml.metrics.functional import (
    LABEL_SET_KEYS,
    average_precisions,
    count_label_sets,
    label_set_metrics,
    per_class_metrics,
)
from lsep_ml.reports import BuiltReport, build_report
from lsep_ml.reports.errors import confusions
from lsep_ml.reports.figures.of_run import spread_rows
from lsep_ml.reports.page import CLASS_COLUMNS
from lsep_ml.reports.paper import method_name
from lsep_ml.runs.feature_map import map_features, write_feature_map
from lsep_ml.runs.heat_maps import HeatMaps, as_bytes, write_heat_maps

LABELS = 9
_OF_PLACES = np.zeros((2, 4, 2), np.float32)
_OF_PLACES[0, 3, 1], _OF_PLACES[1, 0, 0] = 8, 2
# Of two labels in the first picture, of which the network sees a strip that is half as wide.
HEAT = HeatMaps(
    np.zeros(2, np.int32),
    np.arange(2, dtype=np.int32),
    *as_bytes(_OF_PLACES),
    np.array([[0, 0.25, 1, 0.5]] * 2, np.float32),
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> BuiltReport:
    folder = tmp_path_factory.mktemp("runs")
    write_sweep(
        folder,
        losses=["warp", "lsep"],
        seeds=[0, 1],
        images=160,
        labels=LABELS,
        unknown=0.05,
        intervals=False,
    )
    paper = {"data": "voc2007", "model": "vgg16", "labels": 20, "colour": True, "intervals": False}
    for loss, decision in (("lsep", "thresh_est"), ("warp", "topk"), ("warp", "threshold")):
        write_run(folder, loss=loss, decision=decision, **paper)
    for run in folder.glob("digits/*"):
        with np.load(run / "predictions.npz") as arrays:
            write_feature_map(run / "feature_map.npz", map_features(arrays["scores"]))
    for run in folder.glob("digits/*-lsep-*"):
        write_heat_maps(run / "heat_maps.npz", HEAT)
    write_failure(folder, "ValueError: <b>bold</b>", ["loss=warp"])
    [without] = folder.glob("digits/*-warp-topk-seed1-*")
    (without / "per_class.csv").unlink()
    with pytest.MonkeyPatch.context() as patch:  # the 20 labels are very many
        for name, value in {"MOST_LABELS": 15, "OFTEN": 4, "RARE": 3, "WORST": 4}.items():
            patch.setattr(f"lsep_ml.reports.explorer.{name}", value)
        return build_report(folder, replicates=100)


@pytest.fixture
def page(chrome: webdriver.Chrome, report: BuiltReport) -> Iterator[webdriver.Chrome]:
    """The report, freshly loaded; nothing may have been said on the console when the test is over."""
    chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chrome.get(report.page.as_uri())
    yield chrome
    assert chrome.get_log("browser") == []


def by_id(page: webdriver.Chrome, name: str) -> Any:
    return page.find_element(By.ID, f"explorer-{name}")


def choose(page: webdriver.Chrome, run: str, mode: str) -> None:
    Select(by_id(page, "run")).select_by_visible_text(run)
    page.find_element(By.CSS_SELECTOR, f"#explorer-mode input[value={mode}]").click()


def move(page: webdriver.Chrome, step: int) -> float:
    """Put the slider at a step as a hand would; returns its value."""
    script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))"
    page.execute_script(script, by_id(page, "slider"), step)
    return float(by_id(page, "value").get_attribute("data-value"))


def shown_metrics(page: webdriver.Chrome) -> dict[str, float]:
    cells = page.find_elements(By.CSS_SELECTOR, "#explorer-metrics [data-key]")
    return {cell.get_attribute("data-key"): float(cell.get_attribute("data-value")) for cell in cells}


def arrays_of(report: BuiltReport, decision: str) -> dict[str, np.ndarray]:
    [run] = [
        run
        for run in report.runs
        if (run.data, run.loss, run.decision, run.seed) == ("digits", "lsep", decision, 0)
    ]
    return dict(np.load(run.folder / "predictions.npz"))


def label_sets(arrays: dict[str, np.ndarray], mode: str, value: float) -> np.ndarray:
    scores = arrays["scores"]
    if mode == "k":
        return top(scores, np.full(len(scores), int(value)))
    return scores - (arrays["thresholds"] if mode == "shift" else np.float32(0)) > np.float32(value)


@pytest.mark.parametrize(
    ("run", "decision", "mode"),
    [
        ("LSEP (θ), seed 0", "threshold", "theta"),
        ("LSEP (K), seed 0", "topk", "k"),
        ("LSEP (threshold est.), seed 0", "thresh_est", "shift"),
        ("LSEP (count est.), seed 0", "count_est", "theta"),
    ],
)
def test_the_slider_gives_the_metrics_of_the_label_sets(
    page: webdriver.Chrome, report: BuiltReport, run: str, decision: str, mode: str
) -> None:
    """At several steps: every metric, the counts in words, and the label sets of the images shown."""
    choose(page, run, mode)
    arrays = arrays_of(report, decision)
    last = int(by_id(page, "slider").get_attribute("max"))
    for step in sorted({0, last // 3, last // 2, last - 1, last}):
        sets = label_sets(arrays, mode, move(page, step))
        counts = count_label_sets(sets, arrays["targets"], arrays["mask"])
        expected = {key: float(value) for key, value in label_set_metrics(counts).items()}
        assert shown_metrics(page) == pytest.approx(expected, abs=1e-12)
        assert set(expected) == set(LABEL_SET_KEYS)
        summary = by_id(page, "summary").text
        known, own = arrays["mask"] == 1, arrays["predictions"] == 1
        changed = int(((sets != own) & known).any(1).sum())
        assert summary.startswith(f"{counts.exact} of {counts.images} images have exactly the right labels")
        assert f"{changed} images have another label set than reported" in summary
        assert_tiles(page, arrays, sets)


def test_the_numbers_of_each_class_are_those_of_the_metrics(
    page: webdriver.Chrome, report: BuiltReport
) -> None:
    choose(page, "LSEP (θ), seed 0", "theta")
    heads = by_id(page, "classes").find_elements(By.CSS_SELECTOR, "thead th")
    assert [head.text for head in heads[1:]] == list(CLASS_COLUMNS.values())
    arrays = arrays_of(report, "threshold")
    last = int(by_id(page, "slider").get_attribute("max"))
    ap = average_precisions(arrays["scores"], arrays["targets"], arrays["mask"])
    for step in (last // 2, last):  # at the last nothing is predicted
        sets = label_sets(arrays, "theta", move(page, step))
        counts = count_label_sets(sets, arrays["targets"], arrays["mask"])
        expected = {**per_class_metrics(counts.correct, counts.predicted, counts.actual), "ap": ap}
        expected |= {"images": counts.actual, "predicted": counts.predicted}
        rows = by_id(page, "classes").find_elements(By.CSS_SELECTOR, "tbody tr")
        told = [
            [float(cell.get_attribute("data-value")) for cell in row.find_elements(By.TAG_NAME, "td")]
            for row in rows
        ]
        wanted = np.stack([expected[key] for key in CLASS_COLUMNS], axis=1)
        np.testing.assert_allclose(told, wanted, atol=1e-6)  # AP is rounded


def assert_tiles(page: webdriver.Chrome, arrays: dict[str, np.ndarray], sets: np.ndarray) -> None:
    rows = np.unique(np.linspace(0, len(sets) - 1, 24).round().astype(int))
    tiles = page.find_elements(By.CSS_SELECTOR, "#explorer-images figure")
    assert len(tiles) == len(rows)
    texts = page.execute_script(
        "return [...document.querySelectorAll('#explorer-images figure')].map(tile => "
        "[tile.className, ['found', 'wrong', 'missed'].map(kind => "
        "[...tile.querySelectorAll('.chip.' + kind)].map(chip => chip.textContent.slice(2)))])"
    )
    for row, (kind, (found, wrong, missed)) in zip(rows, texts, strict=True):
        known, true, chosen = (arrays[name][row] == 1 for name in ("mask", "targets", "mask"))
        chosen = sets[row] & known
        assert found == [str(k) for k in np.flatnonzero(chosen & true)]
        assert wrong == [str(k) for k in np.flatnonzero(chosen & ~true & known)]
        assert missed == [str(k) for k in np.flatnonzero(~chosen & true & known)]
        assert ("differs" in kind) == bool(((sets[row] != arrays["predictions"][row]) & known).any())


def test_a_run_opens_where_it_was_reported(page: webdriver.Chrome, report: BuiltReport) -> None:
    modes = {"LSEP (θ), seed 0": "theta", "LSEP (K), seed 1": "k", "LSEP (threshold est.), seed 0": "shift"}
    for run, mode in modes.items():
        Select(by_id(page, "run")).select_by_visible_text(run)
        checked = page.find_element(By.CSS_SELECTOR, "#explorer-mode input:checked")
        assert checked.get_attribute("value") == mode
        assert " 0 images have another label set" in by_id(page, "summary").text
        changes = page.find_elements(By.CSS_SELECTOR, "#explorer-metrics td:last-child")
        assert {cell.text for cell in changes} == {"0.0"}
        move(page, 0)
        assert " 0 images have another label set" not in by_id(page, "summary").text
        by_id(page, "reset").click()
        assert " 0 images have another label set" in by_id(page, "summary").text


def test_another_data_set_can_be_explored(page: webdriver.Chrome) -> None:
    Select(by_id(page, "run")).select_by_index(len(Select(by_id(page, "run")).options) - 1)
    groups = [
        group.get_attribute("label")
        for group in page.find_elements(By.CSS_SELECTOR, "#explorer-run optgroup")
    ]
    assert groups == ["digits", "voc2007"]
    assert len(page.find_elements(By.CSS_SELECTOR, "#explorer-classes tbody tr")) == 11  # of 20


def test_the_keyboard_is_enough(page: webdriver.Chrome) -> None:
    Select(by_id(page, "run")).select_by_visible_text("LSEP (threshold est.), seed 0")
    slider = by_id(page, "slider")
    step = int(slider.get_attribute("value"))
    before = shown_metrics(page)
    slider.send_keys(Keys.ARROW_RIGHT)
    assert int(slider.get_attribute("value")) == step + 1
    assert shown_metrics(page) != before
    slider.send_keys(Keys.HOME)
    assert slider.get_attribute("value") == "0"
    assert slider.get_attribute("aria-valuetext").startswith("δ = ")
    head = page.find_element(By.CSS_SELECTOR, "#data-voc2007 table.results th:nth-child(6) button")
    head.send_keys(Keys.ENTER)
    assert sorted_direction(page) == {"descending"}
    page.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert page.switch_to.active_element.tag_name in {"a", "button", "summary", "div"}


def sorted_direction(page: webdriver.Chrome) -> set[str]:
    heads = page.find_elements(By.CSS_SELECTOR, "table.results th:nth-child(6)")
    return {str(head.get_attribute("aria-sort")) for head in heads} - {"none"} or {"none"}


def f1_column(page: webdriver.Chrome) -> list[str]:
    return [
        cell.text
        for cell in page.find_elements(
            By.CSS_SELECTOR, "#data-voc2007 table.results:first-of-type tbody td:nth-child(6)"
        )
    ][:9]


def test_tables_sort_down_up_and_back(page: webdriver.Chrome) -> None:
    button = page.find_element(By.CSS_SELECTOR, "#data-voc2007 table.results th:nth-child(6) button")
    original = f1_column(page)
    numbers = [float(re.split(r"[ \n]", text)[0]) for text in original if text[0] != "–"]
    assert len(numbers) == 3  # of nine rows, WARP's two and ours have runs
    button.click()
    down = f1_column(page)
    assert [float(text.split()[0]) for text in down[: len(numbers)]] == sorted(numbers, reverse=True)
    assert {text[0] for text in down[len(numbers) :]} == {"–"}  # rows without a run stay last
    button.click()
    up = f1_column(page)
    assert [float(text.split()[0]) for text in up[: len(numbers)]] == sorted(numbers)
    assert {text[0] for text in up[len(numbers) :]} == {"–"}
    button.click()
    assert f1_column(page) == original
    assert sorted_direction(page) == {"none"}


def best_of(report: BuiltReport, data: str) -> str:
    """The method of highest mean validation F1."""
    means: dict[str, list[float]] = {}
    for run in report.runs:
        if run.data == data:
            means.setdefault(method_name(*run.method), []).append(run.val["f1"])
    return max(means, key=lambda name: np.mean(means[name]))


def test_the_page_begins_with_the_best_of_each_data_set(page: webdriver.Chrome, report: BuiltReport) -> None:
    digits, voc = page.find_elements(By.CSS_SELECTOR, ".headlines p")
    assert digits.text.startswith(f"{best_of(report, 'digits')} is the best of 8 methods on digits")
    assert "at 95%" in digits.text
    assert voc.text.startswith(f"{best_of(report, 'voc2007')} is the best of 3 methods on voc2007")
    folder = Path(unquote(urlparse(digits.find_element(By.TAG_NAME, "a").get_attribute("href") or "").path))
    run = json.loads((folder / "result.json").read_text())
    assert method_name(run["loss"], run["decision"]) == best_of(report, "digits")
    started = Select(by_id(page, "run")).first_selected_option.text
    assert started.startswith(f"{best_of(report, 'digits')}, seed 0")


def test_every_link_leads_to_a_file(page: webdriver.Chrome, report: BuiltReport) -> None:
    links = {str(one.get_attribute("href")) for one in page.find_elements(By.CSS_SELECTOR, "a[href]")}
    files = {Path(unquote(urlparse(link).path)) for link in links}
    assert all(file.exists() for file in files)
    out = report.page.parent
    wanted = {*(out / "figures").iterdir(), *(run.folder for run in report.runs), out / "tables" / "runs.csv"}
    wanted |= {
        file for file in (out / "tables").iterdir() if file.stem.startswith(("table1", "table2", "all"))
    }
    assert wanted <= files
    targets = {urlparse(link).fragment for link in links} - {""}
    assert targets == {"main", "data-digits", "data-voc2007", "explorer", "figures", "runs"}
    assert all(page.find_elements(By.ID, name) for name in targets)


def test_images_can_be_filtered(page: webdriver.Chrome, report: BuiltReport) -> None:
    choose(page, "LSEP (θ), seed 0", "theta")
    arrays = arrays_of(report, "threshold")
    value = move(page, int(by_id(page, "slider").get_attribute("max")) // 2)
    sets = label_sets(arrays, "theta", value)[spread_rows(160)]
    true, known, own = (arrays[name][spread_rows(160)] == 1 for name in ("targets", "mask", "predictions"))
    right = ~((sets != true) & known).any(1)
    changed = ((sets != own) & known).any(1)
    for name, wanted in {"all": right | ~right, "right": right, "wrong": ~right, "differs": changed}.items():
        Select(by_id(page, "show")).select_by_value(name)
        shown = page.find_elements(By.CSS_SELECTOR, "#explorer-images figure:not([hidden])")
        assert len(shown) == wanted.sum()
        assert by_id(page, "changed").text.startswith(f"{wanted.sum()} of 24 shown; {changed.sum()} of 24")
    Select(by_id(page, "show")).select_by_value("all")
    Select(by_id(page, "label")).select_by_visible_text("3")
    shown = page.find_elements(By.CSS_SELECTOR, "#explorer-images figure:not([hidden])")
    assert len(shown) == (sets[:, 3] | (true & known)[:, 3]).sum()


def shown_ids(page: webdriver.Chrome) -> list[str]:
    where = "#explorer-images figure:not([hidden]) .id"
    script = "return [...document.querySelectorAll(arguments[0])].map(id => id.textContent)"
    found: list[str] = page.execute_script(script, where)
    return found


def test_images_are_filtered_by_what_became_of_them_and_by_error_and_sorted(
    page: webdriver.Chrome, report: BuiltReport
) -> None:
    choose(page, "LSEP (θ), seed 0", "theta")
    arrays = arrays_of(report, "threshold")
    rows = spread_rows(160)
    value = move(page, int(by_id(page, "slider").get_attribute("max")) // 2)
    sets, ids = label_sets(arrays, "theta", value)[rows], arrays["image_ids"][rows]
    true, known, own = (arrays[name][rows] == 1 for name in ("targets", "mask", "predictions"))
    right, was_right = (~((found != true) & known).any(1) for found in (sets, own))
    for name, wanted in {"gained": right & ~was_right, "lost": was_right & ~right}.items():
        Select(by_id(page, "show")).select_by_value(name)
        assert shown_ids(page) == ids[wanted].tolist()
    Select(by_id(page, "show")).select_by_value("all")
    kinds = {"found": sets & true & known, "wrong": sets & ~true & known, "missed": ~sets & true & known}
    for label in (None, 2):
        if label is not None:
            Select(by_id(page, "label")).select_by_visible_text(str(label))
        for name, entries in kinds.items():
            Select(by_id(page, "kind")).select_by_value(name)
            wanted = entries.any(1) if label is None else entries[:, label]
            assert shown_ids(page) == ids[wanted].tolist()
    Select(by_id(page, "kind")).select_by_value("")
    there = (sets | (true & known))[:, 2]
    scores = arrays["scores"][rows][:, 2]
    for name, order in {
        "high": np.argsort(-scores, kind="stable"),
        "low": np.argsort(scores, kind="stable"),
    }.items():
        Select(by_id(page, "order")).select_by_value(name)
        assert shown_ids(page) == [ids[i] for i in order if there[i]]
    Select(by_id(page, "label")).select_by_visible_text("any label")
    assert by_id(page, "order").get_attribute("value") == ""  # a score is a label's
    Select(by_id(page, "order")).select_by_value("errors")
    errors = ((sets != true) & known).sum(1)
    assert shown_ids(page) == ids[np.argsort(-errors, kind="stable")].tolist()


def test_a_picture_is_shown_large_with_its_scores(page: webdriver.Chrome, report: BuiltReport) -> None:
    choose(page, "LSEP (θ), seed 0", "theta")
    arrays, rows = arrays_of(report, "threshold"), spread_rows(160)
    page.find_elements(By.CSS_SELECTOR, "#explorer-images .enlarge")[3].click()
    dialog = by_id(page, "large")
    assert dialog.get_attribute("open") is not None
    for position in (3, 4):
        assert by_id(page, "large-title").text == arrays["image_ids"][rows[position]]
        scores = arrays["scores"][rows[position]]
        lines = dialog.find_elements(By.CSS_SELECTOR, "tbody tr")
        told = [[cell.text for cell in line.find_elements(By.CSS_SELECTOR, "th, td")] for line in lines]
        names = [line[0].split(" ")[-1] for line in told]
        assert [float(line[1]) for line in told] == pytest.approx([scores[int(k)] for k in names], abs=0.0051)
        assert [float(line[1]) for line in told] == sorted((float(line[1]) for line in told), reverse=True)
        there = arrays["targets"][rows[position]] & arrays["mask"][rows[position]]
        assert {str(k) for k in np.flatnonzero(there)} <= set(names)
        page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert dialog.get_attribute("open") is None


def test_a_heat_map_lies_where_the_network_saw_it(page: webdriver.Chrome) -> None:
    choose(page, "LSEP (θ), seed 0", "theta")
    move(page, 0)  # every label is predicted, and so listed
    page.find_elements(By.CSS_SELECTOR, "#explorer-images .enlarge")[0].click()

    def button(label: int) -> Any:
        return by_id(page, "large").find_element(By.CSS_SELECTOR, f"button[data-label='{label}']")

    assert len(page.find_elements(By.CSS_SELECTOR, "#explorer-large-labels button")) == 2
    canvas = "return document.querySelector('#explorer-large canvas')"
    assert page.execute_script(canvas) is None
    hottest = """
        const drawn = document.querySelector('#explorer-large canvas');
        const { data } = drawn.getContext('2d').getImageData(0, 0, drawn.width, drawn.height);
        let best = 3;
        for (let i = 3; i < data.length; i += 4) if (data[i] > data[best]) best = i;
        const at = (best - 3) / 4;
        return [at % drawn.width / drawn.width, Math.floor(at / drawn.width) / drawn.height];
    """
    for label, mean, high, corner in ((0, "1.00", "8.00", (0.5, 0.75)), (1, "0.25", "2.00", (0, 0))):
        button(label).click()
        assert button(label).get_attribute("aria-pressed") == "true"
        assert by_id(page, "large-heat").is_displayed()
        assert by_id(page, "large-heat-label").text == str(label)
        assert (by_id(page, "large-heat-mean").text, by_id(page, "large-heat-high").text) == (mean, high)
        x, y = page.execute_script(hottest)
        assert corner[0] <= x <= corner[0] + 0.5
        assert corner[1] <= y <= corner[1] + 0.25
    drawn, picture = (
        page.execute_script(f"{canvas.replace('canvas', one)}.getBoundingClientRect().toJSON()")
        for one in ("canvas", "img")
    )
    assert drawn["width"] == pytest.approx(picture["width"] / 2, abs=1)
    assert drawn["left"] - picture["left"] == pytest.approx(picture["width"] / 4, abs=1)
    assert drawn["height"] == pytest.approx(picture["height"], abs=1)
    button(1).click()
    assert page.execute_script(canvas) is None
    assert not by_id(page, "large-heat").is_displayed()
    page.switch_to.active_element.send_keys(Keys.ESCAPE)


def find(page: webdriver.Chrome, text: str) -> str:
    """Type `text` into the search, by keys alone; returns what is said of it."""
    field = by_id(page, "find")
    before = by_id(page, "find-status").text
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(text or Keys.DELETE)
    WebDriverWait(page, 10, 0.02).until(lambda _: by_id(page, "find-status").text not in ("", before))
    return str(by_id(page, "find-status").text)


def found_labels(page: webdriver.Chrome) -> list[list[str]]:
    lines = by_id(page, "find-labels").find_elements(By.CSS_SELECTOR, "tr")
    return [[cell.text for cell in line.find_elements(By.CSS_SELECTOR, "th, td")] for line in lines]


def test_a_label_is_found_by_its_name(page: webdriver.Chrome, report: BuiltReport) -> None:
    """Also one that is not among those that the page has more of; the figures are those of per_class.csv."""
    assert by_id(page, "find-status").text == "9 labels"
    name = "WARP (θ), seed 0"
    by_id(page, "run").find_element(By.XPATH, f"optgroup[last()]/option[.='{name}']").click()
    assert by_id(page, "find-status").text == "20 labels"
    [run] = [run for run in report.runs if run.data == "voc2007" and run.decision == "threshold"]
    with (run.folder / "per_class.csv").open(newline="") as file:
        rows = {row["label"]: row for row in csv.DictReader(file)}
    options = by_id(page, "label").find_elements(By.TAG_NAME, "option")
    here = {option.get_attribute("textContent") for option in options}
    missing = next(label for label in rows if label not in here)
    assert find(page, missing.upper().replace(" ", "_")) == "1 label"
    head, told = found_labels(page)
    row = rows[missing]
    assert head == [
        "label",
        "F1",
        "AP",
        "precision",
        "recall",
        "AUROC",
        "images",
        "predicted",
        "threshold",
        "",
    ]
    counts = [row[key] for key in ("support", "predicted")]
    assert [told[0], *told[6:]] == [missing, *counts, f"{run.choices['theta']:.3f}", ""]
    for text, key in zip(told[1:6], ("f1", "ap", "precision", "recall", "auroc"), strict=True):
        assert text == "–" if not row[key] else abs(float(text) - 100 * float(row[key])) <= 0.05 + 1e-9
    assert find(page, "0 label") == "11 labels"  # every word, in any order
    support = [int(line[6]) for line in found_labels(page)[1:]]
    assert support == sorted(support, reverse=True)
    assert find(page, "zebra") == "No label of 20 has “zebra” in its name."
    assert not by_id(page, "find-labels").is_displayed()
    assert find(page, "") == "20 labels"
    assert find(page, "label 00") == "1 label"
    by_id(page, "find-labels").find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert Select(by_id(page, "label")).first_selected_option.text == "label 00"


def test_a_run_without_the_figures_of_its_labels_says_so(page: webdriver.Chrome) -> None:
    choose(page, "WARP (K), seed 1", "k")
    assert by_id(page, "find-status").text.endswith("per_class.csv: missing; run the job again to have it")
    assert not by_id(page, "find").is_enabled()


def test_confusions_lead_to_their_pictures(page: webdriver.Chrome, report: BuiltReport) -> None:
    choose(page, "LSEP (θ), seed 0", "theta")
    arrays, rows = arrays_of(report, "threshold"), spread_rows(160)
    expected = confusions(arrays["predictions"], arrays["targets"], arrays["mask"])
    lines = by_id(page, "confusions").find_elements(By.CSS_SELECTOR, "tbody tr")
    told = [[cell.text for cell in line.find_elements(By.CSS_SELECTOR, "th, td")][:4] for line in lines]
    assert told == [[str(j), str(k), str(n), f"{100 * n / misses:.1f}%"] for j, k, n, misses in expected]
    j, k, *_ = expected[0]
    lines[0].find_element(By.TAG_NAME, "button").click()
    own, true, known = (arrays[name][rows] == 1 for name in ("predictions", "targets", "mask"))
    wanted = (own & ~true & known)[:, j] & (~own & true & known)[:, k]
    assert shown_ids(page) == arrays["image_ids"][rows][wanted].tolist()
    assert by_id(page, "none").is_displayed() == (not wanted.any())
    by_id(page, "pair").click()
    assert len(shown_ids(page)) == 24


def test_the_map_shows_what_is_right_and_each_label(page: webdriver.Chrome, report: BuiltReport) -> None:
    choose(page, "LSEP (θ), seed 0", "theta")
    arrays = arrays_of(report, "threshold")
    own, true, known = (arrays[name] == 1 for name in ("predictions", "targets", "mask"))
    right = ~((own != true) & known).any(1)

    assert by_id(page, "map-title").text.startswith("Map of the test images, by ")

    def points() -> dict[str, int]:
        kinds = page.execute_script(
            "return [...document.querySelectorAll('#explorer-map .point')].map(one => one.classList[1])"
        )
        return {kind: kinds.count(kind) for kind in set(kinds)}

    assert points() == {"right": right.sum(), "failed": (~right).sum()}
    Select(by_id(page, "map-label")).select_by_visible_text("1")
    parts = {"found": own & true, "wrong": own & ~true, "missed": ~own & true, "absent": ~own & ~true}
    assert points() == {name: n for name, part in parts.items() if (n := (part & known)[:, 1].sum())}
    point = page.find_element(By.CSS_SELECTOR, "#explorer-map .pictured")
    point.send_keys(Keys.ENTER)
    assert by_id(page, "large-title").text in arrays["image_ids"][spread_rows(160)]
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    Select(by_id(page, "run")).select_by_index(len(Select(by_id(page, "run")).options) - 1)
    assert not by_id(page, "map-section").is_displayed()  # these runs left no map


def test_a_narrow_window_shows_f1_and_exact_match_first(page: webdriver.Chrome) -> None:
    def heads() -> list[str]:
        found = page.find_elements(By.CSS_SELECTOR, "#data-digits table.results")[0]
        return [head.text.split(" ")[0] for head in found.find_elements(By.CSS_SELECTOR, "th[scope=col]")]

    wide = heads()
    values = first_row(page)
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True},
    )
    narrow = heads()
    assert narrow[:3] == ["method", "F1", wide[6]]
    assert sorted(narrow) == sorted(wide)
    assert first_row(page) == [values[wide.index(name)] for name in narrow]
    hints = page.execute_script(
        "return [...document.querySelectorAll('.overflows')].map(one => getComputedStyle(one, '::after').content)"
    )
    assert any("scroll sideways" in hint for hint in hints)
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert heads() == wide


def first_row(page: webdriver.Chrome) -> list[str]:
    found = page.find_elements(By.CSS_SELECTOR, "#data-digits table.results tbody tr")[0]
    return [cell.text for cell in found.find_elements(By.CSS_SELECTOR, "th, td")]


def test_any_row_can_be_the_reference(page: webdriver.Chrome, report: BuiltReport) -> None:
    details = page.find_element(By.CSS_SELECTOR, "details.differences")
    details.find_element(By.TAG_NAME, "summary").click()
    select = Select(details.find_element(By.TAG_NAME, "select"))
    assert select.first_selected_option.text == best_of(report, "digits")
    select.select_by_visible_text("LSEP (threshold est.)")

    def differences() -> dict[str, float]:
        rows = details.find_elements(By.CSS_SELECTOR, "tbody tr")
        return {
            row.find_element(By.TAG_NAME, "th").text: float(
                row.find_element(By.CSS_SELECTOR, "td:nth-child(6)").get_attribute("data-value") or "nan"
            )
            for row in rows
        }

    against_ours = differences()["WARP (θ)"]
    select.select_by_visible_text("WARP (θ)")
    assert differences()["LSEP (threshold est.)"] == pytest.approx(-against_ours)


@pytest.mark.parametrize("width", [320, 800])
def test_a_narrow_window_scrolls_only_inside_its_tables(page: webdriver.Chrome, width: int) -> None:
    metrics = {"width": width, "height": 700, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.execute_script("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert page.execute_script("return document.documentElement.scrollWidth") <= width


def contrast(first: list[float], second: list[float]) -> float:
    """WCAG 2's contrast ratio of two colours in 0..255."""

    def luminance(colour: list[float]) -> float:
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read_in_both_schemes(page: webdriver.Chrome, scheme: str) -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    try:
        colours = page.execute_script(
            "const parts = (c) => c.match(/[\\d.]+/g).slice(0, 3).map(Number);"
            "const page = parts(getComputedStyle(document.body).backgroundColor);"
            "return [...document.querySelectorAll('h1, h2, p, td, th button, .faint, .chip, a, summary, .std, .paper')]"
            ".map(one => [one.className || one.tagName, parts(getComputedStyle(one).color), page])"
        )
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    dark = sum(colours[0][2]) < 200
    assert dark == (scheme == "dark")
    assert {
        name: round(contrast(text, ground), 2)
        for name, text, ground in colours
        if contrast(text, ground) < 4.5
    } == {}


def test_every_picture_is_drawn_and_described(page: webdriver.Chrome) -> None:
    pictures = page.execute_async_script(
        "const done = arguments[0]; const all = [...document.images];"
        "all.forEach(one => { one.loading = 'eager'; });"
        "Promise.all(all.map(one => one.decode())).then(() => done(all.map(one => [one.naturalWidth, one.alt.length])))"
    )
    assert len(pictures) >= 18 + 24
    assert all(width > 0 and length > 0 for width, length in pictures)


def test_a_table_alone_is_a_page_too(chrome: webdriver.Chrome, report: BuiltReport) -> None:
    chrome.get((report.page.parent / "tables" / "table1_digits.html").as_uri())
    chrome.find_element(By.CSS_SELECTOR, "th:nth-child(6) button").click()
    assert sorted_direction(chrome) == {"descending"}
    assert chrome.get_log("browser") == []
