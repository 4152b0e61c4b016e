"""Numbers and switches of a configuration: the shipped ones are taken, what lies outside is refused by name."""

import math
from pathlib import Path

import pytest
from jobs import ROOT, compose_here

from lsep_ml.stages.job import build_job
from lsep_ml.stages.ranges import RANGES, Range, Switch, Text, check_options, check_ranges

GROUPS = [
    f"{group}={file.stem}"
    for group in (
        "data",
        "model",
        "loss",
        "decision",
        "predictor",
        "training",
        "optimizer",
        "trainer",
        "transform",
    )
    for file in sorted((ROOT / "conf" / group).glob("*.yaml"))
]


@pytest.mark.parametrize("choice", GROUPS)
def test_what_is_shipped_is_in_range(choice: str, tmp_path: Path) -> None:
    config = compose_here(tmp_path, choice)[0]
    check_ranges(config)
    check_options(config)


@pytest.mark.parametrize("section", ["loss", "optimizer", "schedule", "model", "decision"])
def test_an_option_that_a_part_has_not_is_refused_before_anything_is_read(
    section: str, tmp_path: Path
) -> None:
    config = compose_here(tmp_path, f"+{section}.unheard_of=1", "decision=threshold", "data=own")[0]
    with pytest.raises(ValueError, match=rf"{section}.unheard_of=1: \w+ has no such option; it has \w+, \w+"):
        check_options(config)


def test_options_of_a_predictor(tmp_path: Path) -> None:
    config = compose_here(tmp_path, "+predictor.unheard_of=1", "predictor=mlknn")[0]
    with pytest.raises(ValueError, match=r"predictor.unheard_of=1: \w+ has no such option"):
        check_options(config)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.epochs=-1", "a whole number at least 1"),
        ("training.epochs=0", "a whole number at least 1"),
        ("training.epochs=ten", "a whole number at least 1"),
        ("training.epochs=null", "a whole number at least 1"),
        ("trainer.devices=none", "one of auto, or a whole number at least 0, or a list of them"),
        *(
            (
                f"+loss.pos_weight={value}",
                "one of balanced, tempered, or a list, each a number above 0, or null",
            )
            for value in ("odd", "2", "[0]", "[-1]", "[balanced]", "[]")
        ),
        ("schedule.warmup=2", "a number at least 0 and at most 1"),
        ("decision.standardize=maybe", "true or false"),
        ("training.epochs=1.5", "a whole number at least 1"),
        ("training.epochs=true", "a whole number at least 1"),
        ("fitting.epochs=-1", "a whole number at least 1"),
        ("training.ema=2", "a number above 0 and below 1, or null"),
        ("trainer.gradient_clip_val=-1", "a number above 0, or null"),
        ("training.frozen_epochs=-1", "a whole number at least 0"),
        ("data.num_workers=-1", "a whole number at least 0"),
        ("loss.margin=nan", "a number"),
        ("loss.margin=inf", "a number"),
        ("transform.crop=10000", "a whole number at least 1 and at most 4096, or a list of them, or null"),
        ("transform.std=[0]", "a number above 0, or a list of them"),
        ("model.widths=[]", "a list, each a whole number at least 1 and at most 65536"),
        ("deterministic=perhaps", "true or false"),
        ("seed=-1", "a whole number at least 0"),
        ("+loss.unheard_of=nan", "a finite number"),
    ],
)
def test_what_is_not_is_refused_before_anything_is_read(override: str, expected: str, tmp_path: Path) -> None:
    key, _, value = override.removeprefix("+").partition("=")
    with pytest.raises(ValueError, match="expected") as refused:
        build_job(compose_here(tmp_path, override)[0])
    said = str(refused.value)
    assert said.startswith(f"{key}=")
    assert f": expected {expected}" in said
    assert value.strip("[]") in said


def test_every_range_takes_its_inside_and_nothing_else() -> None:
    for key, kind in RANGES.items():
        if isinstance(kind, Switch):
            assert kind.takes(True), key
            assert kind.takes(False), key
            assert not kind.takes("true"), key
            assert kind.takes(None) == kind.null, key
            continue
        if isinstance(kind, Text):
            assert not kind.takes(""), key
            assert not kind.takes(math.nan), key
            assert not kind.takes({"a": 1}), key
            assert kind.takes(kind.words[0] if kind.words else "x"), key
            assert kind.takes("no such word") == (not kind.words), key
            assert kind.takes(None) == kind.null, key
            assert kind.takes(["x"]) == (kind.many and not kind.words), key
            assert kind.takes([1.0]) == (kind.other is not None and kind.other.takes([1.0])), key
            assert kind.takes(2) == (kind.other is not None and kind.other.takes(2)), key
            continue
        assert not kind.takes({"a": 1}), key
        assert not kind.takes(math.nan), key
        assert not kind.takes("1"), key
        assert not kind.takes([]), key
        assert not kind.takes(kind.low - 1), key
        assert not kind.takes(kind.high + 1), key
        if math.isfinite(kind.low):
            low = int(kind.low) if not kind.real else kind.low
            assert kind.takes(low if kind.one else [low]) != kind.above, key


def test_the_words_of_a_range() -> None:
    assert str(Range(real=True)) == "a number"
    assert str(Range(0, 1, real=True, above=True, null=True)) == "a number above 0 and at most 1, or null"


@pytest.mark.parametrize(
    "override",
    ["loss.pos_weight=[0.5,2,1]", "loss.pos_weight=tempered", "trainer.devices=[0,4]", "trainer.devices=2"],
)
def test_lists_and_words_that_are_taken(override: str, tmp_path: Path) -> None:
    check_ranges(compose_here(tmp_path, override, "loss=bce")[0])


def test_an_object_in_the_place_of_a_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"training\.epochs=\{'a': 1\}: expected a whole number at least 1"):
        build_job(compose_here(tmp_path, "training.epochs={a:1}")[0])
