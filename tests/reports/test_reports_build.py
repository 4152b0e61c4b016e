"""The whole report: its files, what it says of runs it cannot use, and that its page fetches nothing."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from report_runs import edit_record, write_failure, write_run, write_sweep

from lsep_ml.reports import BuiltReport, ReportError, build_report
from lsep_ml.reports.group_report import _suspects
from lsep_ml.reports.provenance import command, sweeps
from lsep_ml.reports.records import find_runs

FIGURES = (
    "figure2_class_f1",
    "figure3_precision_recall",
    "figure4_thresholds",
    "figure5_label_sets",
    "training",
    "threshold_search",
    "labels_per_image",
    "calibration",
    "suspects",
)


def messages(report: BuiltReport) -> str:
    return "\n".join(f"{problem.path}: {problem.message}" for problem in report.problems)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without figures, for tests of other things: most of a small report's time goes there."""
    monkeypatch.setattr("lsep_ml.reports.group_report.draw_group", lambda files: [])


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> BuiltReport:
    folder = tmp_path_factory.mktemp("runs")
    write_sweep(folder, seeds=[0, 1], images=200, intervals=False)
    write_run(folder, loss="bce", images=200, intervals=False)
    write_run(folder, data="coco", model="vgg16", labels=25, unknown=0.1, colour=True)
    write_failure(folder, "ValueError: a </script> in the message", ["loss=warp", "paths.output=/home/me"])
    return build_report(folder, replicates=200)


def test_every_file_is_there(report: BuiltReport) -> None:
    out = report.page.parent
    assert report.page == out / "report.html"
    for group in ("digits", "coco"):
        for table in ("table1", "table2", "all"):
            for kind in ("html", "md", "csv", "tex"):
                assert (out / "tables" / f"{table}_{group}.{kind}").stat().st_size > 200
        for figure in FIGURES:
            for kind in ("png", "svg"):
                assert (out / "figures" / f"{group}_{figure}.{kind}").stat().st_size > 1000
    origins = (out / "tables" / "runs.csv").read_text().splitlines()
    assert len(origins) == 1 + len(report.runs) == 43
    assert "python run.py data=digits model=small_cnn loss=bce decision=thresh_est seed=0" in "\n".join(
        origins
    )
    assert report.problems == []


def test_texts_of_suspects_are_marked_for_a_spreadsheet(monkeypatch: pytest.MonkeyPatch) -> None:
    suspect = SimpleNamespace(row=0, label=0, present=True, belief=0.25)
    files = SimpleNamespace(
        label_names=["=x"], image_ids=lambda run: ["@a.png"], score_runs=lambda: {"lsep": [None]},
        views={"lsep": SimpleNamespace(suspects=[suspect])},
    )  # fmt: skip
    monkeypatch.setattr("lsep_ml.reports.group_report.suspecting_loss", lambda files: "lsep")
    assert _suspects(files).splitlines()[1] == "'@a.png,0,'=x,present,0.2500"  # type: ignore[arg-type]


def test_the_page_fetches_nothing(report: BuiltReport) -> None:
    text = report.page.read_text()
    assert re.findall(r"src=\"(?!data:)[^\"]*", text) == []
    # a link to a file beside the page is opened by a reader, not fetched; nothing but links may point outside
    assert re.findall(r"<(?!a )[^>]* href=\"(?!data:|#)[^\"]*", text) == []
    assert re.findall(r"href=\"(?:[a-z]+:|/)(?<!data:)[^\"]*", text) == []
    assert re.findall(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text) == []
    assert "default-src 'none'" in text
    assert str(report.page.parent.parent.parent) not in text  # no path of the machine


def test_the_page_names_what_failed_and_escapes_it(report: BuiltReport) -> None:
    text = report.page.read_text()
    assert "1 failed job" in text
    assert "a &lt;/script&gt; in the message" in text
    assert "(loss=warp)" in text  # and not where its files lie


@pytest.mark.usefixtures("plain")
def test_a_second_build_gives_the_same_tables(report: BuiltReport, tmp_path: Path) -> None:
    again = build_report(report.page.parent.parent, tmp_path, replicates=200)
    for file in sorted((report.page.parent / "tables").iterdir()):
        assert (again.page.parent / "tables" / file.name).read_text() == file.read_text()


