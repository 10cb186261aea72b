"""The phones of SkipTrain: every figure of the paper's tables, and batteries that run out."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hansa.base.errors import ConfigError
from hansa.engine import PHONES, Job, Phones
from hansa.engine.time.energy import FOREVER
from hansa.experiment import RunFile, prepare, resume, run
from hansa.learn import SkipTrain, SkipTrainConstrained

NAMES = list(PHONES)
CIFAR = (89_834, 20 * 32)  # parameters, examples a round
FEMNIST = (1_690_046, 7 * 16)
NODES = 256


def mwh(name: str, task: tuple[int, int]) -> float:
    return PHONES[name].training_joules(*task) / 3.6


# -- the paper's figures, to the printed digit (spec 1.5 and 3.3) ----------------------------------


@pytest.mark.parametrize(
    ("name", "cifar", "cifar_budget", "femnist", "femnist_budget"),
    [
        ("xiaomi_12_pro", "6.532875", 272, "21.508007", 413),
        ("galaxy_s22_ultra", "5.986076", 324, "19.707797", 492),
        ("oneplus_nord_2", "2.556283", 681, "8.415981", 1034),
        ("poco_x3", "8.519120", 272, "28.047269", 413),
    ],
)
def test_energy_and_budget_of_each_phone(
    name: str, cifar: str, cifar_budget: int, femnist: str, femnist_budget: int
) -> None:
    assert f"{mwh(name, CIFAR):.6f}" == cifar
    assert f"{mwh(name, FEMNIST):.6f}" == femnist
    assert PHONES[name].budget(0.10, *CIFAR) == cifar_budget
    assert PHONES[name].budget(0.50, *FEMNIST) == femnist_budget


@pytest.mark.parametrize(
    ("task", "share", "rounds", "mean", "plain", "half", "four_two", "greedy", "constrained"),
    [
        (CIFAR, 0.1, 1000, "5.8986", "1510.04", "755.02", "1006.69", "497.57", "467.95"),
        (FEMNIST, 0.5, 3000, "19.4198", "14914.38", "7457.19", "9942.92", "2487.34", "2487.34"),
    ],
    ids=["cifar10", "femnist"],
)
def test_totals_of_256_nodes(
    task: tuple[int, int],
    share: float,
    rounds: int,
    mean: str,
    plain: str,
    half: str,
    four_two: str,
    greedy: str,
    constrained: str,
) -> None:
    each = np.array([mwh(NAMES[i % 4], task) for i in range(NODES)])
    budgets = np.array([PHONES[NAMES[i % 4]].budget(share, *task) for i in range(NODES)])

    def wh(spent: Any) -> str:
        return f"{(each * spent).sum() / 1000:.2f}"

    assert f"{each.mean():.4f}" == mean
    assert wh(rounds) == plain
    schedule = SkipTrain(train_rounds=4, sync_rounds=4)
    assert wh(sum(schedule.slot(t) for t in range(rounds))) == half
    assert wh(SkipTrain(train_rounds=4, sync_rounds=2).slots(rounds)) == four_two
    assert wh(np.minimum(budgets, rounds)) == greedy
    one = SkipTrainConstrained(train_rounds=1, sync_rounds=1)
    slots = sum(one.slot(t) for t in range(rounds))
    assert slots == one.slots(rounds)
    assert wh(one.chances(budgets, rounds) * slots) == constrained


@pytest.mark.parametrize(
    ("task", "share", "rounds", "chances"),
    [
        (CIFAR, 0.1, 1000, [0.544, 0.648, 1.0, 0.544]),
        (FEMNIST, 0.5, 3000, [0.275, 0.328, 0.689, 0.275]),
    ],
)
def test_chances_of_training(
    task: tuple[int, int], share: float, rounds: int, chances: list[float]
) -> None:
    budgets = np.array([phone.budget(share, *task) for phone in PHONES.values()])
    found = SkipTrainConstrained(train_rounds=1, sync_rounds=1).chances(budgets, rounds)
    assert found.round(3).tolist() == chances


@pytest.mark.data
@pytest.mark.parametrize(
    ("file", "task", "share", "shown_share"),
    [("CIFAR-10.csv", CIFAR, 0.1, 0.1), ("Femnist.csv", FEMNIST, 0.5, 1.0)],
)
def test_the_published_traces_come_out_again(
    file: str, task: tuple[int, int], share: float, shown_share: float
) -> None:
    """Column for column. FEMNIST's "battery for training" repeats the whole capacity, wrongly."""
    path = Path(os.environ["HANSA_DATA"]) / "energy" / file
    with path.open(encoding="utf-8-sig", newline="") as lines:
        _, *rows = list(csv.reader(lines))
    assert [row[0] for row in rows] == [phone.title for phone in PHONES.values()]
    parameters, samples = task
    for row, phone in zip(rows, PHONES.values(), strict=True):
        computed = [
            phone.mobilenet_ms,
            1000 * phone.inference_seconds(parameters),
            1000 * phone.training_seconds(parameters),
            1000 * phone.training_seconds(parameters, samples),
            phone.watts,
            phone.training_joules(parameters, samples) / 3600,
            phone.battery_wh,
            shown_share * phone.battery_wh,
            phone.budget(share, parameters, samples),
        ]
        for printed, value in zip(row[1:], computed, strict=True):
            digits = len(printed.partition(".")[2])
            assert round(value, digits) == float(printed), (row[0], printed, value)


