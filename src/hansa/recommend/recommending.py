"""What a run recommends to one user, with the stars that it predicts, and why."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.data.sources.ratings_source import RatingsSource
from hansa.experiment.trained import TrainedRun, open_trained, settings_of
from hansa.models.rating_networks import Factors, RatingNetwork
from hansa.recommend.evaluation.ranking import top
from hansa.recommend.evaluation.ratings_judge import scores_of
from hansa.recommend.recommend_file import RecommendFile
from hansa.report import RunFolder

if TYPE_CHECKING:
    from torch import nn

_NEIGHBOURS = 2
"""Rated items that are named as a reason."""
_TASTE = 0.05
"""Stars that vectors have to add before those near them are a reason at all."""


def recommend(run: Path, user: str, count: int, node: int | None = None) -> dict[str, Any]:
    """The items that a run recommends to a user, best first.

    Items that the user rated for training, or that the model has learnt nothing of, are left out.

    Args:
        user: the name in the ratings.
        node: whose model; None: that of the node that has the user.

    Returns:
        ``user``, ``node``, ``items`` (``rank``, ``item``, ``title``, ``stars``, ``why`` in words,
        ``because`` with the nearest rated items, and ``shares`` of the prediction where the model
        adds up) and ``remarks``.

    Raises:
        ConfigError: it is no run of ``hansa recommend``, or has no such user or node.
    """
    return recommended(open_recommender(RunFolder.open(run)), user, count, node)


def open_recommender(folder: RunFolder) -> TrainedRun:
    """A run of ``hansa recommend``, with its ratings.

    Raises:
        ConfigError: it is none, or has not finished.
    """
    fix = "the folder of a run of hansa recommend"
    return open_trained(folder, settings_of(folder, "run", fix, RecommendFile))


def recommended(
    trained: TrainedRun,
    user: str,
    count: int,
    node: int | None = None,
    average: bool = False,
) -> dict[str, Any]:
    """:func:`recommend` of a run that is open; or by the average of all nodes' models."""
    data = trained.job.dataset
    number = numbered("user", user, data.group_names)
    home = home_of(trained, number)
    if trained.job.servers or average:
        node, module = None, trained.module(node if average else None, average)
    else:
        node = home if node is None else node
        module = trained.module(node)
    pairs = data.train.inputs.numpy()
    parts = [np.asarray(part) for part in trained.job.parts]
    own = parts[home][pairs[parts[home], 0] == number]
    rated, stars = pairs[own, 1], data.train.targets.numpy()[own]
    learnt_user, learnt = _learnt(module, trained.job.module, number, data.spec.vocabulary)
    with torch.no_grad():
        predicted = scores_of(module, torch.tensor([number]), data.spec.vocabulary[1])[0].numpy()
    candidates = np.where(learnt, predicted, -np.inf)
    candidates[rated] = -np.inf
    best = top(candidates[None], count)[0]
    titles = _titles(trained)
    items = []
    for rank, item in enumerate(best[best >= 0].tolist(), 1):
        shares = _shares(module, number, item)
        tasted = shares.get("taste", 1.0) >= _TASTE
        reasons = _reasons(module, item, rated, stars) if tasted else []
        because = [
            {"item": data.item_names[i], "title": titles[i], "stars": s, "likeness": likeness}
            for i, s, likeness in reasons
        ]
        value = float(predicted[item])
        if data.spec.scale:
            low, high = data.spec.scale
            value = min(max(value, low), high)
        items.append(
            {
                "rank": rank,
                "item": data.item_names[item],
                "title": titles[item],
                "stars": round(value, 4),
                "why": _words(because, shares),
                "because": because,
                "shares": shares,
            }
        )
    remarks = _remarks(user, learnt_user, int((~learnt).sum()), len(items), count)
    return {"user": user, "node": node, "items": items, "remarks": remarks}


def numbered(field: str, name: str, names: tuple[str, ...]) -> int:
    """The number of a user, or of an item.

    Raises:
        ConfigError: naming ``field``; the run knows nobody and nothing of that name.
    """
    if name in names:
        return names.index(name)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    some = ", ".join(names[:8]) + " ..." * (len(names) > 8)
    if field == "item":
        problem = "is nothing of which the run has ratings"
        raise ConfigError(field, name, problem, f"{hint}one of {len(names)} items: {some}")
    problem = "is nobody whose ratings the run has, and nothing is known of the taste of others"
    fix = f"{hint}one of {len(names)} users: {some}; or train with their ratings among the data"
    raise ConfigError(field, name, problem, fix)


