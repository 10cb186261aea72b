"""What published methods get: the run's own local work, and updates that count as often as due."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hansa.base.errors import ConfigError
from hansa.engine import Step
from hansa.experiment import run
from hansa.forget import FedEraser, Federation, GradientAscent, ProjectedAscent, Request, Retrain
from hansa.forget.case import Case
from hansa.forget.federaser import stored_rounds
from hansa.forget.original_training import OriginalTraining, local_steps
from hansa.forget.playing import tried
from hansa.forget.trained import Trained, open_trained
from hansa.learn.federated.server_optimizers import Average, Momentum, ServerAdam

from .conftest import SETTINGS, forgotten

EPOCHS = {
    "local_epochs": 2,
    "batch_size": 16,
    "drop_last": False,
    "clip_norm": 2.0,
    "strategy": "looped",
    "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.5, "weight_decay": 0.01},
    "schedule": {"name": "step", "milestones": [1], "gamma": 0.5},
}


def in_epochs(algorithm: str, rounds: int) -> dict[str, Any]:
    how = {"name": algorithm} | ({"distil": False} if algorithm == "quickdrop" else {})
    return {**SETTINGS, "algorithm": how, "rounds": rounds, "train": EPOCHS}


# -- updates that were kept every k rounds


@settings(max_examples=25, deadline=None)
@given(
    every=st.integers(1, 5),
    rounds=st.integers(1, 9),
    calibrate=st.booleans(),
    server=st.sampled_from([Average(), Average(lr=0.5), Momentum(), ServerAdam()]),
)
def test_constant_updates_kept_now_and_then_count_as_all_of_them(
    opened: Trained, every: int, rounds: int, calibrate: bool, server: Any
) -> None:
    direction = torch.randn(opened.row.shape, generator=torch.manual_seed(0))
    with pytest.MonkeyPatch.context() as patch:

        def train(self: Any, row: Tensor, held: Any, t: int, share: float) -> Any:
            yield from ()
            return [row + share * direction for _ in held]

        patch.setattr(OriginalTraining, "train", train)
        found = []
        for k in (1, every):
            case = opened.case(Request.of(clients=[1]))
            algorithm = case.job.algorithm.model_copy(update={"server": server})
            case = replace(case, job=replace(case.job, algorithm=algorithm), done=rounds)
            one = 0.01 * direction[: case.server.trainer.layout.trainable]
            updates = one.expand(-(-rounds // k), 5, -1)
            method = FedEraser(calibrate=calibrate)
            rebuilt, _ = tried(case, method.forget, updates=updates, updates_every=k)
            found.append(rebuilt)
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)
    layout = case.server.trainer.layout
    assert not torch.equal(found[0], layout.flatten(case.job.module))


@given(every=st.integers(1, 7), rounds=st.integers(1, 20))
def test_the_kept_rounds_stand_for_all_that_were_done(every: int, rounds: int) -> None:
    spans = [(t, span) for t, span, _ in stored_rounds(torch.zeros(99, 5, 1), every, rounds)]
    assert [t + i for t, span in spans for i in range(span)] == list(range(rounds))


def test_a_run_that_kept_every_third_update_is_rebuilt_as_far_as_training_went(
    tmp_path: Path,
) -> None:
    """8 rounds, three kept: they stand for 3, 3 and 2; added once each they lose the model."""
    chosen = {**SETTINGS, "algorithm": {"name": "quickdrop", "distil": False, "keep_updates": 3}}
    trained = open_trained(run(chosen, tmp_path / "run", report=False).path)
    layout = trained.server.trainer.layout
    initial = layout.flatten(trained.job.module)
    rebuilt, story, fed = forgotten(trained.case(Request()), FedEraser(calibrate=False))
    assert story["rounds"] == 3
    went, should = rebuilt - initial, trained.row - initial
    assert float(went.norm() / should.norm()) == pytest.approx(1, abs=0.35)
    weights = torch.tensor([3.0, 3.0, 2.0])
    mass = torch.tensor([len(part) for part in trained.job.parts], dtype=torch.float64)
    means = torch.einsum("scp,c->sp", fed.updates.double(), mass / mass.sum())
    size = layout.trainable
    expected = initial[:size] + (weights.double() @ means).float()
    torch.testing.assert_close(rebuilt[:size], expected, rtol=1e-4, atol=1e-5)


def test_an_update_stands_for_rounds_at_the_rates_that_they_had(opened: Trained) -> None:
    """Updates as long as a halving rate makes them are rebuilt from the first of each pair."""
    case = opened.case(Request.of(clients=[1]))
    halving = Step(milestones=(1, 2, 3, 5), gamma=0.5)
    train = case.job.train.model_copy(update={"schedule": halving})
    case = replace(case, job=replace(case.job, train=train), done=6)
    size = case.server.trainer.layout.trainable
    one = torch.randn(size, generator=torch.Generator().manual_seed(1))
    every = torch.stack([halving.factor(t, 6) * one for t in range(6)])
    found = []
    for k in (1, 2):
        updates = every[::k].unsqueeze(1).expand(-1, 5, -1)
        method = FedEraser(calibrate=False)
        found.append(tried(case, method.forget, updates=updates, updates_every=k)[0])
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)
    sparse = case.job.algorithm.model_copy(update={"keep_updates": 2})
    few = replace(case, job=replace(case.job, algorithm=sparse))
    assert any("only 3 of 6 rounds" in line for line in FedEraser().caveats(few))


def test_what_else_was_forgotten_before_is_not_added_up_again(opened: Trained) -> None:
    case = replace(opened.case(Request.of(clients=[1])), past=Request.of(classes=[3]))
    with pytest.raises(ConfigError, match="class 3"):
        FedEraser(calibrate=False).check(case)
    row, _, fed = forgotten(case, FedEraser())
    test = opened.job.dataset.test
    index = torch.nonzero(test.targets == 3).flatten()
    said = fed.network.logits(row, opened.job.dataset.gather(test, index)[0])
    assert not (said.argmax(1) == 3).any()


# -- the run's own local work


@pytest.mark.parametrize("algorithm", ["fedavg", "quickdrop"])
def test_one_more_round_is_the_next_round_of_a_longer_run(algorithm: str, tmp_path: Path) -> None:
    """Epochs, momentum, decay, clipping and schedule are those of the run, by its own engine."""
    # Both add up in their own order, and at the rate of the other tests two epochs may turn a last
    # bit into a thousandth, which depends on the processor.
    slow = {**EPOCHS, "optimizer": {**EPOCHS["optimizer"], "lr": 0.01}}
    short, longer = (
        open_trained(
            run({**in_epochs(algorithm, n), "train": slow}, tmp_path / str(n), report=False).path
        )
        for n in (2, 3)
    )

    def another(fed: Federation) -> Any:
        training = OriginalTraining(fed)
        everyone = yield from fed.real(forget=False)
        models = yield from training.another_round(fed.row, everyone)
        return fed.average(models, training.masses(everyone))

    found = tried(short.case(Request()), another)
    torch.testing.assert_close(found, longer.row, rtol=1e-4, atol=1e-5)


def test_baselines_take_the_epochs_and_the_rate_of_the_run(tmp_path: Path) -> None:
    chosen = in_epochs("quickdrop", 2)
    chosen["algorithm"] = {"name": "quickdrop", "distil": False, "keep_updates": 1}
    trained = open_trained(run(chosen, tmp_path / "run", report=False).path)
    case = trained.case(Request.of(clients=[1]))
    sizes = {c: len(part) for c, part in enumerate(case.remaining(case.job.parts)) if len(part)}
    steps = [local_steps(case.plan, c, size, 0) for c, size in sizes.items()]
    assert steps == [2 * -(-size // 16) for size in sizes.values()]
    assert [case.plan.rate(t) for t in (0, 1, 7)] == pytest.approx([0.1, 0.05, 0.05])
    spent = {}
    for method, phase in ((FedEraser(share=0.5), "erasing"), (ProjectedAscent(), "reference")):
        fed = forgotten(case, method)[2]
        spent[phase] = fed.ledger.phases[phase].sample_gradients
    batches = [sum(min(n, 16) for n in _by_class(case, c)) for c in sizes]
    whole = sum(map(lambda s, b: s * b, steps, batches))
    assert spent["reference"] == whole
    # The first stored round is taken as it is, the second repeated in half its steps.
    assert spent["erasing"] == sum(
        max(1, round(s / 2)) * b for s, b in zip(steps, batches, strict=True)
    )


def _by_class(case: Case, client: int) -> list[int]:
    labels = case.job.dataset.train.targets[torch.from_numpy(case.job.parts[client])]
    return labels.unique(return_counts=True)[1].tolist()


def test_uniform_weighting_holds_when_baselines_average(opened: Trained) -> None:
    case = opened.case(Request.of(clients=[1]))
    alike = case.job.algorithm.model_copy(update={"weighting": "uniform"})

    def masses(fed: Federation) -> Any:
        return OriginalTraining(fed).masses((yield from fed.real(forget=False)))

    assert set(tried(replace(case, job=replace(case.job, algorithm=alike)), masses)) == {1.0}


def test_ascent_on_originals_recovers_in_short_rounds() -> None:
    assert (GradientAscent().recovery.rounds, GradientAscent().recovery.steps) == (10, 2)


def test_the_oracle_asks_for_no_more_updates_than_there_are_clients(tmp_path: Path) -> None:
    chosen = {**SETTINGS, "rounds": 1, "evaluate": {"every": 1}, "checkpoint": {"every": 1}}
    chosen["algorithm"] = {"name": "fedavg", "min_updates": 5}
    trained = open_trained(run(chosen, tmp_path / "run", report=False).path)
    again = Retrain().train_again(trained.case(Request.of(clients=[0])), tmp_path / "again")
    assert again.story["clients"] == 4
