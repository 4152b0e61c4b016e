"""rates=search: what is tried and chosen, the bits of the rate given, a killed search, and how a rate was chosen."""

import itertools
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jobs import compose_here, run_job_here
from small_trainings import Killed, kill_at

from lsep_ml.stages import rates
from lsep_ml.stages.job import build_job
from lsep_ml.stages.plan import plan
from lsep_ml.stages.rates import FIRST, WIDEST, best_rate, next_step, rate_at
from lsep_ml.store.keys import NETWORKS, RATES, identity_of
from lsep_ml.store.sections import RUN_SECTIONS, config_sections
from lsep_ml.training.label_prediction import LabelPrediction

TINY = (
    "data.train=64",
    "data.val=24",
    "data.test=20",
    "data.canvas=24",
    "model.widths=[4,4]",
    "model.num_features=6",
    "training.batch_size=16",
    "training.epochs=2",
    "decision=topk",
    "trainer=cpu",
    "loss=bce",
)
SEARCH = (*TINY, "rates=search", "rates.search.epochs=1")
EPOCH = 4  # steps


def walk(curve: Callable[[int], float]) -> dict[int, float]:
    """All that a search tries where `curve` gives the mAP of a half decade."""
    maps: dict[int, float] = {}
    while (step := next_step(maps)) is not None:
        assert step not in maps
        maps[step] = curve(step)
    return maps


@given(st.integers(WIDEST[0], WIDEST[1]), st.lists(st.floats(0.001, 0.1), min_size=20, max_size=20))
def test_a_curve_with_one_top_is_climbed_to_it(top: int, falls: list[float]) -> None:
    """Whatever the curve falls by on either side: the top is found, and both its neighbours were tried."""
    maps = walk(lambda step: 0.9 - sum(falls[: abs(step - top)]))
    assert best_rate(maps) == top
    assert list(maps)[:3] == list(FIRST)
    assert all(step in maps for step in (top - 1, top + 1) if WIDEST[0] <= step <= WIDEST[1])
    assert all(WIDEST[0] <= step <= WIDEST[1] for step in maps)


@given(st.lists(st.one_of(st.floats(0, 1), st.just(float("-inf"))), min_size=17, max_size=17))
def test_any_search_ends_and_its_winner_has_neighbours(values: list[float]) -> None:
    maps = walk(lambda step: values[step - WIDEST[0]])
    best = best_rate(maps)
    assert maps[best] == max(maps.values())
    assert all(step in maps for step in (best - 1, best + 1) if WIDEST[0] <= step <= WIDEST[1])


def test_the_edge_is_widened_and_ties_go_to_the_smaller_rate() -> None:
    assert list(walk(lambda step: -abs(step))) == [0, -2, 2, -1, 1]
    assert list(walk(lambda step: -abs(step - 5))) == [0, -2, 2, 4, 6, 3, 5]
    assert list(walk(lambda step: float(step))) == [0, -2, 2, 4, 6, 8, 7]
    assert list(walk(lambda step: -float(step)))[:6] == [0, -2, 2, -4, -6, -8]
    assert best_rate(walk(lambda step: 0.5)) == WIDEST[0]
    assert best_rate({0: 0.5, -1: 0.5, 1: 0.4}) == -1


def test_rates_have_two_digits_and_the_given_one_is_itself() -> None:
    assert [rate_at(0.05, step) for step in (-2, -1, 0, 1, 2)] == [0.005, 0.016, 0.05, 0.16, 0.5]
    assert rate_at(0.123456, 0) == 0.123456


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rates")


Run = tuple[dict[str, Any], Path]


@pytest.fixture(scope="module")
def searched(output: Path) -> Run:
    return run_job_here(output, *SEARCH)


