"""What `convert` writes is read back equal."""

import numpy as np
import pytest
from data_trees import write_image
from typer.testing import CliRunner

from lsep_ml.cli import app
from lsep_ml.data.sources.own import own_annotations

N = 12


def written(root, unknown):
    lines = ["image,cat,dog,patient,split"]
    for number in range(N):
        write_image(root / f"images/{number}.png", seed=number)
        value = "" if unknown and number == 4 else number % 2
        lines.append(
            f"{number}.png,{value},{int(number % 3 == 0)},p{number // 2},{('train', 'val', 'test')[number % 3]}"
        )
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("to", ["csv", "jsonl", "coco_json"])
@pytest.mark.parametrize("unknown", [False, True])
def test_read_back_equal(tmp_path, to, unknown):
    root = written(tmp_path, unknown)
    first = own_annotations(root)
    name = {"csv": "new.csv", "jsonl": "new.jsonl", "coco_json": "new.json"}[to]
    command = ["convert", str(root), "--to", to, "--out", str(root / name)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    (root / "labels.csv").unlink()
    again = own_annotations(root)
    assert again.label_names == first.label_names
    assert again.image_ids.tolist() == first.image_ids.tolist()
    assert np.array_equal(again.targets, first.targets)
    assert (again.mask is None) == (first.mask is None) == (not unknown)
    assert first.mask is None or np.array_equal(again.mask, first.mask)
    if to != "coco_json":
        assert again.split_of.tolist() == first.split_of.tolist()
        assert np.array_equal(again.groups[:, None] == again.groups, first.groups[:, None] == first.groups)
    refused = CliRunner().invoke(app, command)
    assert "exists; name another file" in str(refused.exception)


def test_another_format_is_refused(tmp_path):
    done = CliRunner().invoke(
        app, ["convert", str(written(tmp_path, False)), "--to", "xml", "--out", str(tmp_path / "x")]
    )
    assert "--to xml: csv, jsonl, coco_json" in str(done.exception)
