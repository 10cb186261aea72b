"""Accuracy against epsilon on the digits: noise in gradients, at a server, at senders, in sums.

    python benchmarks/privacy/private_digits.py            # about 5 minutes
    python benchmarks/privacy/private_digits.py --smoke    # one seed, a round

1,437 training digits, logistic regression (650 parameters), 40 rounds, delta 1e-4. Single examples
are protected among 8 peers (D-PSGD), some 144 examples each; whole clients among 64, 32 of whom are
drawn in a round, and whole nodes among 16 peers. Every row has its own learning rate and clip, of
two each, found on validation examples with a seed of its own; so have the controls without privacy
and with clipping alone.
"""

from __future__ import annotations

from typing import Any

from private_tables import Case, main

DELTA = 1e-4
RATES, CLIPS = (0.5, 2.0), (0.3, 1.0)
EPSILONS = (None, 16.0, 8.0, 4.0, 2.0)
AT_SERVER, FEW = EPSILONS[:-1], (None, 8.0)


def settings(nodes: int, algorithm: Any, batch: int, degree: int = 4) -> dict[str, Any]:
    """A run on the digits."""
    return {
        "nodes": nodes,
        "rounds": 40,
        "data": {"name": "digits", "validation": 0.2},
        "model": "logistic",
        "topology": {"name": "regular", "degree": degree},
        "algorithm": algorithm,
        "train": {"local_steps": 2, "batch_size": batch, "drop_last": False},
    }


def way(name: str, **more: Any) -> dict[str, Any]:
    """A way of protecting without its noise."""
    return {"name": name, "delta": DELTA, **more}


DRAWN = {"name": "fedavg", "sampled": 32, "sampler": "poisson", "weighting": "uniform"}
PEERS = settings(8, "dpsgd", 32)
MANY, SUMS = settings(64, DRAWN, 8), settings(16, "secure_dpsgd", 16, degree=8)
CASES = [
    Case("nothing, 8 peers", None, PEERS, (None,), RATES, CLIPS),
    Case("examples, 8 peers", way("example"), PEERS, EPSILONS, RATES, CLIPS),
    Case("nothing, 64 clients", None, MANY, (None,), RATES, CLIPS),
    Case("clients, by the server", way("central"), MANY, AT_SERVER, RATES, CLIPS),
    Case("clients, by themselves", way("local"), MANY, FEW[1:], RATES, CLIPS),
    Case("nothing, 16 peers in masked sums", None, SUMS, (None,), RATES, CLIPS),
    Case("peers, in masked sums", way("distributed"), SUMS, FEW, RATES, CLIPS),
]

if __name__ == "__main__":
    main(
        "privacy_digits",
        "Accuracy against epsilon on the digits",
        "python benchmarks/privacy/private_digits.py",
        CASES,
        "Units differ: an example, a client, a peer. An epsilon of one says nothing about that of "
        "another. `worst node` is the lowest of all nodes and seeds; servers have one model.",
    )
