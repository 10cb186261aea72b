"""Privacy of whole nodes and clients: what leaves, what is added to it, and what that is worth."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ive

from hansa.base.errors import ConfigError, RunError
from hansa.codec import Packets
from hansa.engine import Send
from hansa.engine.accounts import ACCOUNTS, RELEASES, ReleaseAccounts
from hansa.engine.exchange.noising import noised
from hansa.experiment.prepare import prepare
from hansa.experiment.run import run
from hansa.experiment.runfile import RunFile
from hansa.learn.secure.shares import Shares
from hansa.privacy import accounting
from hansa.privacy.accounting import ORDERS
from hansa.privacy.central import CentralPrivacy
from hansa.privacy.distributed import FINEST, DistributedPrivacy
from hansa.privacy.local import LocalPrivacy

SMALL: dict[str, Any] = {
    "nodes": 6,
    "rounds": 3,
    "model": {"name": "mlp", "hidden": [8]},
    "topology": {"name": "regular", "degree": 4},
    "train": {"local_steps": 2, "drop_last": False, "batch_size": 8},
    "evaluate": {"every": 3, "dense_start": False},
}
UNIFORM = {"name": "fedavg", "weighting": "uniform"}


def summary_of(out: Path, **more: Any) -> dict[str, Any]:
    summary = run({**SMALL, **more}, out, report=False).summary
    assert summary is not None
    return summary


def block_of(privacy: LocalPrivacy, algorithm: str = "dpsgd") -> tuple[Any, ReleaseAccounts]:
    job = prepare(RunFile.of({**SMALL, "privacy": privacy, "algorithm": algorithm}))
    block, accounts = job.block(np.arange(job.nodes)), job.accounts
    assert isinstance(accounts, ReleaseAccounts)
    return block, accounts


# -- by senders


@settings(max_examples=10)
@given(st.floats(0.05, 3.0), st.integers(0, 1000))
def test_what_is_said_moves_by_no_more_than_the_clip(clip: float, seed: int) -> None:
    block, accounts = block_of(LocalPrivacy(clip=clip, noise=0, delta=1e-5))
    torch.manual_seed(seed)
    before = block.rows.clone()  # all have the initial model
    for t in range(3):
        block.rows += 0.1 * torch.randn_like(block.rows)
        kept = block.rows.clone()
        said = noised(accounts, block, Send(block.rows, block.graph(t)), t, 0).rows
        assert torch.equal(block.rows, kept)  # the sender's own is as it was
        assert float((said - before).norm(dim=1).max()) <= clip * (1 + 1e-4)
        before = said
    assert (block.state[RELEASES] == 3).all()


def test_noise_is_the_senders_own_and_of_the_right_size() -> None:
    block, accounts = block_of(LocalPrivacy(clip=2.0, noise=1.5, delta=1e-5))
    send = Send(block.rows, block.graph(0))
    said = noised(accounts, block, send, 0, 0).rows - block.rows
    assert float(said.std()) == pytest.approx(3.0, rel=0.05)
    assert abs(float(torch.corrcoef(said)[0, 1])) < 0.15
    again, accounts = block_of(LocalPrivacy(clip=2.0, noise=1.5, delta=1e-5))
    assert torch.equal(noised(accounts, again, send, 0, 0).rows - again.rows, said)
    other = noised(accounts, again, send, 1, 0).rows
    assert not torch.equal(other - again.rows, said)


def test_who_is_not_heard_pays_nothing_and_servers_pay_nothing() -> None:
    block, accounts = block_of(LocalPrivacy(clip=1.0, noise=1.0, delta=1e-5), "fedavg")
    model = Send(block.rows, block.graph(0), senders=block.residents)
    from hansa.engine import star_to

    down = star_to(6, 7).transpose()
    out = noised(accounts, block, Send(model.rows, down, senders=block.residents), 0, 0)
    assert torch.equal(out.rows, block.rows)
    assert not block.state[RELEASES].any()


def test_bytes_and_who_has_spent_all_are_stopped() -> None:
    block, accounts = block_of(LocalPrivacy(clip=1.0, noise=3.0, delta=1e-5, budget=6.0))
    packets = Send(Packets((b"abc",) * 6), block.graph(0))
    with pytest.raises(RunError, match="whole rows"):
        noised(accounts, block, packets, 0, 0)
    block.state[RELEASES] += accounting.most(accounts.privacy.cost(3.0), 1e-5, 6.0) - 1
    noised(accounts, block, Send(block.rows, block.graph(0)), 0, 0)
    with pytest.raises(RunError, match="would pass epsilon 6"):
        noised(accounts, block, Send(block.rows, block.graph(1)), 1, 0)


# -- by a server


def test_the_servers_step_is_the_noised_sum_over_the_number_expected(tmp_path: Path) -> None:
    # Without noise and with a clip that cuts nothing, uniform FedAvg.
    plain = summary_of(tmp_path / "plain", algorithm=UNIFORM)
    wide = {"name": "central", "clip": 1e4, "noise": 0, "delta": 1e-5}
    same = summary_of(tmp_path / "same", algorithm=UNIFORM, privacy=wide)
    assert same["final"]["loss"] == pytest.approx(plain["final"]["loss"], rel=1e-5)


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_a_client_moves_the_server_by_the_clip_over_the_number_expected(
    tmp_path: Path, noise: float
) -> None:
    def row(name: str, lr: float) -> torch.Tensor:
        settings = {
            **SMALL,
            "rounds": 1,
            "privacy": {"name": "central", "clip": 0.5, "noise": noise, "delta": 1e-5},
            "algorithm": UNIFORM,
            "train": SMALL["train"] | {"optimizer": {"name": "sgd", "lr": lr}},
        }
        from hansa.experiment.trained import open_trained, settings_of

        folder = run(settings, tmp_path / f"{name}{noise}", report=False)
        return open_trained(folder, settings_of(folder)).block.models()[1][0]

    still, moved = row("still", 1e-9), row("moved", 5.0)
    initial = prepare(RunFile.of({**SMALL, "algorithm": UNIFORM}))
    start = initial.trainer().layout.flatten(initial.module)
    # The same noise in both, so that what differs is the mean of six updates within the clip.
    assert float((moved - still).norm()) <= 0.5 * (1 + 1e-4)
    if noise:
        assert float((still - start).std()) == pytest.approx(2.0 * 0.5 / 6, rel=0.1)


def test_the_clip_finds_its_quantile(tmp_path: Path) -> None:
    privacy = {"name": "central", "clip": 20.0, "noise": 0, "delta": 1e-5, "quantile": 0.5}
    privacy |= {"clip_rate": 1.0}
    summary = summary_of(tmp_path / "run", algorithm=UNIFORM, privacy=privacy, rounds=12)
    assert 0 < summary["final"]["clip"] < 10
    with pytest.raises(ConfigError, match="too little"):
        CentralPrivacy(clip=1, noise=1, delta=1e-5, quantile=0.5).in_sum(1.0, 4)


@given(st.floats(0.3, 3.0), st.integers(50, 1000))
def test_sum_and_count_together_have_the_noise_that_is_accounted(noise: float, n: int) -> None:
    # Andrew et al. (2021), theorem 1.
    privacy = CentralPrivacy(clip=1, noise=noise, delta=1e-5, quantile=0.5)
    mine, spread = privacy.in_sum(noise, n), privacy.spread(n)
    assert mine >= noise
    assert mine**-2 + (2 * spread) ** -2 == pytest.approx(noise**-2)


def test_poisson_sampling_is_cheaper_than_sampling_that_is_not_accounted(tmp_path: Path) -> None:
    privacy = {"name": "central", "clip": 1.0, "noise": 1.0, "delta": 1e-5}
    drawn = {**UNIFORM, "sampled": 2}
    one = summary_of(tmp_path / "one", algorithm={**drawn, "sampler": "poisson"}, privacy=privacy)
    two = summary_of(tmp_path / "two", algorithm=drawn, privacy=privacy)
    assert one["privacy"]["epsilon"] < two["privacy"]["epsilon"]
    assert one["privacy"]["sampling_rate"] == pytest.approx(1 / 3)


def test_each_server_has_its_own_rate_and_noise(tmp_path: Path) -> None:
    lists = [[0, 1, 2, 3], [4, 5]]
    drawn = {"name": "cpfl", "cohorts": lists, "sampled": 2, "sampler": "poisson"}
    privacy = {"name": "central", "clip": 1.0, "epsilon": 8.0, "delta": 1e-5}
    more = {
        "algorithm": {**drawn, "merge": "average", "stop": None, "select": "last"},
        "privacy": privacy,
    }
    said = summary_of(tmp_path / "run", **more)["privacy"]
    assert said["sampling_rate"] == {"min": 0.5, "max": 1.0}
    assert said["noise"]["min"] < said["noise"]["max"]
    assert said["epsilon"] <= 8


def test_a_failed_round_leaves_the_clip_alone(tmp_path: Path) -> None:
    privacy = {"name": "central", "clip": 1e-3, "noise": 0, "delta": 1e-5, "quantile": 0.5}
    chosen = {**UNIFORM, "min_updates": 6, "on_failed_round": "skip"}
    faults = {"absent": {0: [[0, 2]]}}
    summary = summary_of(
        tmp_path / "run", algorithm=chosen, privacy=privacy, faults=faults, rounds=4
    )
    # After two rounds of too few there is one of six, all of them longer than the clip.
    assert summary["final"]["clip"] == pytest.approx(1e-3 * math.exp(0.2 * 0.5))


def test_a_server_stops_before_its_budget_and_each_has_its_own(tmp_path: Path) -> None:
    privacy = {"name": "central", "clip": 1.0, "noise": 1.0, "delta": 1e-5}
    with pytest.raises(ConfigError, match="first round") as refusal:
        prepare(RunFile.of({**SMALL, "algorithm": UNIFORM, "privacy": privacy | {"budget": 0.5}}))
    assert refusal.value.field == "privacy.budget"
    cohorts = [[0, 1, 2, 3], [4, 5]]
    cpfl = {"name": "cpfl", "cohorts": cohorts, "weighting": "uniform", "merge": "average"}
    cpfl |= {"sampler": "poisson", "sampled": 1, "stop": None, "select": "last"}
    apart = {"name": "processes", "workers": 2}
    found = []
    for name, runtime in (("one", {"name": "simulate"}), ("two", apart)):
        found.append(
            summary_of(
                tmp_path / name, algorithm=cpfl, privacy=privacy | {"budget": 6.0}, rounds=9,
                runtime=runtime,
            )
        )  # fmt: skip
    said = found[0]["privacy"]
    assert said == found[1]["privacy"]
    assert said["sampling_rate"] == {"min": 0.25, "max": 0.5}
    assert said["epsilon_mean"] < said["epsilon"] <= 6.0
    assert found[0]["rounds"] < 9


# -- in masked sums


def shares(noise: float, senders: int, tolerated: int = 0, size: int = 20_000) -> Shares:
    privacy = DistributedPrivacy(clip=1.0, noise=noise, delta=1e-5, tolerated=tolerated)
    return Shares(privacy, noise, size, 12, 0.25, senders)


@pytest.mark.parametrize("tolerated", [0, 2])
def test_shares_add_up_to_the_noise_that_is_accounted(tolerated: int) -> None:
    senders, chosen = 6, shares(0.8, 6, tolerated)
    words = np.zeros(chosen.size, dtype=np.uint32)
    for k in range(senders - tolerated):  # the others' are missing
        chosen.add(words, np.random.default_rng(k))
    drawn = words.view(np.int32).astype(np.float64)
    assert drawn.std() == pytest.approx(0.8 * chosen.sensitivity, rel=0.03)
    assert abs(drawn.mean()) < 5 * drawn.std() / math.sqrt(len(drawn))


@pytest.mark.parametrize("order", [2, 5, 11])
@pytest.mark.parametrize("noise", [0.7, 2.0])
def test_the_cost_is_above_the_divergence_itself(noise: float, order: int) -> None:
    # Of Skellam noise at the coarsest that is allowed, all of the sensitivity in one number. Its
    # chances are scaled Bessel functions; far out, where those underflow, hardly anything is.
    mu, at = (noise * FINEST) ** 2, np.arange(-8 * FINEST, (order + 9) * FINEST)
    here, there = (ive(np.abs(at - move), mu) for move in (FINEST, 0))
    some = (here > 1e-290) & (there > 1e-290)
    exponents = order * np.log(here[some]) + (1 - order) * np.log(there[some])
    most = exponents.max()
    inside = np.exp(exponents - most).sum()
    divergence = (math.log(inside) + most) / (order - 1)
    cost = DistributedPrivacy(clip=1, noise=noise, delta=1e-5).cost(noise)
    found = cost[ORDERS.index(order)]
    assert divergence <= found * (1 + 1e-6)
    assert found < divergence * 1.01


def test_masked_sums_without_noise_are_those_of_before(tmp_path: Path) -> None:
    plain = summary_of(tmp_path / "plain", algorithm="secure_dpsgd")
    wide = {"name": "distributed", "clip": 100.0, "noise": 0, "delta": 1e-5}
    same = summary_of(tmp_path / "same", algorithm="secure_dpsgd", privacy=wide)
    assert same["final"]["loss"] == pytest.approx(plain["final"]["loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("privacy", "algorithm", "field"),
    [
        ({"clip": 1.0, "tolerated": 4}, {}, "privacy.tolerated"),
        ({"clip": 1.0}, {"fraction_bits": 4}, "algorithm.fraction_bits"),
        ({"clip": 1e4}, {}, "algorithm.fraction_bits"),
    ],
)
def test_shares_that_cannot_be_are_refused(privacy: Any, algorithm: Any, field: str) -> None:
    whole = {"name": "distributed", "noise": 1.0, "delta": 1e-5} | privacy
    chosen = {**SMALL, "privacy": whole, "algorithm": {"name": "secure_dpsgd"} | algorithm}
    with pytest.raises(ConfigError) as refusal:
        prepare(RunFile.of(chosen))
    assert refusal.value.field == field


def test_sums_are_recovered_as_long_as_enough_noise_is_left(tmp_path: Path) -> None:
    algorithm = {"name": "secure_dpsgd", "on_missing": "recover"}
    privacy = {"name": "distributed", "clip": 1.0, "noise": 0.5, "delta": 1e-5}
    faults = {"lost": [[0, 1, j] for j in range(6) if j != 1]}
    found = []
    for tolerated in (0, 1):
        said = summary_of(
            tmp_path / str(tolerated), algorithm=algorithm, faults=faults, rounds=1,
            privacy=privacy | {"tolerated": tolerated},
        )["final"]  # fmt: skip
        found.append((said["aggregations_skipped"] > 0, said["aggregations_recovered"] > 0))
    assert found == [(True, False), (False, True)]


def test_each_receiver_costs_a_release(tmp_path: Path) -> None:
    privacy = DistributedPrivacy(clip=1.0, noise=1.0, delta=1e-5)
    job = prepare(RunFile.of({**SMALL, "algorithm": "secure_dpsgd", "privacy": privacy}))
    block = job.block(np.arange(6))
    from hansa.learn.secure import shares as counted

    counted.count(block, np.full(6, 4))
    assert (block.state[RELEASES] == 4).all()
    assert isinstance(block.facts[ACCOUNTS], ReleaseAccounts)
