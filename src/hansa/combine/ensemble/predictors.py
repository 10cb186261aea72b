"""Models that are fitted: anything with ``fit`` and ``predict_proba`` or ``decision_function``."""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import nn, torch
from hansa.base.modules import load_object
from hansa.combine.ensemble.ensemble_settings import Predictor
from hansa.data import Dataset
from hansa.ensemble import ScoreKind
from hansa.ensemble.alignment import LEAST

if TYPE_CHECKING:
    from torch import Tensor


AGREEING = 200
"""Examples on which a decision function is held to the classes that are predicted."""
OVR = "a score of each class, such as decision_function_shape: ovr; or predict_proba"
_AGREE = 0.75


class Fitted(nn.Module):
    """A fitted predictor as a module: inputs [m, ...] -> log-probabilities [m, C].

    Where one score tells two classes apart it is the log-odds [m, 1].

    Args:
        predictor: what was fitted.
        seen: the classes in the order of the predictor's columns.
        classes: how many there are in all.
        outputs: C.
    """

    def __init__(self, predictor: Any, seen: np.ndarray, classes: int, outputs: int) -> None:
        super().__init__()
        self.predictor, self.seen = predictor, seen
        self.classes, self.outputs = classes, outputs

    @property
    def kind(self) -> ScoreKind:
        """What its scores are."""
        return "log_probabilities" if hasattr(self.predictor, "predict_proba") else "margins"

    def forward(self, x: Tensor) -> Tensor:
        """Scores.

        Raises:
            ConfigError: the predictor does not score each of its classes by a number.
        """
        table = x.flatten(1).cpu().numpy()
        with warnings.catch_warnings():  # fitted on named columns, asked with the same in order
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            if self.kind == "log_probabilities":
                share = np.asarray(self.predictor.predict_proba(table), dtype=np.float64)
                share = np.stack([1 - share, share], axis=1) if share.ndim == 1 else share
            else:
                share = _softmax(np.asarray(self.predictor.decision_function(table), np.float64))
        if share.shape != (len(table), len(self.seen)):
            raise self._unfit(f"answers {list(share.shape)} of {len(table)} examples")
        if not np.isfinite(share).all():
            raise self._unfit("answers with numbers that are not finite")
        whole = np.full((len(table), self.classes), 0.0)
        whole[:, self.seen] = share
        return log_scores(torch.from_numpy(whole), self.outputs).to(x.device)

    def strange_margins(self, x: Tensor) -> str:
        """What is wrong with a decision function whose numbers are not the classes' own: of pairs
        of classes there are three among three classes too. Empty if they are.

        Args:
            x: [m, ...] inputs.
        """
        order = getattr(self.predictor, "classes_", None)
        answers = getattr(self.predictor, "predict", None)
        if self.kind != "margins" or order is None or answers is None or len(self.seen) < 3:
            return ""
        table = x.flatten(1).cpu().numpy()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            scores = np.asarray(self.predictor.decision_function(table))
            said = np.asarray(answers(table))
        if scores.shape != (len(table), len(order)):
            return ""  # told when it is asked
        share = float((np.asarray(order)[scores.argmax(1)] == said).mean())
        if share >= _AGREE:
            return ""
        return (
            f"has a decision_function whose largest number is the class that it predicts for "
            f"{100 * share:.0f} % of {len(table)} examples only: its numbers are not the classes'"
        )

    def _unfit(self, problem: str) -> ConfigError:
        wanted = f"where a score of each of {len(self.seen)} classes is needed"
        name = type(self.predictor).__name__
        return ConfigError("predictors", name, f"{problem} {wanted}", "another classifier")


class Constant(nn.Module):
    """What is left to say for a client that has seen one class only."""

    def __init__(self, label: int, classes: int, outputs: int) -> None:
        super().__init__()
        self.label, self.classes, self.outputs = label, classes, outputs

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        whole = torch.zeros(len(x), self.classes, dtype=torch.float64)
        whole[:, self.label] = 1
        return log_scores(whole, self.outputs).to(x.device)


def log_scores(share: Tensor, outputs: int) -> Tensor:
    """Probabilities [m, classes] -> scores [m, C], none of them infinite."""
    logs = share.clamp(min=LEAST).log()
    return (logs[:, 1:] - logs[:, :1] if outputs == 1 else logs).float()


def fit_predictor(form: Predictor, dataset: Dataset, part: np.ndarray, seed: int) -> nn.Module:
    """A client's predictor, fitted on its examples.

    Raises:
        ConfigError: it cannot be made, or it cannot be fitted on these examples.
    """
    try:
        maker = load_object(form.path)
    except ConfigError as error:
        raise ConfigError("predictors", form.path, error.problem, error.fix) from None
    arguments = dict(form.arguments)
    parameters = inspect.signature(maker).parameters
    if "random_state" in parameters and "random_state" not in arguments:
        arguments["random_state"] = seed % 2**32
    spec = dataset.spec
    x, y = dataset.gather(dataset.train, torch.from_numpy(part))
    targets = y.cpu().numpy()
    seen = np.unique(targets)
    if len(seen) == 1:
        return Constant(int(seen[0]), spec.classes, spec.outputs)
    # Some take no other labels than 0, 1, ...; where they are that already, they stay.
    codes = np.searchsorted(seen, targets)
    try:
        predictor = maker(**arguments)
        predictor.fit(x.flatten(1).cpu().numpy(), codes)
    except (TypeError, ValueError, AttributeError) as error:
        problem = f"cannot be fitted on {len(part)} examples: {error}"
        raise ConfigError("predictors", form.path, problem, "check its arguments") from error
    if not hasattr(predictor, "predict_proba") and not hasattr(predictor, "decision_function"):
        problem = "has neither predict_proba nor decision_function"
        raise ConfigError("predictors", form.path, problem, "a classifier that scores classes")
    if hasattr(predictor, "classes_"):
        seen = seen[np.asarray(predictor.classes_, dtype=np.int64)]
    fitted = Fitted(predictor, seen, spec.classes, spec.outputs)
    if problem := fitted.strange_margins(x[:AGREEING]):
        raise ConfigError("predictors", form.path, problem, OVR)
    return fitted


def _softmax(scores: np.ndarray) -> np.ndarray:
    if scores.ndim == 1:  # one score for two classes
        scores = np.stack([np.zeros_like(scores), scores], axis=1)
    odds = np.exp(scores - scores.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)