def state(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(folder / "checkpoint.ckpt", weights_only=True)["state_dict"]
    return found


def test_a_record_says_what_was_tried_and_chosen(output: Path, searched: Run) -> None:
    rate = searched[0]["rate"]
    assert rate["chosen"] == "search"
    assert rate["epochs"] == 1
    given_rate = compose_here(output, *TINY)[0].optimizer.lr
    assert [each["lr"] for each in rate["tried"][:3]] == [given_rate, given_rate / 10, given_rate * 10]
    best = max(rate["tried"], key=lambda each: (each["map"], -each["lr"]))
    assert (rate["lr"], rate["map"]) == (best["lr"], best["map"])
    assert searched[0]["config"]["optimizer"]["lr"] == rate["lr"]
    assert searched[0]["seconds"]["rates"] == pytest.approx(
        sum(t["seconds"] for t in rate["tried"]), abs=0.01
    )
    [entry] = (output / "store" / RATES).glob("*/entry.json")
    assert entry.parent.name == searched[0]["stored"][RATES]
    assert not list((output / "store" / RATES).glob("*.kept"))


def test_each_try_is_a_short_training_at_that_rate(searched: Run, tmp_path: Path) -> None:
    for each in searched[0]["rate"]["tried"][:2]:
        own = (*TINY, "training.epochs=1", f"optimizer.lr={each['lr']}")
        record, folder = run_job_here(tmp_path, *own)
        history = (folder / "history.csv").read_text().splitlines()
        row = dict(zip(history[0].split(","), history[1].split(","), strict=True))
        assert float(row["val_map"]) == each["map"]
        assert record["rate"] == {"chosen": "given", "lr": each["lr"]}


def test_the_training_is_that_of_the_rate_given(searched: Run, tmp_path: Path) -> None:
    lr = searched[0]["rate"]["lr"]
    record, folder = run_job_here(tmp_path, *TINY, f"rates.sgd={lr}")
    assert record["identity"] == searched[0]["identity"]
    assert record["metrics"] == searched[0]["metrics"]
    ours, theirs = state(folder), state(searched[1])
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_a_second_run_finds_the_search(output: Path, searched: Run, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        record, _ = run_job_here(output, *SEARCH, "decision=threshold")
    assert record["reused"] == {"prediction": True, "extraction": True, "rates": True}
    assert record["rate"] == searched[0]["rate"]
    assert "was searched before" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        again, _ = run_job_here(output, *SEARCH)
    assert again == searched[0]
    assert "finished before" in caplog.text


def test_the_test_split_has_no_part_in_it(searched: Run, tmp_path: Path) -> None:
    record, _ = run_job_here(tmp_path, *SEARCH, "data.test=30")
    found = [[(t["lr"], t["map"]) for t in one["rate"]["tried"]] for one in (record, searched[0])]
    assert found[0] == found[1]
    assert record["metrics"]["test"] != searched[0]["metrics"]["test"]


def test_validation_alone_chooses(searched: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    curve = itertools.chain([0.3, 0.2, 0.9, 0.1, 0.95], itertools.repeat(0.0))
    original = rates.fit_or_continue

    def fitted(*args: Any, **options: Any) -> dict[str, Any]:
        facts = original(*args, **options)
        return {**facts, "validation": {"map": next(curve)}}

    monkeypatch.setattr(rates, "fit_or_continue", fitted)
    record, _ = run_job_here(tmp_path, *SEARCH)
    given_rate = record["rate"]["tried"][0]["lr"]
    assert record["rate"]["lr"] == rate_at(given_rate, 1)
    assert record["rate"]["map"] == 0.95
    assert [t["map"] for t in record["rate"]["tried"]] == [0.3, 0.2, 0.9, 0.1, 0.95]


@pytest.mark.parametrize("call", [EPOCH - 1, 3 * EPOCH + 2])
def test_a_killed_search_continues_to_the_same_end(
    searched: Run, tmp_path: Path, call: int, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.MonkeyPatch.context() as patch:

        def kill(module: LabelPrediction) -> None:
            raise Killed

        kill_at(patch, "training_step", call, kill)
        with pytest.raises(Killed):
            run_job_here(tmp_path, *SEARCH, "checkpoint.every_n_steps=1")
    unfinished = json.loads(next((tmp_path / "runs").rglob("unfinished.json")).read_text())
    assert unfinished == {RATES: searched[0]["stored"][RATES]}
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.INFO):
        steps: list[int] = []
        original = LabelPrediction.training_step

        def counted(self: LabelPrediction, *args: Any) -> Any:
            steps.append(1)
            return original(self, *args)

        patch.setattr(LabelPrediction, "training_step", counted)
        record, folder = run_job_here(tmp_path, *SEARCH, "checkpoint.every_n_steps=1")
    assert "Continuing to train" in caplog.text
    tries = len(record["rate"]["tried"])
    assert len(steps) <= EPOCH * (tries + 2) - (call - 2)  # those of before are not trained again
    without = [
        [{k: v for k, v in each.items() if k != "seconds"} for each in one["rate"]["tried"]]
        for one in (record, searched[0])
    ]
    assert without[0] == without[1]
    assert record["identity"] == searched[0]["identity"]
    assert all(torch.equal(value, state(folder)[name]) for name, value in state(searched[1]).items())


UNBOUNDED = (*SEARCH, "loss=bpmll", "trainer.gradient_clip_val=null", "rates.sgd=3")


@pytest.fixture(scope="module")
def diverging(output: Path) -> list[dict[str, Any]]:
    tried: list[dict[str, Any]] = run_job_here(output, *UNBOUNDED)[0]["rate"]["tried"]
    return tried


def test_a_rate_that_diverges_is_never_chosen(output: Path, diverging: list[dict[str, Any]]) -> None:
    diverged = [each for each in diverging if each["map"] is None]
    assert {3, 30} <= {each["lr"] for each in diverged}
    assert all("loss=bpmll" in each["error"] for each in diverged)
    rate = run_job_here(output, *UNBOUNDED)[0]["rate"]
    assert rate["lr"] not in {each["lr"] for each in diverged}
    assert rate["map"] == max(each["map"] or 0 for each in diverging)


def test_two_processes_search_together(diverging: list[dict[str, Any]], tmp_path: Path) -> None:
    """Every try is trained by both, and both see where one diverges."""
    two = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    record, _ = run_job_here(tmp_path, *UNBOUNDED, *two)
    for ours, theirs in zip(record["rate"]["tried"][:3], diverging[:3], strict=True):
        assert ours["lr"] == theirs["lr"]
        assert (ours["map"] is None) == (theirs["map"] is None)
        assert ours["map"] == (theirs["map"] and pytest.approx(theirs["map"], abs=1e-3))


def test_every_rate_diverging_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **options: Any) -> dict[str, Any]:
        raise FloatingPointError("the loss became nan; lower optimizer.lr")

    monkeypatch.setattr(rates, "fit_or_continue", broken)
    with pytest.raises(FloatingPointError, match=r"loss=bce diverged at every rate .*: the loss became nan"):
        run_job_here(tmp_path, *SEARCH)


def test_the_best_at_the_end_of_all_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "WIDEST", (-2, 2))
    values = iter([0.1, 0.2, 0.3, 0.1, 0.1])

    def fitted(*args: Any, **options: Any) -> dict[str, Any]:
        return {"validation": {"map": next(values)}, "epoch": 1, "seconds": 1.0}

    monkeypatch.setattr(rates, "fit_or_continue", fitted)
    record, _ = run_job_here(tmp_path, *SEARCH)
    assert any("lies at the end of what is tried" in warning for warning in record["warnings"])


def test_a_probe_by_sgd_is_searched_too(tmp_path: Path) -> None:
    record, _ = run_job_here(tmp_path, *SEARCH, "training=probe", "training.epochs=2", "training.solver=sgd")
    assert record["rate"]["chosen"] == "search"
    assert len(record["rate"]["tried"]) >= 5


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (("training=probe",), "a probe by the solver has no learning rate"),
        (("optimizer.lr=0",), "begins at optimizer.lr"),
        (("rates.search.epochs=0",), r"rates\.search\.epochs=0: expected a whole number at least 1"),
    ],
)
def test_a_search_that_cannot_be_is_refused(tmp_path: Path, overrides: tuple[str, ...], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        build_job(compose_here(tmp_path, *SEARCH, *overrides)[0])


def test_what_is_no_search_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="take rates=search"):
        build_job(compose_here(tmp_path, *TINY, "rates.search=true")[0])