def test_a_battery_that_holds_just_so_many_rounds_holds_them() -> None:
    phone = PHONES["poco_x3"]
    for rounds in range(1, 200):
        share = rounds * phone.training_joules(*CIFAR) / phone.joules()
        assert phone.budget(share, *CIFAR) == rounds
    assert phone.budget(0.1, 1000, 0) == FOREVER


# -- a run on phones -------------------------------------------------------------------------------

RADIO = {"send_joules_per_byte": 1e-7, "receive_joules_per_byte": 3e-7}


def battery(job: Job, rounds: float, phone: str = "poco_x3") -> float:
    """The share of that phone's battery that lasts so many rounds of the job."""
    each = PHONES[phone].training_joules(*of_round(job))
    return rounds * each / PHONES[phone].joules()


def of_round(job: Job) -> tuple[int, int]:
    parameters = sum(p.numel() for p in job.module.parameters())
    return parameters, job.train.local_steps * job.train.batch_size


def test_energy_is_counted_by_cause(make_job: Callable[..., Job], host: Callable[..., Any]) -> None:
    job = make_job({"clock": {"name": "phones", **RADIO}})
    block, reports = host(job)
    each = [PHONES[NAMES[i % 4]].training_joules(*of_round(job)) for i in range(8)]
    for report in reports:
        counters = report["counters"]
        np.testing.assert_allclose(
            counters["training_energy"], report["round"] * np.array(each), rtol=1e-12
        )
        radio = 1e-7 * counters["bytes_sent"] + 3e-7 * counters["bytes_received"]
        np.testing.assert_allclose(counters["radio_energy"], radio, rtol=1e-12)
        total = counters["training_energy"] + counters["radio_energy"]
        assert counters["energy"].tolist() == total.tolist()
        assert counters["training_rounds"].tolist() == [report["round"]] * 8
    assert "battery_left" not in reports[0]["counters"]
    # The slowest phone's neighbours wait for it: nobody is ahead of its own work.
    own = [5 * PHONES[NAMES[i % 4]].training_seconds(*of_round(job)) for i in range(8)]
    assert (block.state["modelled_time"].numpy() >= own).all()


def test_devices_go_by_the_node_s_id(make_job: Callable[..., Job]) -> None:
    job = make_job()
    clock = Phones(devices=("poco_x3", "oneplus_nord_2", "oneplus_nord_2"))
    block = job.block(np.array([0, 1, 5, 6]))
    watts = clock.fleet(block).take(block.ids).watts
    assert watts.tolist() == [8.2, 11.0, 11.0, 8.2]


