"""The commands and programs of the pages in docs/, run as they stand; only sizes are made small."""

import re
import shlex
import shutil
from glob import glob
from pathlib import Path

import data_trees
import pytest
from jobs import run_job_here
from omegaconf import OmegaConf
from typer.testing import CliRunner

from lsep_ml import cli

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
SMALL = ("training.epochs=1", "fitting.epochs=1", "trainer=cpu")
DIGITS = (*SMALL, "data.train=64", "data.val=40", "data.test=50", "data.canvas=24", "model.widths=[4,4]")
VOC = (*SMALL, "model=small_cnn", "model.widths=[4,4]", "transform.resize=[24,24]", "data.num_workers=0")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the images and the data set that the pages speak of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("photos", "more-photos"):
        data_trees.write_csv(tmp_path / name, split=False)
    data_trees.write_voc(tmp_path / "data" / "voc2007")
    shutil.copytree(tmp_path / "photos" / "photos", tmp_path / "new-photos")
    (tmp_path / "new-photos" / "000.jpg").rename(tmp_path / "new-photos" / "a.jpg")
    return tmp_path


def jobs(words: list[str]) -> list[list[str]]:
    """The jobs of a command line of run.py: its sweep over one key, or the first of a shipped sweep."""
    if words[0] != "-m":
        return [words]
    sweep, *given = (word.split("=", 1) for word in words[1:])
    if sweep[0] != "experiment":
        return [[f"{sweep[0]}={value}", *words[2:]] for value in sweep[1].split(",")]
    shipped = OmegaConf.load(ROOT / "conf" / "experiment" / f"{sweep[1]}.yaml")
    params = {key: str(values) for key, values in shipped.hydra.sweeper.params.items()} | dict(given)
    # the first job; that all compose is a test of its own
    return [[words[1], *(f"{key}={values.split(',')[0]}" for key, values in params.items())]]


def run_line(line: str, place: Path) -> None:
    words = [
        found
        for word in shlex.split(line, comments=True)
        for found in (glob(word) if word.endswith("/*") else [word])
    ]
    if words[:2] == ["python", "run.py"]:
        small = SMALL if {"data=csv", "data=own"} & set(words) else VOC if "data=voc2007" in words else DIGITS
        for overrides in jobs(words[2:]):
            run_job_here(place / "outputs", f"paths.data={place / 'data'}", *small, *overrides)
        return
    assert words[:3] == ["python", "-m", "lsep_ml"], line
    done = CliRunner().invoke(cli.app, words[3:])
    assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception!r}"


@pytest.mark.filterwarnings("ignore::lsep_ml.training.fitting.DecisionWarning")  # after one epoch
@pytest.mark.parametrize(
    "page", ["train-on-your-own-images", "choose-a-decision", "add-a-loss", "reproduce-the-paper"]
)
def test_a_page_does_what_it_says(page: str, place: Path) -> None:
    blocks = re.findall(r"```(bash|python)\n(.*?)```", (DOCS / f"{page}.md").read_text(), re.DOTALL)
    assert len(blocks) >= 2
    for kind, text in blocks:
        if kind == "bash":
            for line in text.splitlines():
                run_line(line, place)
            continue
        if name := re.match(r"# file: (\S+)\n", text):
            (place / name[1]).write_text(text)
        exec(compile(text, page, "exec"), {})


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
    headings = re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", page.read_text())) <= anchors