def test_given_rates_leave_every_identity_as_it_was(tmp_path: Path) -> None:
    config = compose_here(tmp_path, *TINY)[0]
    assert config_sections(config, RUN_SECTIONS)["rates"] == {}
    assert config_sections(compose_here(tmp_path, *SEARCH)[0], RUN_SECTIONS)["rates"] == {
        "search": {"epochs": 1}
    }
    assert compose_here(tmp_path, *SEARCH)[1] != compose_here(tmp_path, *TINY)[1]
    found = identity_of(build_job(compose_here(tmp_path, *SEARCH)[0]).made_by)
    assert found == identity_of(build_job(config).made_by)


def test_a_plan_says_that_it_searches(
    output: Path, searched: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        config, folder = compose_here(tmp_path, *SEARCH)
        plan(build_job(config), folder)
        config, folder = compose_here(output, *SEARCH, "decision=zero")
        plan(build_job(config), folder)
    assert "its rate is searched in at least 5 trainings of 1 epochs, then 2 epochs" in caplog.text
    assert "its rate is in the store" in caplog.text
    assert NETWORKS not in [path.name for path in (tmp_path / "store").glob("*")]


@pytest.mark.parametrize(
    ("overrides", "rate"),
    [
        ((), {"chosen": "tuned", "lr": 0.05}),
        (("loss=bce",), {"chosen": "other", "of": "lsep", "lr": 0.05}),
        (("loss=warp",), {"chosen": "tuned", "lr": 0.001}),
        (("optimizer=adam",), {"chosen": "default", "lr": 0.001}),
        (("data=csv",), {"chosen": "default", "lr": 0.02}),
        (("rates.sgd=0.3",), {"chosen": "given", "lr": 0.3}),
        (("optimizer.lr=0.3",), {"chosen": "given", "lr": 0.3}),
        (("training=probe",), {"chosen": "solver"}),
        (("training=probe", "solver=sgd"), {"chosen": "tuned", "lr": 0.05}),
    ],
)
def test_a_record_says_how_a_rate_was_chosen(
    tmp_path: Path, overrides: tuple[str, ...], rate: dict[str, Any]
) -> None:
    config = compose_here(tmp_path, *overrides)[0]
    assert rates.rate_record(config, overrides, None, "") == rate