def test_runs_without_their_arrays_stay_in_the_tables(tmp_path: Path) -> None:
    missing, damaged, shapes, whole = (
        write_run(tmp_path, loss=loss) for loss in ("warp", "bpmll", "ranking", "lsep")
    )
    (missing / "predictions.npz").unlink()
    (damaged / "predictions.npz").write_bytes(b"PK\x03\x04 not a zip")
    arrays = dict(np.load(shapes / "predictions.npz"))
    np.savez(shapes / "predictions.npz", **{**arrays, "predictions": arrays["predictions"][:, :3]})
    (whole / "validation.npz").unlink()
    (whole / "thumbnails.npz").unlink()
    (whole / "history.csv").write_text("stage,epoch,train_loss\nprediction,one,two\n")
    report = build_report(tmp_path, replicates=100)
    said = messages(report)
    assert f"{missing}: predictions.npz: missing" in said
    assert f"{damaged}: predictions.npz: damaged" in said
    assert f"{shapes}: predictions.npz: predictions is uint8 (120, 3), not 0/1 integers (120, 10)" in said
    assert f"{whole}: validation.npz: missing" in said
    assert f"{whole}: thumbnails.npz: missing" in said
    assert f"{whole}: history.csv: unreadable" in said
    table = (report.page.parent / "tables" / "all_digits.md").read_text()
    assert all(name in table for name in ("WARP", "BP-MLL", "Ranking", "LSEP"))
    assert (report.page.parent / "figures" / "digits_figure3_precision_recall.png").exists()
    assert not (report.page.parent / "figures" / "digits_threshold_search.png").exists()


@pytest.mark.usefixtures("plain")
def test_no_run_has_predictions(tmp_path: Path) -> None:
    (write_run(tmp_path) / "predictions.npz").unlink()
    report = build_report(tmp_path, replicates=100)
    assert "No figures" in report.page.read_text()
    assert 'id="explorer"' not in report.page.read_text()


@pytest.mark.usefixtures("plain")
def test_a_record_that_its_predictions_contradict_is_left_out(tmp_path: Path) -> None:
    edited, _ = write_run(tmp_path), write_run(tmp_path, seed=1)
    metrics = json.loads((edited / "result.json").read_text())["metrics"]
    metrics["test"]["exact_match"] = 0.99
    edit_record(edited, metrics=metrics)
    report = build_report(tmp_path, replicates=100)
    assert [run.seed for run in report.runs] == [1]
    assert "result.json says test exact_match = 0.990000, predictions.npz gives" in messages(report)


