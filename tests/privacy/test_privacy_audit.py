"""An attacker who knows all but one thing finds out less than epsilon, and more without noise.

He knows model, batch and the canary's gradient, and guesses from the noised sum whether the canary
was in it (as Jagielski et al., 2020, and Nasr et al., 2021, audit DP-SGD). From how often he is
right follows a lower bound of epsilon, at 99 % confidence.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.stats import beta
from torch import nn

from hansa.base.losses import cross_entropy
from hansa.engine.settings import TrainSettings
from hansa.engine.training.gradients import Looped
from hansa.engine.training.private_steps import PrivateSteps
from hansa.models import ParameterLayout
from hansa.privacy.accounting import epsilon, gaussian
from hansa.privacy.example import ExamplePrivacy

TRIALS, DELTA, OTHERS = 600, 1e-5, 9


def scores(noise: float) -> tuple[np.ndarray, np.ndarray]:
    """How far noised sums go along the canary's gradient: without it in them, and with it."""
    torch.manual_seed(8)
    module = nn.Linear(6, 3)
    layout = ParameterLayout.of(module)
    passes = Looped(module, layout, cross_entropy)
    row, grads = layout.flatten(module).unsqueeze(0), torch.zeros(1, layout.trainable)
    passes.attach(row, grads)
    x, y = torch.randn(1, OTHERS + 1, 6), torch.randint(0, 3, (1, OTHERS + 1))
    x[0, -1] *= 20  # the canary: its gradient is as long as the clip allows
    settings, sizes = TrainSettings(batch_size=OTHERS + 1), np.array([OTHERS + 1])

    def released(noise: float, count: int, seed: int) -> torch.Tensor:
        privacy = ExamplePrivacy(clip=1.0, noise=noise, delta=DELTA)
        private = PrivateSteps(privacy, settings, 1)
        random, lengths = np.random.default_rng(seed), torch.tensor([count])
        private.gradients(passes, row, x, y, lengths, grads, sizes, [random])
        return grads[0].clone() * int(sizes[0])

    without = released(0.0, OTHERS, 0)
    canary = released(0.0, OTHERS + 1, 0) - without
    assert math.isclose(float(canary.norm()), 1.0, rel_tol=1e-3)
    found = [
        [float((released(noise, OTHERS + world, 2 * seed + world) - without) @ canary)
         for seed in range(TRIALS)]
        for world in (0, 1)
    ]  # fmt: skip
    return np.array(found[0]), np.array(found[1])


def least_epsilon(out: np.ndarray, inside: np.ndarray) -> float:
    """A lower bound of epsilon: the threshold is chosen on one half and judged on the other."""

    def bound(out: np.ndarray, inside: np.ndarray, threshold: float) -> float:
        hits, alarms = int((inside > threshold).sum()), int((out > threshold).sum())
        sure = beta.ppf(0.005, hits, len(inside) - hits + 1) if hits else 0.0
        wrong = beta.ppf(0.995, alarms + 1, len(out) - alarms) if alarms < len(out) else 1.0
        return math.log(max(sure - DELTA, 1e-12) / wrong)

    half = len(out) // 2
    thresholds = np.quantile(np.concatenate([out[:half], inside[:half]]), np.linspace(0.02, 1, 50))
    best = max(thresholds, key=lambda t: bound(out[:half], inside[:half], float(t)))
    return max(0.0, bound(out[half:], inside[half:], float(best)))


def test_an_auditor_finds_no_more_than_epsilon_and_more_without_noise() -> None:
    claimed = epsilon(gaussian(2.0), DELTA)
    out, inside = scores(2.0)
    assert 0.85 < inside.mean() - out.mean() < 1.15  # the canary is there to be found
    assert least_epsilon(out, inside) <= claimed
    assert least_epsilon(*scores(0.1)) > claimed  # had the noise been left out he would know
