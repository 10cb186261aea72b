"""An attack on a layer in a mode: one row of the red team's table."""

from __future__ import annotations

import hashlib
import time
from typing import Any

from hansa.infer.private.redteam.attacks.extraction import (
    SHARES,
    UNPROTECTED,
    ExtractionAttack,
)
from hansa.infer.private.redteam.scoring import chance
from hansa.infer.private.redteam.session_oracle import SessionOracle
from hansa.infer.private.redteam.targets import SHAPES, Target

NEAR = 0.05
"""What lies so little above chance counts as chance: no weight is sure."""


def tried(
    attack: ExtractionAttack, mode: str, target: Target, seed: int, profile: str = "n4096"
) -> dict[str, Any]:
    """Try it.

    Returns:
        ``attack, mode, layer, recovered, chance, expected, as_expected, right, weights, queries,
        flooding_bits, seconds`` (of a CPU), ``why`` and ``note``.

    Raises:
        Untried: the attack says nothing of such a layer.
    """
    begun = time.process_time()
    name = type(attack).name
    key = hashlib.blake2b(f"{seed} {name} {target.name} {mode}".encode(), digest_size=32).digest()
    open_logits = mode == SHARES and attack.logits_shown
    oracle = SessionOracle(
        target,
        mode,
        profile,
        flooding_bits=attack.flooding,
        seed=key,
        bare_key=attack.bare_key,
        logits=open_logits,
    )
    guess = attack.guess(oracle)
    truth = target.weights[:, : guess.weights.shape[1]]
    score = attack.score()
    right, lucky = score(guess.weights, truth), chance(score, truth, seed)
    recovered = right / truth.size
    expected, why = attack.expects(mode)
    if not attack.sure and target.name not in SHAPES and expected == "all":
        expected = "any"
    return {
        "attack": attack.label(),
        "mode": mode + ", logits" * open_logits,
        "layer": target.name,
        "recovered": recovered,
        "chance": lucky,
        "expected": expected,
        "as_expected": _agrees(expected, recovered, lucky),
        "right": right,
        "weights": int(truth.size),
        "queries": oracle.queries,
        "flooding_bits": oracle.flooding_bits if mode not in (UNPROTECTED, SHARES) else None,
        "seconds": time.process_time() - begun,
        "why": why,
        "note": guess.note,
    }


def _agrees(expected: str, recovered: float, lucky: float) -> bool:
    if expected == "all":
        return recovered == 1.0
    if expected == "chance":
        return recovered <= lucky + NEAR
    return expected == "any" or recovered < 1.0