def test_empty_batteries_stop_training_and_nothing_else(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    share = battery(make_job(), 2)  # two rounds on the hungriest phone, more on the others
    job = make_job({"clock": {"name": "phones", "battery_share": share}})
    block, reports = host(job)
    lasts = [PHONES[NAMES[i % 4]].budget(share, *of_round(job)) for i in range(8)]
    assert min(lasts) == lasts[3] == 2
    assert block.state["training_rounds"].tolist() == np.minimum(lasts, 5).tolist()
    assert block.state["messages_sent"].tolist() == [15] * 8
    ran_out = {}
    for report in reports:
        assert (report["counters"]["battery_left"] >= 0).all()
        for i in np.flatnonzero(~np.isnan(report["values"].get("battery_empty", [np.nan]))):
            assert int(i) not in ran_out, "said once"
            ran_out[int(i)] = report["round"]
    assert ran_out == {i: lasts[i] + 1 for i in range(8) if lasts[i] < 5}


def test_a_battery_is_a_budget(make_job: Callable[..., Job], host: Callable[..., Any]) -> None:
    """D-PSGD with batteries, greedy on them, and greedy with the same numbers are one."""
    share = battery(make_job(), 2.5)
    phones = {"name": "phones", "battery_share": share}
    budgets = [PHONES[NAMES[i % 4]].budget(share, *of_round(make_job())) for i in range(8)]
    one, _ = host(make_job({"clock": phones}))
    two, _ = host(make_job({"clock": phones, "algorithm": "greedy"}))
    three, _ = host(make_job({"algorithm": {"name": "greedy", "budget": budgets}}))
    assert two.state["budget.whole"].tolist() == budgets
    assert torch.equal(one.rows, two.rows)
    assert torch.equal(one.rows, three.rows)


def test_the_radio_empties_batteries_too(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    clock = {"name": "phones", "battery_share": battery(make_job(), 4.5)}
    light, _ = host(make_job({"clock": clock}))
    heavy, _ = host(make_job({"clock": {**clock, "send_joules_per_byte": 1e-6}}))
    assert heavy.state["training_rounds"].sum() < light.state["training_rounds"].sum()
    assert heavy.state["bytes_sent"].tolist() == light.state["bytes_sent"].tolist()


def test_batteries_are_the_same_in_blocks_apart(
    make_job: Callable[..., Job], host: Callable[..., Any], host_apart: Callable[..., Any]
) -> None:
    share = battery(make_job(), 2.5)
    changes = {
        "clock": {"name": "phones", "battery_share": share, **RADIO},
        "algorithm": {"name": "skiptrain_constrained", "train_rounds": 3, "sync_rounds": 1},
    }
    whole, _ = host(make_job(changes))
    for workers in (2, 3):
        rows, state, _ = host_apart(lambda: make_job(changes), workers)
        assert torch.equal(rows, whole.rows)
        for name, value in whole.state.items():
            assert torch.equal(state[name], value), name


def test_the_folder_tells_of_energy_and_empty_batteries(
    small: Callable[..., Any], make_job: Callable[..., Job], tmp_path: Path
) -> None:
    clock = {"name": "phones", "battery_share": battery(make_job(), 1)}
    chosen = small({"clock": clock, "rounds": 4, "checkpoint.every": 2})
    whole = run(chosen, tmp_path / "whole", report=False)
    told = {
        n: e["round"] for e in whole.events() if e["kind"] == "battery_empty" for n in e["nodes"]
    }
    assert told[3] == told[7] == 2
    assert {"training_energy", "radio_energy", "battery_left", "training_rounds"} <= set(
        whole.metrics()["name"]
    )
    run({**chosen, "rounds": 2}, tmp_path / "part", report=False)
    part = resume(tmp_path / "part", {"rounds": 4}, report=False)
    assert [e for e in part.events() if e["kind"] == "battery_empty"][-1]["nodes"]
    names = ("accuracy", "energy", "battery_left", "training_rounds")
    for name in names:
        ours, theirs = (
            f.metrics().filter(f.metrics()["name"] == name).sort("round", "node")["value"].to_list()
            for f in (part, whole)
        )
        assert ours == theirs, name


@pytest.mark.parametrize(
    ("clock", "field", "words"),
    [
        ({"battery_share": 1e-9}, "clock.battery_share", "at least"),
        ({"battery_share": 0}, "clock.battery_share", "greater than 0"),
        ({"battery_share": 1.1}, "clock.battery_share", "less than or equal to 1"),
        ({"devices": []}, "clock.devices", "at least 1"),
        ({"devices": ["poco_x3", "nokia_3310"]}, "clock.devices.1", "oneplus_nord_2"),
        ({"send_joules_per_byte": -1}, "clock.send_joules_per_byte", "0"),
    ],
)
def test_what_is_refused(
    small: Callable[..., Any], clock: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        prepare(RunFile.parse(small({"clock": {"name": "phones", **clock}})))
    assert caught.value.field == field
    assert words in str(caught.value)


def test_the_least_share_that_is_named_is_enough(
    small: Callable[..., Any], make_job: Callable[..., Job]
) -> None:
    clock = Phones(battery_share=1e-9)
    size = of_round(make_job())
    with pytest.raises(ConfigError) as caught:
        clock.check(8, *size)
    named = float(caught.value.fix.removeprefix("at least "))
    Phones(battery_share=named).check(8, *size)