@pytest.mark.usefixtures("plain")
def test_labels_in_another_order_are_noticed(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    names = json.loads((folder / "result.json").read_text())["label_names"]
    edit_record(folder, label_names=names[::-1])
    report = build_report(tmp_path, replicates=100)
    assert "its labels are 10 (0, 1, 2, ...), result.json's 10 (9, 8, 7, ...)" in messages(report)


@pytest.mark.usefixtures("plain")
def test_other_images_under_the_same_split_hash_are_not_paired(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path, seed=seed)
    folder = write_run(tmp_path, loss="warp")
    arrays = dict(np.load(folder / "predictions.npz"))
    arrays["image_ids"] = arrays["image_ids"][::-1]
    np.savez(folder / "predictions.npz", **arrays)
    report = build_report(tmp_path, replicates=100)
    assert "holds other images, targets or mask than the other runs of split" in messages(report)
    assert "WARP" not in (report.page.parent / "tables" / "comparisons_digits.csv").read_text()


@pytest.mark.usefixtures("plain")
def test_pickled_arrays_are_not_loaded(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    arrays = dict(np.load(folder / "predictions.npz"))
    arrays["image_ids"] = arrays["image_ids"].astype(object)
    np.savez(folder / "predictions.npz", **arrays)
    report = build_report(tmp_path, replicates=100)
    assert "predictions.npz: damaged (Object arrays cannot be loaded" in messages(report)


def test_commands_do_not_say_where_files_lie(tmp_path: Path) -> None:
    folder = write_run(tmp_path, settings={"training.epochs": 3, "data.root": "/home/somebody"})
    overrides = folder / ".hydra" / "overrides.yaml"
    overrides.write_text(
        overrides.read_text() + "- paths.output=/home/somebody\n- 'decision.hidden=[10, 5]'\n"
    )
    other = write_run(tmp_path, seed=1)
    (other / ".hydra" / "overrides.yaml").write_text("{half: [")
    bare = write_run(tmp_path, seed=2)
    shutil.rmtree(bare / ".hydra")
    commands = {run.seed: command(run) for run in find_runs(tmp_path).runs}
    expected = (
        "python run.py data=digits model=small_cnn loss=lsep decision=thresh_est seed=0 training.epochs=3"
    )
    assert commands[0] == expected + " 'decision.hidden=[10, 5]'"
    assert commands[1] == commands[2] == "not recorded"


def test_a_table_says_where_its_numbers_come_from(report: BuiltReport, tmp_path: Path) -> None:
    last = (report.page.parent / "tables" / "table2_digits.md").read_text().splitlines()[-1]
    sweep = "decision=topk,threshold,count_est,thresh_est seed=0,1"
    assert f"8 runs, by `python run.py -m data=digits model=small_cnn loss=lsep {sweep}`." in last
    assert "Date: 2026-11-23 to 2026-11-24. Hardware: 2 CPU cores. Split: " in last
    assert "torch 2.15.0" in last
    folders = [write_run(tmp_path, decision=decision) for decision in ("topk", "threshold", "count_est")]
    overrides = [folder / ".hydra" / "overrides.yaml" for folder in folders]
    for file in overrides[:2]:
        file.write_text("- experiment=table1_digits\n" + file.read_text())
    shutil.rmtree(folders[2] / ".hydra")
    runs = find_runs(tmp_path).runs
    rest = "data=digits model=small_cnn loss=lsep"
    expected = f"python run.py -m experiment=table1_digits {rest} decision=threshold,topk seed=0"
    assert sweeps(runs) == [expected]
    assert sweeps([run for run in runs if run.decision == "count_est"]) == []


@pytest.mark.usefixtures("plain")
def test_images_that_have_moved_are_still_shown(tmp_path: Path) -> None:
    write_run(tmp_path, settings={"data.root": "/gone"}, colour=True)
    report = build_report(tmp_path, replicates=100)
    assert report.problems == []
    assert "data:image/webp;base64," in report.page.read_text()


def test_awkward_names_reach_every_format(tmp_path: Path) -> None:
    folder = write_run(tmp_path, loss="</script><b>|&", labels=3)
    names = ["$5", "</script>", "日 “quoted” \\ {x}"]
    edit_record(folder, label_names=names)
    for file in ("predictions.npz", "validation.npz"):
        arrays = dict(np.load(folder / file))
        np.savez(folder / file, **{**arrays, "label_names": np.array(names)})
    with pytest.warns(UserWarning, match="Glyph"):  # the plots' font has no Japanese
        report = build_report(tmp_path, replicates=100)
    text = report.page.read_text()
    assert report.problems == []
    assert "</script><b>" not in text
    assert text.count("</script>") == 7


@pytest.mark.usefixtures("plain")
def test_nothing_usable_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"no result\.json below it"):
        build_report(tmp_path)
    folder = write_run(tmp_path)
    shutil.copytree(folder, tmp_path / "other")
    metrics = json.loads((folder / "result.json").read_text())["metrics"]
    metrics["val"]["f1"] = metrics["test"]["map"] = 0.5
    edit_record(folder, metrics=metrics)
    with pytest.raises(ReportError, match=r"no run can be used; .*the same identity"):
        build_report(tmp_path, replicates=100)
    with pytest.raises(ReportError, match=r"replicates=5 \(at least 100\)"):
        build_report(tmp_path, replicates=5)


@pytest.mark.usefixtures("plain")
def test_thousands_of_runs(tmp_path: Path) -> None:
    """Far more runs than the page explores: none is lost, and the page stays small."""
    folder = write_run(tmp_path, decision="topk", images=20, labels=3, intervals=False)
    record = json.loads((folder / "result.json").read_text())
    (folder / "thumbnails.npz").unlink()
    for number in range(1, 2000):
        copy = tmp_path / "many" / f"{number:04d}"
        copy.mkdir(parents=True)
        for file in ("predictions.npz", "validation.npz", "history.csv"):
            (copy / file).hardlink_to(folder / file)
        (copy / "result.json").write_text(json.dumps(record | {"seed": number, "identity": f"{number:016d}"}))
    report = build_report(tmp_path, replicates=100)
    text = report.page.read_text()
    assert len(report.runs) == 2000
    assert "2000 runs" in text
    assert "1940 further runs of digits are not in this page" in text
    assert len(text) < 5_000_000


def test_reports_need_neither_torch_nor_lightning() -> None:
    code = "import sys, lsep_ml.reports.report; print(*{'torch', 'pytorch_lightning', 'hydra'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.split() == []
