"""A student learns what its teachers answer, on the very inputs that they see (check B-5)."""

import copy
import hashlib
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from hansa.base.errors import Diverged
from hansa.base.spec import DataSpec
from hansa.base.streams import Streams
from hansa.data import Digits
from hansa.ensemble import (
    Distillation,
    Ensemble,
    Examples,
    Weighted,
    distill,
    label_weights,
    logits_of,
)
from hansa.ensemble.distillation import distance
from hansa.models import MLP, GNLeNet, ResNet8

SPEC = DataSpec("image", (1, 8, 8), 10)


def network(seed: int, spec: DataSpec = SPEC, kind: type = MLP) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return kind().build(spec)


def pixels(count: int, *shape: int) -> Tensor:
    return torch.rand(count, *(shape or (1, 8, 8)), generator=torch.Generator().manual_seed(2))


def digest(x: Tensor) -> str:
    return hashlib.sha256(x.detach().contiguous().numpy().tobytes()).hexdigest()


def state(module: nn.Module) -> Tensor:
    return torch.cat([value.flatten().float() for value in module.state_dict().values()])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def noise(x: Tensor, random: np.random.Generator) -> Tensor:
    return x + torch.from_numpy(random.normal(size=x.shape)).float()


class Watching(nn.Module):
    """A network that notes which pixels it sees, and in which mode."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.seen: list[str] = []
        self.modes: set[bool] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(digest(x))
        self.modes.add(self.training)
        return self.inner(x)


def test_teacher_and_student_see_the_same_pixels() -> None:
    teacher, student = Watching(network(1)), Watching(network(2))
    settings = Distillation(epochs=3, batch_size=16)
    distill(student, pixels(40), Ensemble([teacher]), settings, rng(), augment=noise)
    assert len(student.seen) == 9
    assert teacher.seen == student.seen
    assert len(set(student.seen)) == 9  # augmented anew in every epoch
    assert (teacher.modes, student.modes) == ({False}, {True})


def test_without_augmentation_the_teacher_is_asked_once() -> None:
    teacher = Watching(network(1))
    distill(
        network(2), pixels(40), Ensemble([teacher]), Distillation(epochs=5, batch_size=16), rng()
    )
    assert len(teacher.seen) == 3


@pytest.mark.parametrize(("loss", "tolerance"), [("mse", 1e-5), ("l1", 1e-3)])
def test_it_is_a_plain_loop_of_adam(loss: str, tolerance: float) -> None:
    """L1's signs cancel exactly or up to rounding, which Adam turns into parts of a step."""
    power = 1 if loss == "l1" else 2
    x, answers = pixels(50), torch.randn(50, 10, generator=torch.Generator().manual_seed(0))
    student = network(3)
    reference = copy.deepcopy(student)
    random = rng(9)
    settings = Distillation.model_validate({"loss": loss, "epochs": 4, "batch_size": 16})
    history = distill(student, x, answers, settings, random)
    random = rng(9)
    random.integers(2**63)  # the student's own chance
    adam = torch.optim.Adam(reference.parameters(), lr=1e-3, betas=(0.9, 0.999))
    for epoch in range(4):
        order, total = random.permutation(50), 0.0
        for start in range(0, 50, 16):
            batch = order[start : start + 16]
            adam.zero_grad()
            gaps = [(reference(x[i : i + 1])[0] - answers[i]).abs() for i in batch.tolist()]
            mean = torch.stack(gaps).pow(power).sum() / (len(batch) * 10)
            mean.backward()
            adam.step()
            total += mean.item() * len(batch)
        assert history[epoch] == pytest.approx(total / 50, rel=1e-3)
    assert torch.allclose(state(student), state(reference), atol=tolerance)


def test_slices_of_a_convolutional_batch_give_the_same_steps() -> None:
    spec = DataSpec("image", (3, 16, 16), 4)
    x = pixels(150, 3, 16, 16)
    # Fixed: where a gradient is all but 0, Adam's first steps make much of its rounding.
    answers = torch.randn(150, 4, generator=torch.Generator().manual_seed(2))
    student = network(1, spec, GNLeNet)
    reference = copy.deepcopy(student)
    adam = torch.optim.Adam(reference.parameters(), lr=1e-3)
    for _ in range(2):
        adam.zero_grad()
        (reference(x) - answers).square().mean().backward()
        adam.step()
    distill(student, x, answers, Distillation(loss="mse", epochs=2), rng())
    assert torch.allclose(state(student), state(reference), atol=1e-5)


def test_the_gradient_of_l1_is_a_sign() -> None:
    scores = torch.tensor([[1.0, -2.0], [0.5, 3.0]], requires_grad=True)
    distance(scores, torch.tensor([[2.0, -3.0], [0.0, 9.0]]), Distillation()).backward()
    assert scores.grad is not None
    assert (scores.grad * 4).tolist() == [[-1, 1], [1, -1]]


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_losses_in_plain_numbers(temperature: float) -> None:
    student, teacher = torch.randn(5, 4), torch.randn(5, 4)
    p, q = (F.softmax(scores / temperature, -1) for scores in (teacher, student))
    wanted = {
        "l1": sum(abs(a - b) for a, b in zip(student.ravel(), teacher.ravel(), strict=True)) / 20,
        "mse": sum((a - b) ** 2 for a, b in zip(student.ravel(), teacher.ravel(), strict=True))
        / 20,
        "kl": temperature**2 * (p * (p / q).log()).sum() / 5,
    }
    for name, value in wanted.items():
        settings = Distillation.model_validate({"loss": name, "temperature": temperature})
        assert distance(student, teacher, settings).item() == pytest.approx(float(value), rel=1e-4)


