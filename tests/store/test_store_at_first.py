"""Options that came later are no part of what is stored while they mean what was done before."""

from lsep_ml.store.sections import plain_sections


def test_class_weights_make_another_result_only_where_there_are_some() -> None:
    first = {"loss": {"_target_": "lsep_ml.losses.bce_loss", "_partial_": True, "normalize": False}}
    now = {"loss": {**first["loss"], "pos_weight": None, "pos_weight_cap": 20.0}}
    assert plain_sections(now, ["loss"]) == plain_sections(first, ["loss"])
    weighted = {"loss": {**now["loss"], "pos_weight": "balanced"}}
    assert plain_sections(weighted, ["loss"])["loss"]["pos_weight"] == "balanced"
    assert plain_sections({"loss": {**weighted["loss"], "pos_weight_cap": 5.0}}, ["loss"]) != plain_sections(
        weighted, ["loss"]
    )


def test_looking_for_twins_changes_no_identity() -> None:
    first = plain_sections({"data": {"seed": 0}}, ["data"])
    for twins in ("report", "ignore"):
        assert plain_sections({"data": {"seed": 0, "twins": twins}}, ["data"]) == first
    assert plain_sections({"data": {"seed": 0, "twins": "together"}}, ["data"]) != first


def test_what_dropped_labels_are_matters_only_where_some_are_dropped() -> None:
    first = plain_sections({"data": {"seed": 0}}, ["data"])
    for drop_labels in (0.0, 0):
        data = {"seed": 0, "drop_labels": drop_labels, "dropped_as": "negative"}
        assert plain_sections({"data": data}, ["data"]) == first
    for drop_labels in (0.5, "single_positive"):
        data = {"seed": 0, "drop_labels": drop_labels}
        unknown, negative = (
            plain_sections({"data": {**data, "dropped_as": kind}}, ["data"])
            for kind in ("unknown", "negative")
        )
        assert unknown["data"] == data
        assert negative["data"] == {**data, "dropped_as": "negative"}
