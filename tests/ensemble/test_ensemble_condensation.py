"""Gradient matching: the distance, its gradient in the pixels, and what the images come to."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hansa.base.spec import DataSpec
from hansa.base.streams import Streams
from hansa.data import Digits
from hansa.ensemble.condensation import (
    Cells,
    Condensation,
    gradient_distance,
    image_step_,
    matched_rows,
    nearest,
    output_layer,
    row_distance,
    set_sizes,
)
from hansa.ensemble.synthetic import SyntheticLayout
from hansa.models import ConvNet, initial_model


def each(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(outputs, targets, reduction="none")


def some_gradients(seed: int = 0) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    shapes = {"conv": (4, 3, 3, 3), "norm": (4,), "layer": (5, 2, 2), "out": (10, 7), "bias": (10,)}
    return {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}


def test_distance_matches_a_plain_loop_and_its_laws() -> None:
    a, b = some_gradients(0), some_gradients(1)
    rows = 4 + 5 + 10
    expected = 0.0
    for name in ("conv", "layer", "out"):
        for u, v in zip(a[name].flatten(1).numpy(), b[name].flatten(1).numpy(), strict=True):
            expected += 1 - float(u @ v) / (np.linalg.norm(u) * np.linalg.norm(v) + 1e-6)
    assert float(gradient_distance(a, b)) == pytest.approx(expected, rel=1e-5)
    assert float(gradient_distance(a, a)) == pytest.approx(0, abs=1e-4 * rows)
    opposite = {name: -value for name, value in a.items()}
    assert float(gradient_distance(a, opposite)) == pytest.approx(2 * rows, rel=1e-4)
    scaled = {n: v * (torch.rand(len(v), *[1] * (v.ndim - 1)) + 0.5) for n, v in a.items()}
    assert float(gradient_distance(a, scaled)) == pytest.approx(0, abs=1e-4 * rows)
    other_bias = a | {"bias": a["bias"] + 3, "norm": a["norm"] - 1}
    assert float(gradient_distance(a, other_bias)) == pytest.approx(0, abs=1e-4 * rows)


def test_the_other_distances() -> None:
    a, b = some_gradients(0), some_gradients(1)
    u, v = (torch.cat([g.flatten() for g in x.values()]) for x in (a, b))
    assert float(gradient_distance(a, b, "mse")) == pytest.approx(
        float((u - v) @ (u - v)), rel=1e-5
    )
    cosine = float(F.cosine_similarity(u, v, dim=0))
    assert float(gradient_distance(a, b, "cos")) == pytest.approx(1 - cosine, abs=1e-5)


@pytest.mark.parametrize(
    ("distance", "match"),
    [("rows", "gradients"), ("mse", "gradients"), ("cos", "gradients"), ("rows", "output"),
     ("rows", "features")],
)  # fmt: skip
def test_pixel_gradients_are_those_of_finite_differences(distance: str, match: str) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    cells = Cells(module, each, distance, match)  # type: ignore[arg-type]
    state = {n: p.detach().unsqueeze(0) for n, p in module.named_parameters()}
    x, y = torch.randn(1, 8, 6, dtype=torch.float64), torch.full((1, 8), 1)
    _, _, target = cells.real(state, x, y, torch.full((1, 8), 1 / 8, dtype=torch.float64))
    images, weight = torch.randn(1, 2, 6).double(), torch.full((1, 2), 0.5, dtype=torch.float64)
    labels = torch.full((1, 2), 1)
    found, _ = cells.mismatch(images, state, labels, weight, target)
    for k in range(12):
        shift = torch.zeros(12, dtype=torch.float64)
        shift[k] = 1e-5
        shift = shift.view(1, 2, 6)
        up, down = (
            float(cells.mismatch(images + s, state, labels, weight, target)[1])
            for s in (shift, -shift)
        )
        slope = (up - down) / 2e-5
        assert float(found.flatten()[k]) == pytest.approx(slope, rel=1e-4, abs=1e-6)


def test_the_cheaper_matches_are_what_they_say() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    state = {n: p.detach().expand(2, *p.shape).clone() for n, p in module.named_parameters()}
    x, y, weight = torch.randn(2, 8, 6), torch.randint(3, (2, 8)), torch.full((2, 8), 1 / 8)
    images, labels, half = torch.randn(2, 2, 6), torch.zeros(2, 2).long(), torch.full((2, 2), 0.5)
    for match in ("output", "features"):
        cells = Cells(module, each, match=match)  # type: ignore[arg-type]
        grads, _, target = cells.real(state, x, y, weight)
        _, found = cells.mismatch(images, state, labels, half, target)
        for k in range(2):
            if match == "features":
                mine, its = (module[:2](part[k]).mean(0) for part in (images, x))
                expected = (mine - its).square().sum()
            else:
                loss = F.cross_entropy(module(images[k]), labels[k])
                mine = torch.autograd.grad(loss, module[2].weight)[0]
                expected = row_distance(mine, grads["2.weight"][k])
            assert float(found[k]) == pytest.approx(float(expected.detach()), rel=1e-4)
        alone = cells.real(state, x, y, weight, apart=True)
        torch.testing.assert_close(alone, (grads, alone[1], target))
    assert matched_rows(module) == 8
    assert matched_rows(module, "output") == 3
    assert output_layer(nn.Sequential(nn.Conv2d(1, 1, 1))) is None


def test_filling_does_not_count() -> None:
    torch.manual_seed(0)
    module = nn.Linear(4, 3)
    cells = Cells(module, each)
    state = {n: p.detach().unsqueeze(0) for n, p in module.named_parameters()}
    x, y = torch.randn(1, 3, 4), torch.tensor([[0, 0, 0]])
    some, _ = cells.gradients(state, x[:, :2], y[:, :2], torch.full((1, 2), 0.5))
    all_, _ = cells.gradients(state, x, y, torch.tensor([[0.5, 0.5, 0.0]]))
    for name, value in some.items():
        torch.testing.assert_close(all_[name], value)
    found, _ = cells.mismatch(x, state, y, torch.tensor([[0.5, 0.5, 0.0]]), some)
    assert not found[0, 2].any()


def test_images_of_noise_come_to_match_the_gradients_of_digits() -> None:
    data = Digits(normalize="standardize").load(Streams(0))
    module = initial_model(ConvNet(depth=2, width=16), data.spec, Streams(0))
    assert matched_rows(module) == 42
    cells, how = Cells(module, each), Condensation(initial="noise", weight_decay=0)
    labels = data.train.targets.numpy()
    index = np.stack([np.flatnonzero(labels == c)[:64] for c in range(10)])
    x, y = data.gather(data.train, torch.from_numpy(index))
    state = {n: p.detach().expand(10, *p.shape) for n, p in module.named_parameters()}
    target, _ = cells.gradients(state, x, y, torch.full((10, 64), 1 / 64))
    images = torch.randn(10, 5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    velocity, weight = torch.zeros_like(images), torch.full((10, 5), 0.2)
    course = []
    for _ in range(51):
        grads, distances = cells.mismatch(images, state, y[:, :5], weight, target)
        course.append(float(distances.mean()))
        image_step_(images, grads, velocity, how)
    assert 20 < course[0] < 30
    assert course[50] < 0.35 * course[0]


def test_a_step_on_the_pixels_is_torchs_and_is_clamped() -> None:
    how = Condensation(lr=0.1, momentum=0.5, weight_decay=0.01)
    start = torch.randn(3, 4)
    pixels = start.clone().requires_grad_()
    theirs = torch.optim.SGD([pixels], lr=0.1, momentum=0.5, weight_decay=0.01)
    ours, velocity = start.clone(), torch.zeros(3, 4)
    for k in range(4):
        grad = torch.full((3, 4), float(k))
        pixels.grad = grad.clone()
        theirs.step()
        image_step_(ours, grad, velocity, how)
    torch.testing.assert_close(ours, pixels.detach())
    image_step_(ours, torch.zeros(3, 4), velocity, how, (torch.tensor(-0.1), torch.tensor(0.1)))
    assert float(ours.abs().max()) <= 0.1 + 1e-6


def test_sizes_are_rounded_up_and_rows_find_their_images() -> None:
    counts = np.array([[0, 1, 100, 101], [7, 0, 0, 700]])
    assert set_sizes(counts, 0.01).tolist() == [[0, 1, 1, 2], [1, 0, 0, 7]]
    assert set_sizes(np.array([100]), 0.07).tolist() == [7]
    layout = SyntheticLayout.of(counts, 0.01, (1, 2, 2))
    assert layout.width == 8 * 4
    row = torch.arange(32.0)
    assert layout.images(row, 0).shape == (4, 1, 2, 2)
    assert layout.labels(0).tolist() == [1, 2, 3, 3]
    assert layout.images(row, 0)[layout.places(0, 3)].flatten().tolist() == list(range(8, 16))


def test_nearest_names_the_copy() -> None:
    examples = torch.randn(20, 1, 4, 4)
    apart, which = nearest(examples[7:8] + 1e-4, examples)
    assert which.tolist() == [7]
    assert float(apart) < 1e-3


@pytest.mark.parametrize(("shape", "parameters"), [((3, 32, 32), 320_010), ((1, 28, 28), 317_706)])
def test_convnet_has_the_published_size(shape: tuple[int, ...], parameters: int) -> None:
    module = ConvNet().build(DataSpec("image", shape, 10))
    assert sum(p.numel() for p in module.parameters()) == parameters
    assert module(torch.zeros(2, *shape)).shape == (2, 10)
