"""A rule of a run on answers, or on inputs where the run has the clients' models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.errors import ConfigError, DataError
from hansa.base.lazy import without_gradients
from hansa.ensemble.certificates import margin as margin_of
from hansa.infer.robust.cached_scores import probabilities_of, read_arrays
from hansa.infer.robust.client_models import ClientModels
from hansa.infer.robust.rule_store import card_of, load_aggregator
from hansa.infer.robust.trained_clients import shares_of

if TYPE_CHECKING:
    from torch import Tensor


@without_gradients
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
    card, place = card_of(run), Path(inputs).expanduser()
    rule = load_aggregator(run, aggregator, trust)
    budget = int(card["f"]) if f is None else f
    if not 0 <= 2 * budget < card["members"]:
        problem = f"of {card['members']} clients is half or more"
        raise ConfigError("f", budget, problem, f"0 to {(card['members'] - 1) // 2}")
    if not place.is_file():
        raise ConfigError("input", str(place), "there is no such file", "check the path")
    rows = _rows(Path(run).expanduser(), place, card, trust)
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
                "input": f"{place}:{k}",
                "class": None if abstains else names[int(answered[k])],
                "probability": round(float(shares[k, answered[k]]), 6),
                "margin": round(float(ahead[k]), 6),
                "certified": bool(sure[k]),
                "f_star": int(most[k]),
                "abstains": abstains,
            }
        )
    return answers


def _rows(run: Path, place: Path, card: dict[str, Any], trust: bool) -> Tensor:
    """Probabilities [m, n, K] of a file: as they are there, or as the run's clients answer."""
    rows = _answers(place, card)
    if rows is not None:
        return rows
    folders = sorted((run / "clients").glob("*/"), key=lambda path: path.name)
    models = next((m for m in (ClientModels.load(path, trust) for path in folders) if m), None)
    if models is None:
        n, classes = card["members"], card["classes"]
        problem = "holds no answers, and the run has no models that could give some"
        raise ConfigError("input", str(place), problem, f"probabilities [m, {n}, {classes}]")
    return shares_of(models.of_stored(models.read(place)))


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
