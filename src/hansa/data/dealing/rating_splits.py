"""Which of everybody's ratings are kept for the test: at random, by time, or the last of each.

Every rule is a function of the ratings alone, ties included, so that two people who name the same
rule have the same test set.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from hansa.base.errors import ConfigError, DataError
from hansa.base.streams import Streams
from hansa.data.ratings import Ratings

Rule = Literal["random_user", "user_time", "global_time", "leave_last"]
RULES: tuple[Rule, ...] = get_args(Rule)


def split_ratings(
    ratings: Ratings, rule: Rule, fraction: float, purpose: str, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(training rows, test rows), sorted int64 and disjoint, and what to say of them.

    A user with n ratings gives round(fraction n) of them to the test, and always keeps one, but
    under ``global_time``, which looks at no user: there some have no training ratings at all.

    Args:
        purpose: names the random draw.
        seed: of the random draw; not the run's, so that the test set is the same in every run.

    Raises:
        ConfigError: ``split``; it needs times, and there are none.
        DataError: there would be no training or no test ratings.
    """
    notes: list[str] = []
    if rule == "random_user":
        rng = Streams(seed).numpy(purpose)
        chosen = _by_user(ratings, fraction, rng.permutation(len(ratings)))
    else:
        chosen, notes = _timed(ratings, rule, fraction)
    train, test = np.flatnonzero(~chosen), np.flatnonzero(chosen)
    for name, rows in (("test", test), ("training", train)):
        if not len(rows):
            few = "every user has one rating only" if rule != "global_time" else "too few ratings"
            raise DataError(f"{ratings.where}: split {rule} leaves no {name} ratings: {few}")
    return train, test, notes + _who_is_cold(ratings, train, test)


def _timed(ratings: Ratings, rule: Rule, fraction: float) -> tuple[np.ndarray, list[str]]:
    times = ratings.times
    if times is None:
        problem = f"needs to know when each rating was given, and {ratings.where} does not say"
        fix = "random_user, or a source with times (of your own: data.timestamp names the column)"
        raise ConfigError("split", rule, problem, fix)
    order = np.lexsort((ratings.items, ratings.users, times))
    if rule == "global_time":
        # No moment is parted: the test begins with all ratings of one second.
        cut = times[order[min(round((1 - fraction) * len(order)), len(order) - 1)]]
        return times >= cut, []
    # The latest first, and of one second the item of the higher number.
    latest = np.lexsort((-ratings.items, -times))
    if rule == "user_time":
        leak = (
            "split user_time: of every user's ratings the latest are the test, while others' are "
            "trained on that were given after them: figures know of the future; global_time does "
            "not"
        )
        return _by_user(ratings, fraction, latest), [leak]
    last = _by_user(ratings, None, latest)
    tied = int(_ties(ratings, times, last).sum())
    text = f"split leave_last: {tied} users rated their last items at the same moment"
    return last, [f"{text}; the item of the highest number counts as the last"] if tied else []


def _by_user(ratings: Ratings, fraction: float | None, order: np.ndarray) -> np.ndarray:
    """bool [N]: the first of each user's ratings in an order, one of each where no fraction is."""
    users = ratings.users[order]
    order = order[np.argsort(users, kind="stable")]
    sizes = np.bincount(users, minlength=len(ratings.user_names))
    starts = np.cumsum(sizes) - sizes
    rank = np.arange(len(order)) - np.repeat(starts, sizes)
    quota = np.ones(len(sizes)) if fraction is None else np.floor(fraction * sizes + 0.5)
    chosen = np.zeros(len(order), bool)
    chosen[order] = rank < np.repeat(np.minimum(quota, sizes - 1), sizes)
    return chosen


def _ties(ratings: Ratings, times: np.ndarray, last: np.ndarray) -> np.ndarray:
    """bool [users]: whose last rating was given at the moment of another of theirs."""
    moment = np.full(len(ratings.user_names), np.nan)
    moment[ratings.users[last]] = times[last]
    same = (times == moment[ratings.users]) & ~last
    return np.bincount(ratings.users[same], minlength=len(moment)) > 0


def _who_is_cold(ratings: Ratings, train: np.ndarray, test: np.ndarray) -> list[str]:
    """Remarks on users and items that training or test knows nothing of."""
    where, notes = ratings.where, []
    users, items = len(ratings.user_names), len(ratings.item_names)
    trained = np.bincount(ratings.users[train], minlength=users)
    tested = np.bincount(ratings.users[test], minlength=users)
    known = np.bincount(ratings.items[train], minlength=items)
    if untested := int((tested == 0).sum()):
        alone = int(((tested == 0) & (trained == 1)).sum())
        more = f", {alone} of them with one rating, which is trained on" if alone else ""
        notes.append(f"{where}: {untested} of {users} users have no test rating{more}")
    cold = int(((tested > 0) & (trained == 0)).sum())
    if cold:
        share = (trained[ratings.users[test]] == 0).mean()
        notes.append(
            f"{where}: {cold} of {int((tested > 0).sum())} users of the test are cold: they have "
            f"{100 * share:.0f} % of its ratings and none to train on"
        )
    unseen = known[ratings.items[test]] == 0
    if unseen.any():
        count = len(np.unique(ratings.items[test][unseen]))
        notes.append(
            f"{where}: {count} items are cold: they have {int(unseen.sum())} test ratings and none "
            "to train on"
        )
    return notes
