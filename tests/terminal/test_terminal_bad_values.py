"""Two hundred bad values over the options and the verbs: each is refused with one message; none is taken."""

from pathlib import Path

import bad_values
import pytest

from lsep_ml.stages.ranges import RANGES, Range


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[bad_values.Case]:
    return bad_values.option_cases(bad_values.own_images(tmp_path_factory.mktemp("data") / "own"))


def test_two_hundred_bad_values_end_with_one_message_each(
    options: list[bad_values.Case], tmp_path: Path
) -> None:
    verbs = bad_values.draw(bad_values.verb_cases(tmp_path / "files"), 125, seed=0)
    count, faults = bad_values.faults(tmp_path, bad_values.draw(options, 75, seed=0), verbs)
    assert count == 200
    assert faults == []


def test_what_is_generated_is_of_every_option_and_every_verb(
    options: list[bad_values.Case], tmp_path: Path
) -> None:
    keys = {case.words[-1].partition("=")[0] for case in options}
    of_numbers = {key for key, kind in RANGES.items() if isinstance(kind, Range) and "*" not in key}
    assert len(of_numbers & keys) > 0.8 * len(
        of_numbers
    )  # all but those of data and losses that are not composed
    verbs = {case.words[0] for case in bad_values.verb_cases(tmp_path / "files")}
    assert verbs >= {
        "check",
        "prepare",
        "tune",
        "apply",
        "report",
        "bundle",
        "predict",
        "export",
        "demo",
        "list",
    }
    drawn = bad_values.draw(options, 75, 0)
    assert len({case.words[-1].partition("=")[0] for case in drawn}) > 70


@pytest.mark.parametrize("word", ["seed=1", "loss=warp", "names.data=x"])
def test_a_value_that_is_taken_is_a_fault(word: str, tmp_path: Path) -> None:
    assert bad_values.try_option(bad_values.Case((*bad_values.SMALL, word)), tmp_path) == "taken"


def test_a_verb_that_does_its_work_is_a_fault(tmp_path: Path) -> None:
    bad_values.hostile_files(tmp_path)
    call = ("tune", str(tmp_path / "good.npz"), "--out", str(tmp_path / "d.json"), "--decisions", "topk")
    assert bad_values.try_verb(bad_values.Case(call)) == "taken"
    assert "does not say" in bad_values.try_verb(bad_values.Case(("tune", "absent.npz"), ("another",)))


def test_an_error_that_nobody_expected_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*words: object) -> None:
        raise KeyError("theta")

    monkeypatch.setattr(bad_values, "build_job", fail)
    assert "KeyError" in bad_values.try_option(bad_values.Case(bad_values.SMALL), tmp_path)
    monkeypatch.setattr("lsep_ml.tuning.compared.read_scores", fail)
    assert "KeyError" in bad_values.try_verb(bad_values.Case(("tune", "x.npz")))
