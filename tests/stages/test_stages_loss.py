"""A run fills the class counts of its training images in where its loss takes them."""

from functools import partial

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from lsep_ml import losses
from lsep_ml.data.data_set import Split
from lsep_ml.stages.job import build_loss


def test_class_counts_are_those_of_the_known_training_entries() -> None:
    targets = np.array([[1, 0], [1, 0], [1, 1], [0, 0]], np.uint8)
    mask = np.array([[1, 1], [0, 1], [0, 1], [1, 0]], bool)
    config = OmegaConf.create(
        {"loss": {"_target_": "lsep_ml.losses.bce_loss", "_partial_": True, "pos_weight": "balanced"}}
    )
    scores, of_one = torch.zeros(1, 2), torch.tensor([[1, 1]])
    for known, weights in ((None, [1 / 3, 3.0]), (mask, [1.0, 2.0])):
        split = Split(torch.zeros(4, 1, 2, 2), targets, known, np.array(list("abcd")))
        loss = build_loss(config, split)
        assert torch.equal(loss(scores, of_one), losses.bce_loss(scores, of_one, pos_weight=weights))
    config.loss._target_ = "lsep_ml.losses.ldam_loss"
    del config.loss.pos_weight
    counts = losses.ClassCounts.of(torch.from_numpy(targets), torch.from_numpy(mask))
    split = Split(torch.zeros(4, 1, 2, 2), targets, mask, np.array(list("abcd")))
    found = build_loss(config, split)(scores, of_one)
    assert torch.equal(found, losses.ldam_loss(scores, of_one, class_counts=counts))
    config.loss._target_ = "lsep_ml.losses.zlpr_loss"
    assert build_loss(config, split)(scores, of_one) == losses.zlpr_loss(scores, of_one)
    assert type(build_loss(config, split)) is partial
    config.loss.update({"_target_": "lsep_ml.losses.bce_loss", "pos_weight": [2, 3]})
    expected = losses.bce_loss(scores, of_one, pos_weight=[2.0, 3.0])
    assert build_loss(config, split)(scores, of_one) == expected
    config.loss.pos_weight = [2, 3, 4]
    with pytest.raises(ValueError, match="pos_weight: 3 numbers, scores have 2 labels"):
        build_loss(config, split)
