"""Which kernel adds a batch's mixtures soonest: a rule with four constants that can be measured.

The union multiplies every row with every factor that the batch uses; the gather copies each row's
factors once and multiplies them with that row alone. So the union wins where rows share adapters
or are a single position long (the steps of a generation), the gather elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from hansa.base.bundle import read_facts
from hansa.base.errors import CheckpointError
from hansa.base.files import write_json
from hansa.base.lazy import torch

Kernel = Literal["union", "gathered", "segments"]
KERNELS: tuple[Kernel, ...] = ("union", "gathered", "segments")


@dataclass(frozen=True)
class MixtureCosts:
    """Microseconds for each thousand numbers (inputs + outputs) of a layer.

    Attributes:
        union_factor: for each factor in use (its row is read and copied).
        union_product: for each factor in use and position of the batch.
        gather_factor: for each factor of each row (copied for that row).
        gather_product: for each factor of each row and position of that row.
    """

    union_factor: float = 0.21
    union_product: float = 0.019
    gather_factor: float = 0.15
    gather_product: float = 0.0205

    def choose(self, rows: int, positions: int, factors: int, own: int) -> Kernel:
        """The kernel for a batch.

        Args:
            rows, positions: n and s of ``x``.
            factors: R, that any row uses.
            own: K, of the row that uses most.
        """
        union = factors * (self.union_factor + self.union_product * rows * positions)
        gather = rows * own * (self.gather_factor + self.gather_product * positions)
        return "union" if union <= gather else "gathered"


def calibrate(file: Path | None = None, width: int = 384, seconds: float = 0.02) -> MixtureCosts:
    """Measure the constants on this machine, with the threads that torch has now.

    Args:
        file: where they are kept; if it is there, it is read and nothing is measured.
        width: of the layer.
        seconds: that each of the eight measurements takes at least.

    Raises:
        CheckpointError: the file holds something else.
    """
    if file is not None and file.exists():
        facts = read_facts(file, "delete it, and it is measured anew")
        try:
            return MixtureCosts(**{name: float(value) for name, value in facts.items()})
        except (TypeError, ValueError):
            raise CheckpointError(f"{file}: holds no costs; delete it") from None
    costs = _measured(width, seconds)
    if file is not None:
        write_json(file, asdict(costs))
    return costs


def _measured(width: int, seconds: float) -> MixtureCosts:
    from hansa.route.mixture_kernels import Scratch, gathered, union

    thousands = 2 * width / 1000
    n, few, many, scratch = 16, 1, 32, Scratch()

    def of_union(positions: int, factors: int) -> float:
        x, out = torch.ones(n, positions, width), torch.zeros(n, positions, width)
        pool, index = torch.ones(4 * factors, width), torch.arange(factors) * 3
        weights = torch.ones(n, factors)
        return _time(lambda: union(x, out, pool, pool, index, weights, scratch), seconds)

    def of_gather(positions: int, own: int) -> float:
        x, out = torch.ones(n, positions, width), torch.zeros(n, positions, width)
        pool, index = torch.ones(4 * n * own, width), torch.arange(n * own).view(n, own) * 3
        weights = torch.ones(n, own)
        return _time(lambda: gathered(x, out, pool, pool, index, weights, scratch), seconds)

    def line(of: Callable[[int, int], float], factors: int, products: int) -> tuple[float, float]:
        """The cost of a factor, and of a product, by the difference of two lengths."""
        short, long = of(few, factors), of(many, factors)
        product = max(long - short, 0.01 * long) / (many - few) / products
        factor = max(short - product * products * few, 0.01 * short)
        return factor, product / thousands

    factors, own = 256, 32
    copied, product = line(of_union, factors, factors * n)
    copied_own, product_own = line(of_gather, own, own * n)
    return MixtureCosts(
        copied / factors / thousands, product, copied_own / (own * n) / thousands, product_own
    )


def _time(call: Callable[[], object], seconds: float) -> float:
    """Microseconds of a call: the least of many."""
    with torch.no_grad():
        call()
        best, end = float("inf"), time.perf_counter() + seconds
        while time.perf_counter() < end:
            began = time.perf_counter()
            call()
            best = min(best, time.perf_counter() - began)
    return best * 1e6
