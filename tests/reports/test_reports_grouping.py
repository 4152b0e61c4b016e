"""What may be averaged and what may not: protocols, networks, settings, seeds, copies and conflicts."""

import json
import shutil
from pathlib import Path

from report_runs import edit_record, write_run, write_sweep

from lsep_ml.reports.grouping import RunGroup, group_runs
from lsep_ml.reports.records import LeftOut, find_runs


def groups_below(folder: Path) -> tuple[list[RunGroup], list[LeftOut]]:
    return group_runs(find_runs(folder).runs)


def test_seeds_make_one_row_and_nothing_else_does(tmp_path: Path) -> None:
    write_sweep(tmp_path, losses=["lsep", "warp"], decisions=["topk", "thresh_est"], seeds=[2, 0, 1])
    [group], problems = groups_below(tmp_path)
    assert problems == []
    assert [(*row.method, row.seeds, row.variant) for row in group.rows] == [
        ("warp", "topk", (0, 1, 2), ""),
        ("warp", "thresh_est", (0, 1, 2), ""),
        ("lsep", "topk", (0, 1, 2), ""),
        ("lsep", "thresh_est", (0, 1, 2), ""),
    ]
    assert set(group.chosen.values()) == set(group.rows)


def test_another_protocol_is_never_averaged(tmp_path: Path) -> None:
    for difficult in ("negative", "ignore"):
        for seed in (0, 1):
            write_run(tmp_path, data="voc2007", difficult=difficult, seed=seed)
    write_run(tmp_path, data="voc2007", difficult="negative", data_seed=1)
    groups, [problem] = groups_below(tmp_path)
    assert sorted(len(row.runs) for group in groups for row in group.rows) == [1, 2, 2]
    assert len({group.name for group in groups}) == 3
    assert all(group.name.startswith("voc2007-") for group in groups)
    for word in (
        "voc2007",
        "3 protocols",
        "not averaged",
        "split_hash",
        "data.difficult",
        "negative",
        "data.seed",
    ):
        assert word in problem.message


def test_image_counts_are_protocol(tmp_path: Path) -> None:
    write_run(tmp_path)
    other = write_run(tmp_path, seed=1)
    record = json.loads((other / "result.json").read_text())
    record["counts"]["images"]["train"] += 1
    edit_record(other, counts=record["counts"])
    groups, [problem] = groups_below(tmp_path)
    assert len(groups) == 2
    assert "images.train 240 / 241" in problem.message


def test_networks_have_tables_of_their_own(tmp_path: Path) -> None:
    write_run(tmp_path)
    write_run(tmp_path, model="timm", settings={"model.name": "resnet18"})
    write_run(tmp_path, model="timm", settings={"model.name": "resnet50"})
    groups, problems = groups_below(tmp_path)
    assert [group.model for group in groups] == ["small_cnn", "timm resnet18", "timm resnet50"]
    assert [group.name for group in groups] == [
        "digits-small_cnn",
        "digits-timm_resnet18",
        "digits-timm_resnet50",
    ]
    assert problems == []


def test_settings_make_rows_and_the_paper_table_shows_the_one_of_most_seeds(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path, seed=seed)
    write_run(tmp_path, settings={"training.epochs": 50})
    [group], _ = groups_below(tmp_path)
    assert sorted(row.variant for row in group.rows) == ["training.epochs=50", "training.epochs=6"]
    assert group.chosen["lsep", "thresh_est"].seeds == (0, 1)


def test_of_as_many_seeds_validation_chooses(tmp_path: Path) -> None:
    folders = [write_run(tmp_path, settings={"optimizer.lr": lr}) for lr in (0.1, 0.01, 0.001)]
    for folder, val in zip(folders, (0.3, 0.9, 0.6), strict=True):
        record = json.loads((folder / "result.json").read_text())
        record["metrics"]["val"]["f1"] = val
        edit_record(folder, metrics=record["metrics"])
    [group], _ = groups_below(tmp_path)
    assert group.chosen["lsep", "thresh_est"].variant == "optimizer.lr=0.01"


def test_where_data_lie_and_what_computes_is_no_setting(tmp_path: Path) -> None:
    write_run(tmp_path)
    elsewhere = {
        "data.root": "/elsewhere",
        "data.cache": "/cache",
        "data.num_workers": 8,
        "trainer.devices": 4,
        "trainer.accelerator": "gpu",
    }
    write_run(tmp_path, seed=1, settings=elsewhere)
    [group], _ = groups_below(tmp_path)
    assert [row.seeds for row in group.rows] == [(0, 1)]


def test_a_run_of_an_earlier_version_is_averaged_with_one_that_leaves_later_options_alone(
    tmp_path: Path,
) -> None:
    write_run(tmp_path, seed=0)
    for seed, mixup in ((1, 0.0), (2, 0.5)):
        folder = write_run(tmp_path, seed=seed)
        record = json.loads((folder / "result.json").read_text())
        record["config"]["training"] = {**record["config"].get("training", {}), "mixup": mixup}
        record["config"]["label_sets"] = {"min_labels": 0, "max_labels": None, "groups": None}
        edit_record(folder, config=record["config"])
    [group], _ = groups_below(tmp_path)
    assert sorted(row.seeds for row in group.rows) == [(0, 1), (2,)]


def test_a_copy_counts_once(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    shutil.copytree(folder, tmp_path / "digits" / "zz-copy")
    [group], [problem] = groups_below(tmp_path)
    assert [len(row.runs) for row in group.rows] == [1]
    assert problem.path.name == "zz-copy"
    assert "a copy of" in problem.message


def test_two_runs_of_one_identity_with_different_numbers_are_both_refused(tmp_path: Path) -> None:
    folder, other = write_run(tmp_path), tmp_path / "digits" / "zz"
    kept = write_run(tmp_path, seed=1)
    shutil.copytree(folder, other)
    record = json.loads((other / "result.json").read_text())
    record["metrics"]["test"]["f1"] = 0.123
    edit_record(other, metrics=record["metrics"])
    [group], [problem] = groups_below(tmp_path)
    assert [run.folder for row in group.rows for run in row.runs] == [kept]
    assert f"the same identity {record['identity']} as {other}" in problem.message
    assert "test f1 is" in problem.message
    assert "0.123" in problem.message
    assert "neither is used" in problem.message


def test_damaged_counts_and_configuration_do_not_stop_the_rest(tmp_path: Path) -> None:
    write_run(tmp_path)
    edit_record(write_run(tmp_path, seed=1), counts={"images": [1, 2]}, config={"data": "coco", "model": 3})
    groups, _ = groups_below(tmp_path)
    assert sum(len(row.runs) for group in groups for row in group.rows) == 2


def test_names_fit_for_files_stay_unique(tmp_path: Path) -> None:
    write_run(tmp_path, data="my data/a")
    write_run(tmp_path, data="my data_a")
    groups, _ = groups_below(tmp_path)
    assert {group.name for group in groups} == {"my_data_a", "my_data_a-2"}
