"""Which cohort each client of a run is in, by a rule and what is known of the clients."""

from __future__ import annotations

import numpy as np

from hansa.data.dealing.cohorts import Clients, Cohorts
from hansa.engine import Block


def cohorted(block: Block, rule: Cohorts, purpose: str) -> np.ndarray:
    """The cohort of each client, int64 [clients]; -1 where a rule leaves it out.

    Args:
        purpose: names the stream that decides what is left to chance.
    """
    clients, clock = np.arange(block.clients), block.clock
    pace = clock.pace(block, clients) if clock is not None and clock.modelled else None
    labels = block.roster.labels if rule.sees_labels else None
    population = Clients(len(clients), labels, pace)
    return rule.assign(population, block.streams.numpy(purpose))
