"""Commands, and finished runs, for the tests of bundles: digit scenes as they are, and own images of a labels.csv."""

from pathlib import Path

import data_trees
import pytest
from jobs import run_job_here
from typer.testing import CliRunner, Result

from lsep_ml import cli

TINY = (
    "model.widths=[4,4]",
    "model.num_features=6",
    "training.epochs=1",
    "fitting.epochs=2",
    "trainer=cpu",
)


def call(*words: object) -> Result:
    """Type `lsep-ml WORDS` in this process; what no net of the program catches is raised."""
    result = CliRunner().invoke(cli.app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = ("data.train=64", "data.val=40", "data.test=50", "data.canvas=24")
    return run_job_here(tmp_path_factory.mktemp("digits"), *TINY, *sizes)[1]


@pytest.fixture(scope="session")
def photo_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos/ and labels.csv."""
    return data_trees.write_csv(tmp_path_factory.mktemp("own") / "csv")


@pytest.fixture(scope="session")
def photo_run(photo_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = ("data=csv", f"data.root={photo_tree}", f"paths.data={photo_tree.parent}", "data.num_workers=0")
    learnt = ("decision=count_est", "fitting.epochs=40", "fitting.optimizer.lr=0.05")
    options = ("transform.resize=[24,24]", *learnt, *data)
    return run_job_here(tmp_path_factory.mktemp("photos"), *TINY, *options)[1]
