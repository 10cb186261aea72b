"""The accountant: what noise comes to as (epsilon, delta), by Renyi differential privacy.

The Renyi divergences of the subsampled Gaussian mechanism (Mironov et al., 2019) and their
conversion to epsilon (Balle et al., 2020, theorem 21) are computed by Opacus. Here is only what a
run asks of it: costs add up, and noise is found that costs no more than it may.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import Lazy

rdp = Lazy("opacus.accountants.analysis.rdp")

ORDERS: tuple[float, ...] = (
    1.01,
    *(1 + k / 10 for k in range(1, 10)),
    *(2 + k / 10 for k in range(31)),
    *(5 + k / 2 for k in range(1, 12)),
    *range(11, 65),
    *(72, 80, 96, 128, 192, 256, 384, 512, 1024, 2048),
)
"""Orders alpha of the divergences. The first and the last are never chosen: Opacus warns where one
of them is, which is no news here."""
ACCOUNTANT = "Renyi (Opacus)"
_MOST = 1 << 62
_LOWEST, _LARGEST = 0.1, 1e7


def check_accountant() -> None:
    """Refuse to begin without the library.

    Raises:
        ConfigError: it is not installed.
    """
    if importlib.util.find_spec("opacus") is None:
        problem = "needs an accountant, and the package opacus is not installed"
        raise ConfigError("", None, problem, "pip install 'hansa[privacy]'")


@lru_cache(maxsize=4096)
def _gaussian(noise: float, rate: float, whole: bool) -> tuple[float, ...]:
    orders = [order for order in ORDERS if not whole or order == int(order)]
    found = rdp.compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=orders)
    # An order at which the series does not come to an end says nothing.
    return tuple(
        np.nan_to_num(np.asarray(found, dtype=np.float64), nan=np.inf, posinf=np.inf).tolist()
    )


def gaussian(noise: float, rate: float = 1.0, whole: bool = False) -> np.ndarray:
    """Renyi divergences of one release of a sum with Gaussian noise, float64 [orders].

    Args:
        noise: its standard deviation over the sum's L2 sensitivity; 0: no noise.
        rate: chance of a contribution to be in the sum, each by itself (Poisson sampling).
        whole: leave out orders that are no whole numbers, which take ten times as long; without
            them an epsilon is somewhat larger.
    """
    cost = np.full(len(ORDERS), np.inf)
    if noise > 0:
        chosen = np.array([not whole or order == int(order) for order in ORDERS])
        cost[chosen] = _gaussian(noise, rate, whole)
    return cost


def epsilon(cost: np.ndarray, delta: float) -> float:
    """The epsilon of all releases whose divergences add up to ``cost`` [orders]; at least 0."""
    if not cost.any():
        return 0.0
    inner = cost.copy()
    inner[[0, -1]] = np.inf
    if not np.isfinite(inner).any():
        return math.inf
    found, _ = rdp.get_privacy_spent(orders=list(ORDERS), rdp=inner, delta=delta)
    return max(0.0, float(found))


def most(one: np.ndarray, delta: float, limit: float) -> int:
    """How many releases that cost ``one`` [orders] each have an epsilon within the limit."""
    if not np.isfinite(one).any():
        return 0
    low, high = 0, 1
    while epsilon(high * one, delta) <= limit:
        low, high = high, 2 * high
        if high >= _MOST:
            return _MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if epsilon(middle * one, delta) <= limit else (low, middle)
    return low


@lru_cache(maxsize=4096)
def calibrated(limit: float, delta: float, rate: float, times: int) -> float:
    """The least noise, up to 0.2 %, with which so many releases stay within an epsilon.

    Args:
        rate: as for :func:`gaussian`.

    Raises:
        ConfigError: there is none; the field is ``epsilon``.
    """

    def within(noise: float, whole: bool) -> bool:
        return epsilon(times * gaussian(noise, rate, whole), delta) <= limit

    high = least_noise(limit, delta, times, lambda noise: gaussian(noise, rate, True))
    low = high
    while low > _LOWEST and within(low, False):  # the other orders may allow less
        high, low = low, low / 1.03
    return up(_least(low, high, 1.002, lambda noise: within(noise, False)))


def least_noise(
    limit: float, delta: float, times: int, cost: Callable[[float], np.ndarray]
) -> float:
    """The least noise, up to 0.1 %, with which so many releases stay within an epsilon.

    Args:
        cost: of one release with a noise multiplier, [orders].

    Raises:
        ConfigError: there is none; the field is ``epsilon``.
    """

    def within(noise: float) -> bool:
        return epsilon(times * cost(noise), delta) <= limit

    low, high = _LOWEST, 1.0
    while not within(high):
        low, high = high, 2 * high
        if high > _LARGEST:
            problem = f"no noise is enough for {times} releases with delta {delta:g}"
            raise ConfigError("epsilon", limit, problem, "a larger epsilon, or fewer rounds")
    if high == 1.0 and within(low):
        return low
    return _least(low, high, 1.001, within)


def _least(low: float, high: float, gap: float, enough: Callable[[float], bool]) -> float:
    """The least noise that is enough, up to a factor, between two of which the higher is."""
    while high > low * gap:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def up(number: float, digits: int = 4) -> float:
    """A positive number rounded up to some significant digits, the same in every process."""
    step = 10.0 ** (math.floor(math.log10(number)) + 1 - digits)
    return float(f"{math.ceil(number / step - 1e-9) * step:.{digits}g}")