def home_of(trained: TrainedRun, user: int) -> int:
    """The node that has the user's ratings."""
    users = trained.job.dataset.train.inputs[:, 0].numpy()
    for groups in (trained.job.parts, trained.job.held):
        for node, part in enumerate(groups):
            if (users[np.asarray(part)] == user).any():
                return node
    name = trained.job.dataset.group_names[user]
    problem = "has no node in this run: its partition left the user out"
    raise ConfigError("user", name, problem, "data.partition: users")


def _titles(trained: TrainedRun) -> list[str]:
    """What a person calls each item."""
    names, source = trained.job.dataset.item_names, trained.settings.data
    known = source.titles() if isinstance(source, RatingsSource) else {}
    return [known.get(name, name) for name in names]


def _learnt(
    module: nn.Module, initial: nn.Module, user: int, known: tuple[int, ...]
) -> tuple[bool, np.ndarray]:
    """(whether the model has learnt anything of a user, of which items bool [I])."""
    if not isinstance(module, RatingNetwork) or not isinstance(initial, RatingNetwork):
        return True, np.ones(known[1], bool)
    with torch.no_grad():
        items = (module.items.weight != initial.items.weight).any(1).numpy()
        return bool((module.users.weight[user] != initial.users.weight[user]).any()), items


def _vectors(module: nn.Module) -> np.ndarray | None:
    """What the model knows of each item's taste, [I, k]."""
    if not isinstance(module, RatingNetwork):
        return None
    vectors = module.items.weight.detach().numpy()
    return vectors[:, :-1] if isinstance(module, Factors) else vectors


def _reasons(
    module: nn.Module, item: int, rated: np.ndarray, stars: np.ndarray
) -> list[tuple[int, float, float]]:
    """(item, stars, cosine of its vector) of those rated that are nearest, if any is near at all.

    Only what the user rated at or above their own mean is a reason.
    """
    vectors = _vectors(module)
    if vectors is None or not len(rated):
        return []
    liked = np.flatnonzero(stars >= stars.mean())
    own = vectors[item]
    norms = np.linalg.norm(vectors[rated[liked]], axis=1) * np.linalg.norm(own)
    likeness = np.divide(
        vectors[rated[liked]] @ own, norms, out=np.zeros(len(liked)), where=norms > 0
    )
    order = np.lexsort((rated[liked], -likeness))[:_NEIGHBOURS]
    return [
        (int(rated[liked[k]]), float(stars[liked[k]]), round(float(likeness[k]), 4))
        for k in order.tolist()
        if likeness[k] > 0
    ]


def _shares(module: nn.Module, user: int, item: int) -> dict[str, float]:
    """What the stars are the sum of, where the model is a sum."""
    if not isinstance(module, Factors):
        return {}
    with torch.no_grad():
        x, y = module.users.weight[user], module.items.weight[item]
        mean = module.constant + (float(module.shared["mean"]) if "mean" in module.shared else 0)
        biases = (float(x[-1]), float(y[-1])) if module.biases else (0.0, 0.0)
        parts = {
            "mean": mean,
            "user": biases[0],
            "item": biases[1],
            "taste": float((x[:-1] * y[:-1]).sum()),
        }
    return {name: round(value * module.unit, 4) for name, value in parts.items()}


def _words(because: list[dict[str, Any]], shares: dict[str, float]) -> str:
    parts = []
    if shares:
        added = " ".join(f"{shares[name]:+.2f} {name}" for name in ("user", "item", "taste"))
        parts.append(f"{shares['mean']:.2f} {added}")
    if because:
        liked = " and ".join(f"{one['title']} ({one['stars']:g})" for one in because)
        parts.append(f"like {liked}")
    return "; ".join(parts)


def _remarks(user: str, learnt: bool, unknown: int, found: int, asked: int) -> list[str]:
    remarks = []
    if not learnt:
        remarks.append(
            f"this model has learnt nothing of user {user}: these are what it holds best for anyone"
        )
    if unknown:
        remarks.append(f"{unknown} items are left out, of which this model has learnt nothing")
    if found < asked:
        remarks.append(f"there are {found} items to recommend, and {asked} were asked for")
    return remarks
