"""Two classes told apart by one score."""

import numpy as np
import pytest
import torch

import hansa
from hansa.base.losses import binary_cross_entropy, predicted


def test_the_loss_is_that_of_two_scores_one_of_which_is_nought() -> None:
    scores, targets = torch.randn(9, 1), torch.arange(9) % 2
    both = torch.cat([torch.zeros(9, 1), scores], dim=1)
    wanted = torch.nn.functional.cross_entropy(both, targets, reduction="none")
    assert torch.allclose(binary_cross_entropy(scores, targets), wanted, atol=1e-6)
    assert torch.equal(predicted(scores), predicted(both))


@pytest.mark.data
@pytest.mark.parametrize("strategy", ["looped", "stacked"])
def test_fedavg_on_fed_heart_disease_as_published(strategy: str) -> None:
    """FLamby: 0.748 +- 0.027 over five seeds, SGD 1e-3, 15 rounds of 100 steps of 4."""
    settings = {
        "data": {"name": "heart", "partition": {"name": "natural", "choose": "first"}},
        "nodes": 4,
        "rounds": 15,
        "model": "logistic",
        "algorithm": "fedavg",
        "evaluate": {"every": 15},
        "train": {
            "local_steps": 100,
            "batch_size": 4,
            "strategy": strategy,
            "optimizer": {"name": "sgd", "lr": 1e-3},
        },
    }
    found = [
        hansa.run({**settings, "seed": seed}).summary["final"]["accuracy"] for seed in range(42, 47)
    ]
    assert np.mean(found) == pytest.approx(0.748, abs=0.02)
