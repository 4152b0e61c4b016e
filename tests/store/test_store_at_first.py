"""Options that came later are no part of what is stored while they mean what was done before."""

from lsep_ml.store.keys import plain_parts


def test_class_weights_make_another_result_only_where_there_are_some() -> None:
    first = {"loss": {"_target_": "lsep_ml.losses.bce_loss", "_partial_": True, "normalize": False}}
    now = {"loss": {**first["loss"], "pos_weight": None, "pos_weight_cap": 20.0}}
    assert plain_parts(now, ["loss"]) == plain_parts(first, ["loss"])
    weighted = {"loss": {**now["loss"], "pos_weight": "balanced"}}
    assert plain_parts(weighted, ["loss"])["loss"]["pos_weight"] == "balanced"
    assert plain_parts({"loss": {**weighted["loss"], "pos_weight_cap": 5.0}}, ["loss"]) != plain_parts(
        weighted, ["loss"]
    )


def test_looking_for_twins_changes_no_identity() -> None:
    first = plain_parts({"data": {"seed": 0}}, ["data"])
    for twins in ("report", "ignore"):
        assert plain_parts({"data": {"seed": 0, "twins": twins}}, ["data"]) == first
    assert plain_parts({"data": {"seed": 0, "twins": "together"}}, ["data"]) != first
