"""The points with the smallest sums of distances to given ones, in many sets at once.

Weiszfeld's iteration, safe at the given points by the rule of Vardi and Zhang (PNAS 2000), with
Newton's steps where they lead further down, in double precision: a few rounds where the plain
iteration takes hundreds. The sets stand last, [n, D, c], so that every step is one on whole
vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hansa.ensemble.aggregators.pairwise import apart

TOLERANCE = 1e-8
"""Of the length of the weighted mean of unit vectors to the points, which is 0 at the lowest."""
_ROUNDS = 200
_NEAR = 1e-12
"""Points so near to each other, against how long they are, are one: rounding made them two."""
_SINGLE = 1e-4
"""How near to each other sums may be that single precision tells apart."""
_MANY = 64
"""From so many sets on, whole vectors of them are faster than each by itself."""
_TINY = 1e-300


def lowest_points(x: np.ndarray, mass: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the weighted distances to x float64 [n, D, c] sum to the least: [D, c].

    Args:
        mass: float64 [n, c], sums to 1 in each set; points of 0 do not count.

    Returns:
        The points, and int64 [c] which of the given ones each is, -1 for none.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        points, at = _best_given(x, mass)
        active = np.flatnonzero(at < 0)
        view = _View.of(_some(x, active), _some(mass, active), _some(points, active))
        for _ in range(_ROUNDS):
            going = view.going()
            if not going.any():
                break
            if going.mean() < 0.8:
                points[:, active] = view.y
                active, view = active[going], view.only(going)
                going = going[going]
            view = view.step(going)
        points[:, active] = view.y
    return points, at


def _best_given(x: np.ndarray, mass: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best given point of each set; where that is not the lowest, a lower one and -1."""
    best = _least_sums(x, mass)
    each = np.arange(x.shape[2])
    y = np.ascontiguousarray(x[best, :, each].T)
    ways = x - y
    far = np.sqrt((ways * ways).sum(1))
    lengths = np.sqrt((x * x).sum(1))
    here = far <= _NEAR * (lengths + lengths[best, each])
    own = (mass * here).sum(0)
    pull = np.where(here, 0, mass / far)
    total = (ways * pull[:, None]).sum(0)
    force = np.sqrt((total * total).sum(0))
    lowest = ~(force > own * (1 + 1e-12))  # NaN, where no point counts, stays
    reach = np.where(lowest, 0, (1 - own / force) / pull.sum(0))
    return y + total * reach, np.where(lowest, best, -1)


def _least_sums(x: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Which given point of each set has the least weighted sum of distances, int64 [c].

    In single precision, and again in double where the second is too near to tell, or a distance is
    too large.
    """
    sums = _sums(x.astype(np.float32), mass)
    best = sums.argmin(0)
    least, second = np.partition(sums, 1, axis=0)[:2] if len(x) > 1 else (sums[0], sums[0])
    unsure = np.flatnonzero(~(second > least * (1 + _SINGLE)))
    if len(unsure):
        best[unsure] = _sums(_some(x, unsure), _some(mass, unsure)).argmin(0)
    return best


def _some(part: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Some sets; unlike ``part[..., sets]`` they still stand last in memory."""
    return np.take(part, sets, axis=-1)


def _sums(x: np.ndarray, mass: np.ndarray) -> np.ndarray:
    sums = (np.sqrt(apart(x)) * mass.astype(x.dtype)).sum(1)
    sums[mass == 0] = np.inf
    return sums


@dataclass
class _View:
    """What is seen from points y [D, c]: the ways to x, how far each is, and how much it pulls."""

    x: np.ndarray
    mass: np.ndarray
    y: np.ndarray
    ways: np.ndarray
    far: np.ndarray
    pull: np.ndarray
    total: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, mass: np.ndarray, y: np.ndarray) -> _View:
        """From y."""
        ways = x - y
        far = np.maximum(np.sqrt((ways * ways).sum(1)), _TINY)
        pull = mass / far
        return cls(x, mass, y, ways, far, pull, (ways * pull[:, None]).sum(0))

    def only(self, sets: np.ndarray) -> _View:
        """Some sets."""
        return _View(*(_some(part, np.flatnonzero(sets)) for part in vars(self).values()))

    def going(self) -> np.ndarray:
        """In which sets another step is due, bool [c]."""
        return np.sqrt((self.total * self.total).sum(0)) > TOLERANCE

    def height(self) -> np.ndarray:
        """The sums of distances [c]."""
        return (self.far * self.mass).sum(0)

    def step(self, going: np.ndarray) -> _View:
        """From lower points: Newton's where they are, else Weiszfeld's, which always are."""
        sums = self.pull.sum(0)
        plain = self.total / sums
        units = self.ways * (np.sqrt(self.pull / sums) / self.far)[:, None]
        newton = plain + turned(units.astype(np.float32), plain.astype(np.float32))
        there = _View.of(self.x, self.mass, np.where(going, self.y + newton, self.y))
        higher = ~(there.height() <= self.height())
        if higher.any():
            other = self.only(higher)
            other = _View.of(other.x, other.mass, other.y + _some(plain, np.flatnonzero(higher)))
            for name, part in vars(there).items():
                if name not in ("x", "mass"):
                    part[..., higher] = getattr(other, name)
        return there


def turned(units: np.ndarray, step: np.ndarray) -> np.ndarray:
    """By how much Newton's step differs from Weiszfeld's: (I - sum over n of u uᵀ)⁻¹ step - step.

    For u [n, D, c] and steps [D, c], by elimination, of all sets at once. Single precision is
    enough: the step's direction need not be exact for the point that it ends at to be.
    """
    size, sets = step.shape
    if sets < _MANY:
        return _turned_each(units, step)
    matrix = np.empty((size, size, sets), dtype=units.dtype)
    for i in range(size):
        matrix[i, i:] = matrix[i:, i] = -(units[:, i : i + 1] * units[:, i:]).sum(0)
        matrix[i, i] += 1 + 1e-5
    p = step.copy()
    for k in range(size):
        below = matrix[k + 1 :, k] / matrix[k, k]
        matrix[k + 1 :, k + 1 :] -= below[:, None] * matrix[k, k + 1 :]
        p[k + 1 :] -= below * p[k]
    for k in reversed(range(size)):
        p[k] = (p[k] - (matrix[k, k + 1 :] * p[k + 1 :]).sum(0)) / matrix[k, k]
    return p - step


def _turned_each(units: np.ndarray, step: np.ndarray) -> np.ndarray:
    """The same of few sets, each by itself."""
    rows = np.ascontiguousarray(units.transpose(2, 1, 0))
    matrices = np.eye(len(step), dtype=step.dtype) * (1 + 1e-5) - rows @ rows.transpose(0, 2, 1)
    try:
        p = np.linalg.solve(matrices, step.T[:, :, None])[:, :, 0].T
    except np.linalg.LinAlgError:  # no step is better than Weiszfeld's
        return np.zeros_like(step)
    return p - step