@pytest.mark.parametrize("loss", ["l1", "mse", "kl"])
@pytest.mark.parametrize("target", ["logits", "log_probabilities"])
def test_a_perfect_student_has_nothing_to_learn(loss: str, target: str) -> None:
    teacher = network(1)
    settings = Distillation.model_validate({"loss": loss, "target": target, "epochs": 1})
    history = distill(copy.deepcopy(teacher), pixels(20), Ensemble([teacher]), settings, rng())
    assert history[0] == pytest.approx(0, abs=1e-6)


def test_log_probabilities_are_those_of_each_model() -> None:
    teachers = [network(1), network(2)]
    settings = Distillation(target="log_probabilities", epochs=1)
    student = network(3)
    x = pixels(30)
    with torch.no_grad():
        logs = [torch.log_softmax(model(x), -1) for model in (*teachers, student)]
    history = distill(student, x, Ensemble(teachers), settings, rng())
    wanted = (logs[2] - (logs[0] + logs[1]) / 2).abs().mean()
    assert history[0] == pytest.approx(wanted.item(), rel=1e-5)


def test_the_generator_alone_decides() -> None:
    student = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Dropout(0.5), nn.Linear(32, 10))
    x, teacher = pixels(40), Ensemble([network(1)])
    found = []
    for seed, noise_before in ((1, 0), (1, 5), (2, 0)):
        torch.rand(noise_before)
        mine = copy.deepcopy(student)
        outside = torch.random.get_rng_state()
        distill(mine, x, teacher, Distillation(epochs=2, batch_size=8), rng(seed), augment=noise)
        assert torch.equal(outside, torch.random.get_rng_state())
        found.append(state(mine))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_batch_norm_sees_whole_batches_and_modes_come_back() -> None:
    spec = DataSpec("image", (3, 16, 16), 4)
    student = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(784, 4))
    student[1].eval()
    x = pixels(100, 3, 16, 16)
    distill(student, x, Ensemble([network(1, spec)]), Distillation(epochs=1), rng())
    assert student[1].num_batches_tracked.item() == 1
    assert [part.training for part in student] == [True, False, True, True]


def test_progress_and_falling_loss() -> None:
    told: list[tuple[int, float]] = []
    settings = Distillation(epochs=20, batch_size=16)
    history = distill(
        network(2),
        pixels(60),
        Ensemble([network(1)]),
        settings,
        rng(),
        progress=lambda done, loss: told.append((done, loss)),
    )
    assert told == list(enumerate(history, start=1))
    assert history[-1] < history[0] / 2


@pytest.mark.parametrize(
    ("inputs", "teacher", "augment", "words"),
    [
        (pixels(0), Ensemble([network(1)]), None, "nothing to distil"),
        (pixels(4), torch.zeros(5, 10), None, "5 answers to 4 inputs"),
        (pixels(4), torch.zeros(4, 10), noise, "wrong for augmented"),
    ],
)
def test_what_cannot_be_distilled(inputs: Any, teacher: Any, augment: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        distill(network(2), inputs, teacher, Distillation(), rng(), augment=augment)


def test_a_loss_that_is_not_finite_stops_it() -> None:
    with pytest.raises(Diverged, match="distillation"):
        distill(network(2), pixels(4), torch.full((4, 10), torch.nan), Distillation(), rng())


@pytest.mark.parametrize("wrong", [{"loss": "l3"}, {"epochs": 0}, {"rate": 1}, {"temperature": 0}])
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Distillation.model_validate(wrong)


def test_a_student_tracks_its_teachers_on_digits() -> None:
    """Two teachers of five classes each; the student answers for all ten within a point or so."""
    streams = Streams(4)
    data = Digits(public=0.25).load(streams)
    assert data.public is not None
    x, y = data.gather(data.train, torch.arange(len(data.train)))
    test, truth = data.gather(data.test, torch.arange(len(data.test)))
    teachers, counts = [], []
    for half in (0, 1):
        model, mine = network(half), (y >= 5) == bool(half)
        adam = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(60):
            adam.zero_grad()
            F.cross_entropy(model(x[mine]), y[mine]).backward()
            adam.step()
        teachers.append(model)
        counts.append(np.bincount(y[mine], minlength=10))
    ensemble = Ensemble(teachers, Weighted(label_weights(np.stack(counts))))
    public = data.public
    inputs = Examples(len(public), lambda index: data.gather(public, index)[0])
    student = network(7)
    distill(student, inputs, ensemble, Distillation(batch_size=32), rng())
    accuracy = (ensemble(test).argmax(1) == truth).float().mean().item()
    learnt = (student(test).argmax(1) == truth).float().mean().item()
    single = [
        (scores.argmax(1) == truth).float().mean().item() for scores in logits_of(teachers, test)
    ]
    assert accuracy > max(single) + 0.1
    assert abs(learnt - accuracy) < 0.03


def test_a_residual_network_learns_too() -> None:
    spec = DataSpec("image", (3, 32, 32), 10)
    student = network(0, spec, ResNet8)
    x = pixels(32, 3, 32, 32)
    history = distill(
        student, x, Ensemble([network(1, spec, GNLeNet)]), Distillation(epochs=3), rng()
    )
    assert history[-1] < history[0]
