"""QuickDrop's training: the same model with and without distilling, and what it distils."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hansa.base.errors import ConfigError
from hansa.engine.history import UPDATES
from hansa.ensemble.synthetic import SHELF, SyntheticLayout
from hansa.models import ParameterLayout

QUICK: dict[str, Any] = {
    "rounds": 3,
    "nodes": 5,
    "algorithm": {"name": "quickdrop", "condensation": {"scale": 0.02}},
    "data": {
        "name": "digits",
        "partition": {"name": "dirichlet", "alpha": 0.2, "draw": "class", "min_samples": 8},
    },
    "train.batch_size": 8,
    "train.drop_last": False,
    "train.optimizer": {"name": "sgd", "lr": 0.05},
    "evaluate": {"every": 3},
}


@pytest.mark.parametrize(
    "how",
    [{"scale": 0.02}, {"match": "output"}, {"match": "features"}, {"every": 2}],
    ids=lambda how: "-".join(map(str, *how.items())),
)
def test_the_model_is_the_same_bit_for_bit_with_and_without_distilling(make_job, host, how) -> None:
    way = {"name": "quickdrop", "condensation": how}
    with_images, _ = host(make_job(QUICK | {"algorithm": way}))
    without, _ = host(make_job(QUICK | {"algorithm": way | {"distil": False}}))
    assert torch.equal(with_images.rows, without.rows)
    assert len(with_images.shelves[SHELF]) == 5
    assert SHELF not in without.shelves


def test_convolutions_one_by_one_give_what_all_at_once_do(make_job, host, monkeypatch) -> None:
    changes = QUICK | {"rounds": 1, "model": {"name": "convnet", "depth": 2, "width": 4}}
    stacked, _ = host(make_job(changes))
    monkeypatch.setattr("hansa.learn.federated.cells._APART_PIXELS", 0)
    apart, _ = host(make_job(changes))
    torch.testing.assert_close(apart.rows, stacked.rows, rtol=1e-4, atol=1e-6)


def test_images_move_at_every_so_many_th_step_of_the_run(make_job, host) -> None:
    work = {}
    for every in (1, 2, 100):
        how = {"scale": 0.02, "every": every}
        way = {"name": "quickdrop", "condensation": how}
        block, reports = host(make_job(QUICK | {"rounds": 2, "algorithm": way}))
        work[every] = reports[-1]["values"]["distillation_work_factor"][:5]
        assert block.rows.isfinite().all()
    np.testing.assert_allclose(work[2] - 1, (work[1] - 1) / 2)
    np.testing.assert_allclose(work[100], 1)  # in the first round alone


def test_a_round_is_class_stratified_gradient_descent(make_job, host) -> None:
    job = make_job(QUICK | {"rounds": 1})
    block, _ = host(job)
    layout, targets = ParameterLayout.of(job.module), job.dataset.train.targets.numpy()
    total, mean = sum(map(len, job.parts)), torch.zeros(layout.size, dtype=torch.float64)
    for client, part in enumerate(job.parts):
        module = copy.deepcopy(job.module)
        random = job.streams.numpy("quickdrop.batches", client, 0)
        drawn = []
        for label in np.unique(targets[part]):
            members = part[targets[part] == label]
            size = min(len(members), 8)
            drawn.append((members, [random.choice(members, size, replace=False) for _ in "ab"]))
        for step in range(2):
            module.zero_grad()
            for members, batches in drawn:
                x, y = job.dataset.gather(job.dataset.train, torch.from_numpy(batches[step]))
                loss = F.cross_entropy(module(x), y) * (len(members) / len(part))
                loss.backward()
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter -= 0.05 * parameter.grad
        mean += layout.flatten(module).double() * (len(part) / total)
    torch.testing.assert_close(block.rows[0].double(), mean, rtol=1e-4, atol=1e-6)


def test_images_are_as_many_as_the_scale_says_and_move(make_job, host) -> None:
    job = make_job(QUICK)
    block, reports = host(job)
    layout = SyntheticLayout.of(job.roster.labels[:5], 0.02, job.dataset.spec.shape)
    ids, rows = block.shelves[SHELF].all()
    assert ids.tolist() == [0, 1, 2, 3, 4]
    assert rows.shape[1] == layout.width
    examples = job.dataset.gather(job.dataset.train, torch.arange(len(job.dataset.train)))[0]
    for client, row in zip(ids.tolist(), rows, strict=True):
        images = layout.images(row, client)
        assert not row[images.numel() :].any()
        assert images.min() >= examples.min() - 1e-6
        assert images.max() <= examples.max() + 1e-6
    first, last = (reports[k]["values"]["distillation_distance"] for k in (0, -1))
    assert np.nanmean(last) < np.nanmean(first)


def test_nothing_made_of_the_images_is_sent(make_job, host) -> None:
    quick, _ = host(make_job(QUICK))
    plain, _ = host(make_job(QUICK | {"algorithm": "fedavg"}))
    for counter in ("messages_sent", "bytes_sent", "bytes_received"):
        assert torch.equal(quick.state[counter], plain.state[counter])


def test_a_split_of_the_clients_changes_nothing(make_job, host, host_apart) -> None:
    whole, _ = host(make_job(QUICK))
    rows, _, _ = host_apart(lambda: make_job(QUICK), 2)
    torch.testing.assert_close(rows, whole.rows, rtol=1e-5, atol=1e-6)


def test_distilling_costs_what_the_passes_say(make_job, host) -> None:
    job = make_job(QUICK)
    block, reports = host(job)
    factor = reports[-1]["values"]["distillation_work_factor"]
    labels = job.roster.labels[:5]
    images = np.ceil(np.round(labels * 0.02, 9)) * (labels > 1)
    real = np.minimum(labels, 8).sum(1)
    np.testing.assert_allclose(factor[:5], 1 + 3 * images.sum(1) / real)
    plain, _ = host(make_job(QUICK | {"algorithm": {"name": "quickdrop", "distil": False}}))
    assert (plain.state["samples"] < block.state["samples"])[:5].all()


def test_options_of_the_released_code(make_job, host) -> None:
    synthetic, _ = host(
        make_job(QUICK | {"algorithm": {"name": "quickdrop", "variant": "synthetic"}})
    )
    reuse, _ = host(make_job(QUICK))
    assert not torch.equal(synthetic.rows, reuse.rows)
    assert synthetic.rows.isfinite().all()
    how = {"persist": False, "initial": "noise", "distance": "cos"}
    for more in ({"class_weights": "sum"}, {"condensation": how}):
        block, _ = host(make_job(QUICK | {"algorithm": {"name": "quickdrop", **more}}))
        assert block.rows.isfinite().all()


def test_kept_updates_add_up_to_the_models_course(make_job, host) -> None:
    job = make_job(QUICK | {"algorithm": {"name": "quickdrop", "keep_updates": 1}})
    block, _ = host(job)
    layout = ParameterLayout.of(job.module)
    sizes = torch.tensor([len(part) for part in job.parts]).float()
    steps = torch.einsum("c,tcp->tp", sizes / sizes.sum(), block.kept[UPDATES][0])
    course = layout.flatten(job.module) + steps.sum(0)
    torch.testing.assert_close(course, block.rows[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "pfl_cnn"}, "dropout"),
        ({"algorithm": {"name": "quickdrop", "distil": False, "variant": "synthetic"}}, "distil"),
        ({"train.optimizer": {"name": "gel"}}, "guess"),
    ],
)
def test_what_cannot_work_is_refused_before_it_starts(make_job, changes, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make_job(QUICK | changes)
