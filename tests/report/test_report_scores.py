"""How figures are read: what metrics say of themselves, those of before and a user's own."""

import pytest

from hansa.report import scores as room
from hansa.report.scores import declare, higher_is_better, is_share, says_how_good, scores
from hansa.report.units import label, quantity


@pytest.fixture(autouse=True)
def _nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_told", {})


def test_built_in_metrics_are_known_without_a_run() -> None:
    assert scores(["train_loss", "loss", "rounds", "accuracy", "accuracy_std"]) == [
        "accuracy",
        "loss",
    ]
    assert scores(["loss", "rmse"]) == ["rmse", "loss"]
    for name in ("accuracy", "validation_accuracy", "f1_average_model", "recall_3_per_client"):
        assert is_share(name)
        assert higher_is_better(name)
    assert is_share("calibration_error")
    assert not higher_is_better("calibration_error")
    assert not is_share("loss")
    assert not is_share("bytes_sent")
    assert label("validation_rmse") == "validation RMSE"
    assert label("auroc_average_model") == "AUROC of the averaged model"
    assert quantity(0.5, "f1_per_client") == "50.00 %"
    assert says_how_good("validation_loss")
    assert not says_how_good("train_loss")


def test_a_run_says_how_its_own_are_read() -> None:
    lower = {"better": "lower", "share": False, "label": "MRR", "rank": 0}
    declare({"rank_error": lower, "loss": {**lower, "label": "", "rank": 1}})
    assert scores(["loss", "rank_error", "accuracy_x"]) == ["rank_error", "loss"]
    assert label("rank_error_average_model") == "rank error of the averaged model"
    declare({"mrr": {**lower, "better": "higher"}})
    assert label("validation_mrr") == "validation MRR"
    assert higher_is_better("mrr_per_client")
