"""A rule of a run on answers, or on inputs where the run has the clients' models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.errors import ConfigError, DataError
from hansa.base.lazy import without_gradients
from hansa.data.brought import read
from hansa.ensemble.certificates import margin as margin_of
from hansa.infer.robust.cached_scores import probabilities_of, read_arrays
from hansa.infer.robust.client_models import ClientModels
from hansa.infer.robust.rule_store import card_of, load_aggregator
from hansa.infer.robust.trained_clients import shares_of
from hansa.report.predictions import Predictions, of_classes

if TYPE_CHECKING:
    from torch import Tensor


def predict(
    run: str | Path,
    inputs: str | Path,
    aggregator: str | None = None,
    f: int | None = None,
    margin: float = 0.0,
    trust: bool = False,
) -> list[dict[str, Any]]:
    """What a rule answers to each row of a file, and how sure it is.

    Args:
        run: a run folder of ``hansa infer robust``.
        inputs: the clients' probabilities, an array [m, n, K] in a .npy, .npz or .safetensors
            file; or inputs, a table or an array, of which the run's own clients are asked.
        aggregator: the rule; None: the one that is kept.
        f: how many clients may lie; None: as many as in the run.
        margin: answers that are no farther ahead are withheld.

    Returns:
        For each row ``input``, ``class`` (None where it abstains), ``probability``, ``margin``,
        ``certified`` at f, ``f_star``, the largest f at which it is, and ``abstains``.

    Raises:
        CheckpointError: the run has no rules, or they are damaged.
        ConfigError, DataError: the inputs are not what clients take or say.
    """
    return answered(run, inputs, aggregator, f, margin, trust).rows


@without_gradients
def answered(
    run: str | Path,
    inputs: Any,
    aggregator: str | None = None,
    f: int | None = None,
    margin: float = 0.0,
    trust: bool = False,
) -> Predictions:
    """The same as :class:`Predictions`, with figures where examples have labels."""
    card = card_of(run)
    rule = load_aggregator(run, aggregator, trust)
    budget = int(card["f"]) if f is None else f
    if not 0 <= 2 * budget < card["members"]:
        problem = f"of {card['members']} clients is half or more"
        raise ConfigError("f", budget, problem, f"0 to {(card['members'] - 1) // 2}")
    named, rows, labels = _rows(Path(run).expanduser(), inputs, card, trust)
    scores = rule.scores(rows)
    shares = rule.shares(scores)
    ahead = margin_of(shares)
    answered = scores.argmax(-1)
    sure, most = rule.certified(rows, budget), rule.largest_f(rows)
    names = card["class_names"] or list(range(card["classes"]))
    answers = []
    for k in range(len(rows)):
        abstains = bool(ahead[k] <= margin) if margin else False
        answers.append(
            {
                "input": named[k],
                "class": None if abstains else names[int(answered[k])],
                "probability": round(float(shares[k, answered[k]]), 6),
                "margin": round(float(ahead[k]), 6),
                "certified": bool(sure[k]),
                "f_star": int(most[k]),
                "abstains": abstains,
            }
        )
        if labels is not None:
            answers[-1]["label"] = names[labels[k]] if labels[k] >= 0 else None
    judged = of_classes(named, shares.double().numpy(), list(map(str, names)), labels)
    figures = {n: x for n, x in judged.figures.items() if n != "loss"}  # shares need not add up
    return Predictions(answers, figures)


def client_models(run: Path, trust: bool) -> ClientModels | None:
    """The models of the clients that a run has trained; None where it has none."""
    folders = sorted((run / "clients").glob("*/"), key=lambda path: path.name)
    return next((m for m in (ClientModels.load(path, trust) for path in folders) if m), None)


def _rows(
    run: Path, inputs: Any, card: dict[str, Any], trust: bool
) -> tuple[list[str], Tensor, np.ndarray | None]:
    """(names, probabilities [m, n, K], labels): as they are there, or as clients answer."""
    place = Path(inputs).expanduser() if isinstance(inputs, str | Path) else None
    if place is not None and not place.exists():
        raise ConfigError("input", str(place), "there is no such file", "check the path")
    if place is not None and place.is_file() and (rows := _answers(place, card)) is not None:
        return [f"{place}:{k}" for k in range(len(rows))], rows, None
    models = client_models(run, trust)
    if models is None:
        n, classes = card["members"], card["classes"]
        problem = "holds no answers, and the run has no models that could give some"
        raise ConfigError("input", str(place), problem, f"probabilities [m, {n}, {classes}]")
    brought = read(inputs, models.signature)
    return brought.names, shares_of(models.of_stored(brought.stored)), brought.labels


def _answers(place: Path, card: dict[str, Any]) -> Tensor | None:
    """The clients' probabilities in a file, if it holds such; None where it holds inputs."""
    wanted = (card["members"], card["classes"])
    if place.suffix.lower() == ".npy":
        try:
            arrays = {"": np.load(place, allow_pickle=False)}
        except (ValueError, OSError, EOFError) as error:
            raise DataError(f"{place}: cannot be read ({error})") from error
    elif place.suffix.lower() in (".npz", ".safetensors"):
        arrays = read_arrays(place)
    else:
        return None
    fitting = [name for name, array in arrays.items() if np.shape(array)[1:] == wanted]
    if len(fitting) > 1 and "test" in fitting:
        fitting = ["test"]
    if len(fitting) != 1:
        return None
    return probabilities_of(arrays[fitting[0]], f"{place}: {fitting[0]}".removesuffix(": "))
