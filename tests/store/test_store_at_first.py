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
