"""Secure aggregation: the masks cancel to the bit, one message tells nothing, nobody is missed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from hansa.base.errors import ConfigError, RunError, WireError
from hansa.codec import Packets
from hansa.engine import Block, Inbox, Job, Send, WallClock
from hansa.engine.exchange.asked import Exchange
from hansa.engine.exchange.faults import Faults
from hansa.engine.exchange.wire import HEADER_BYTES
from hansa.engine.runtimes.checkpoint import load_block, read_manifest, save_block, seal
from hansa.engine.runtimes.host import Host
from hansa.experiment import RunFile, prepare
from hansa.learn import SecureDPSGD
from hansa.learn.secure.key_agreement import public_key, shared_secret
from hansa.learn.secure.masking import pad_seed, quantize, total

MakeJob = Callable[..., Job]
Sent = dict[str, tuple[Send, Inbox]]
CHURN = {"name": "churn", "topology": {"name": "regular", "degree": 5}, "absent": {3: [[0, 1]]}}
TOPOLOGIES = [
    "ring",
    {"name": "regular", "degree": 4},
    {"name": "regular", "degree": 4, "dynamic": True},
    {"name": "erdos_renyi", "p": 0.7},
    "star",
    CHURN,
]


def secure(**settings: Any) -> dict[str, Any]:
    return {"name": "secure_dpsgd", **settings}


@pytest.fixture
def block_of(make_job: MakeJob) -> Callable[..., tuple[SecureDPSGD, Block]]:
    """A block of different models that do not train, and its algorithm."""

    def make(topology: Any, changes: dict[str, Any] | None = None, **settings: Any) -> Any:
        job = make_job({"topology": topology, "algorithm": secure(**settings), **(changes or {})})
        block = job.block(np.arange(job.nodes))
        block.rows += torch.randn(block.rows.shape, generator=torch.Generator().manual_seed(0))
        block.awake = np.zeros(len(block), dtype=bool)
        return job.algorithm, block

    return make


def play(
    algorithm: SecureDPSGD,
    block: Block,
    t: int = 0,
    meddle: Callable[[Send], None] | None = None,
    lost: Sequence[tuple[int, int]] = (),
) -> Sent:
    """One round by hand: what was exchanged, by kind.

    ``meddle`` may change it on its way, and masked vectors may be ``lost``: (sender, receiver).
    """
    found, inbox = {}, None
    block.report = {}
    faults = Faults(lost=tuple((t, a, b, "masked") for a, b in lost))
    exchange, script = Exchange(WallClock(), None, faults, True), algorithm.round(block, t)
    phase = 0
    while True:
        try:
            send = script.send(inbox)  # type: ignore[arg-type]
        except StopIteration:
            return found
        if meddle is not None:
            meddle(send)
        inbox = exchange(block, send, t, phase)
        found[send.kind] = send, inbox
        phase += 1


def replace(send: Send, sender: int, receiver: int, packet: bytes) -> None:
    """Put another packet in the place of the one from a node to another."""
    assert isinstance(send.rows, Packets)
    hearers = send.graph.transpose()
    packets = list(send.rows.packets)
    at = hearers.indptr[sender] + np.searchsorted(hearers.row(sender), receiver)
    packets[at] = packet
    object.__setattr__(send.rows, "packets", tuple(packets))


def integers(x: np.ndarray, weight: float, bits: int) -> np.ndarray:
    """The fixed-point numbers, as Python would count them."""
    return np.rint(x.astype(np.float64) * (weight * 2.0**bits)).astype(np.int64)


def vectors(inbox: Inbox, k: int) -> tuple[list[int], list[np.ndarray]]:
    senders, packets = inbox.messages(k)
    assert isinstance(packets, Packets)
    return senders.tolist(), [np.frombuffer(p, dtype="<u4") for p in packets.packets]


def weights_of(algorithm: SecureDPSGD, block: Block, t: int) -> np.ndarray:
    return block.mixing(block.graph(t), algorithm.weights).dense()


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("topology", TOPOLOGIES, ids=str)
def test_sums_are_those_of_dpsgd_on_quantized_models(
    block_of: Callable[..., Any], topology: Any, share: float
) -> None:
    bits = 18
    exposed = topology == "star"
    algorithm, block = block_of(
        topology, fraction_bits=bits, share=share, allow_exposed=exposed, weights="uniform"
    )
    for t in range(3):
        before = block.rows.numpy().copy()
        inbox = play(algorithm, block, t)["masked"][1]
        w, graph = weights_of(algorithm, block, t), block.graph(t)
        for r in range(len(block)):
            chosen = algorithm.positions(block, r, t)
            chosen = np.arange(block.rows.shape[1]) if chosen is None else chosen
            assert len(chosen) == pytest.approx(share * block.rows.shape[1], abs=70)
            senders, masked = vectors(inbox, r)
            assert senders == graph.row(r).tolist()
            expected = before[r].copy()
            if senders:
                exact = sum(integers(before[j, chosen], w[r, j], bits) for j in senders)
                assert np.array_equal(
                    sum(m.astype(np.int64) for m in masked) % 2**32, exact % 2**32
                )
                expected[chosen] = (
                    w[r, r] * before[r, chosen].astype(np.float64) + exact / 2.0**bits
                )
            assert np.array_equal(block.rows[r].numpy(), expected)
        assert not np.array_equal(block.rows.numpy(), before)


@pytest.mark.parametrize("topology", TOPOLOGIES[:4], ids=str)
def test_trajectory_is_that_of_dpsgd_but_for_rounding(
    make_job: MakeJob, host: Callable[..., Any], topology: Any
) -> None:
    plain = host(make_job({"topology": topology}))[0].rows
    worst = []
    for bits in (12, 16, 24):
        job = make_job({"topology": topology, "algorithm": secure(fraction_bits=bits)})
        worst.append(float((host(job)[0].rows - plain).abs().max()))
    # 5 rounds; training lets an error grow a little
    for error, bits in zip(worst, (12, 16, 24), strict=True):
        assert error < 50 * 2.0**-bits
    assert worst[0] > worst[1] > worst[2]


def uniformity(words: np.ndarray) -> float:
    """p-value of the hypothesis that all bytes are equally likely."""
    counts = np.bincount(words.view(np.uint8), minlength=256)
    expected = counts.sum() / 256
    return float(chi2.sf(((counts - expected) ** 2 / expected).sum(), 255))


def test_a_message_is_uniform_and_tells_nothing_of_the_model(block_of: Callable[..., Any]) -> None:
    algorithm, block = block_of({"name": "regular", "degree": 4}, {"model.hidden": [256]})
    before = block.rows.numpy().copy()
    inbox = play(algorithm, block)["masked"][1]
    size, seen = before.shape[1], []
    for r in range(len(block)):
        for sender, words in zip(*vectors(inbox, r), strict=True):
            seen.append(uniformity(words))
            correlation = np.corrcoef(words, before[sender])[0, 1]
            assert abs(correlation) < 5 / np.sqrt(size)
            plain, _ = quantize(before[sender], 0.2, 20, 4)
            assert uniformity(plain) < 1e-100
    assert min(seen) > 1e-4  # 32 messages
    assert 0.2 < np.mean(seen) < 0.8


def test_masks_differ_between_rounds_receivers_and_pairs(block_of: Callable[..., Any]) -> None:
    algorithm, block = block_of({"name": "regular", "degree": 4})
    pads = []
    w = weights_of(algorithm, block, 0)
    for t in range(2):
        before = block.rows.numpy().copy()
        inbox = play(algorithm, block, t)["masked"][1]
        for r in range(len(block)):
            for sender, words in zip(*vectors(inbox, r), strict=True):
                pads.append(words - quantize(before[sender], w[r, sender], 20, 4)[0])
    assert len(pads) == 64
    for k, pad in enumerate(pads):
        for other in pads[:k]:
            assert np.count_nonzero(pad == other) <= 2
            assert np.count_nonzero(pad == np.uint32(0) - other) <= 2


def test_without_one_of_them_the_sum_is_garbage_and_that_is_noticed(
    block_of: Callable[..., Any],
) -> None:
    algorithm, block = block_of({"name": "regular", "degree": 4})
    before = block.rows.clone()
    lost = int(block.graph(0).row(2)[1])
    inbox = play(algorithm, block, 0, lost=[(lost, 2)])["masked"][1]
    masked = vectors(inbox, 2)[1]
    words = total((m.tobytes() for m in masked), block.rows.shape[1])
    assert uniformity(words) > 1e-4
    assert np.abs(words.astype(np.int32) / 2.0**20).mean() > 100  # models are about 1
    assert torch.equal(block.rows[2], before[2])
    assert block.report["aggregations_skipped"].tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    changed = (block.rows != before).any(1).tolist()
    assert changed == [True, True, False, True, True, True, True, True]


@pytest.mark.parametrize("share", [1.0, 0.4])
@pytest.mark.parametrize("gone", [1, 2])
def test_a_round_is_recovered_without_the_lost(
    block_of: Callable[..., Any], share: float, gone: int
) -> None:
    bits = 20
    algorithm, block = block_of({"name": "regular", "degree": 4}, on_missing="recover", share=share)
    before = block.rows.numpy().copy()
    everyone = block.graph(0).row(2)
    lost, kept = everyone[:gone], everyone[gone:]
    sent = play(algorithm, block, 0, lost=[(int(j), 2) for j in lost])
    w = weights_of(algorithm, block, 0)
    chosen = algorithm.positions(block, 2, 0)
    chosen = np.arange(before.shape[1]) if chosen is None else chosen
    exact = sum(integers(before[j, chosen], w[2, j], bits) for j in kept)
    present = 1 - w[2, lost].sum()
    expected = before[2].copy()
    expected[chosen] = (w[2, 2] * before[2, chosen] + exact / 2.0**bits) / present
    np.testing.assert_allclose(block.rows[2].numpy(), expected, rtol=0, atol=1e-6)
    assert block.report["aggregations_recovered"].tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    assert not block.report["aggregations_skipped"].any()
    # Only the survivors answer, with one 16-byte seed for each that is lost.
    answers = sent["revealed"][0].rows
    assert isinstance(answers, Packets)
    assert sorted(filter(None, map(len, answers.packets))) == [16 * gone] * len(kept)
    # No seed is that of another receiver or round.
    shared = shared_secret(b"a" * 32, public_key(b"b" * 32))
    seeds = {pad_seed(shared, r, t) for r in range(4) for t in range(4)}
    assert len(seeds) == 16


@pytest.mark.parametrize("kept", [0, 1])
def test_too_few_are_left_to_hide_in_a_sum(block_of: Callable[..., Any], kept: int) -> None:
    algorithm, block = block_of({"name": "regular", "degree": 4}, on_missing="recover")
    before = block.rows.clone()
    lost = block.graph(0).row(2)[kept:]
    sent = play(algorithm, block, 0, lost=[(int(j), 2) for j in lost])
    assert torch.equal(block.rows[2], before[2])
    assert block.report["aggregations_skipped"][2] == 1
    answers = sent["revealed"][0].rows
    assert isinstance(answers, Packets)
    assert not any(answers.packets)


def test_nothing_is_revealed_to_a_receiver_that_asks_too_much(
    block_of: Callable[..., Any],
) -> None:
    algorithm, block = block_of({"name": "regular", "degree": 4}, on_missing="recover")
    row = block.graph(0).row(2)
    stranger = next(j for j in range(8) if j not in row and j != 2)
    for asked, problem in [
        ([row[1], row[2], row[3]], "would show a model"),
        ([stranger], "not of its neighbours"),
        ([row[0]], "not of its neighbours"),  # the asked node itself
        ([row[2], row[1]], "not of its neighbours"),
    ]:

        def lie(send: Send, asked: Any = asked) -> None:
            if send.kind == "missing":
                replace(send, 2, int(row[0]), np.array(asked, dtype="<u4").tobytes())

        with pytest.raises(WireError, match=problem):
            play(algorithm, block, 0, lie)

    def cut(send: Send) -> None:
        if send.kind == "missing":
            replace(send, 2, int(row[0]), b"abc")

    with pytest.raises(WireError, match="list of 3 bytes"):
        play(algorithm, block, 0, cut)


def test_keys_that_are_forged_or_malformed_are_noticed(block_of: Callable[..., Any]) -> None:
    def swap(kind: str, length: int, byte: bytes) -> Callable[[Send], None]:
        def meddle(send: Send) -> None:
            if send.kind == kind and kind == "relayed keys":
                row = send.graph.row(1)
                assert isinstance(send.rows, Packets)
                replace(send, int(row[0]), 1, byte * length)
            elif send.kind == kind:
                assert isinstance(send.rows, Packets)
                packets = (byte * length, *send.rows.packets[1:])
                object.__setattr__(send.rows, "packets", packets)

        return meddle

    algorithm, block = block_of({"name": "regular", "degree": 4})
    for meddle, problem in [
        (swap("public key", 31, b"a"), "public key of 31 bytes"),
        (swap("public key", 32, b"\0"), "public key that is none"),
        (swap("relayed keys", 107, b"a"), "relayed 107 bytes"),
        (swap("relayed keys", 108, b"a"), "other nodes than it hears"),
    ]:
        with pytest.raises(WireError, match=problem):
            play(algorithm, block, 0, meddle)

    def forge(send: Send) -> None:
        if send.kind == "relayed keys":
            row = send.graph.row(1)
            entries = [(int(j), b"k" * 32) for j in block.graph(0).row(int(row[-1])) if j != 1]
            packet = b"".join(j.to_bytes(4, "little") + key for j, key in entries)
            replace(send, int(row[-1]), 1, packet)

    with pytest.raises(RunError, match="forges keys"):
        play(algorithm, block, 0, forge)


@pytest.mark.parametrize(
    "changes",
    [
        {"topology": {"name": "regular", "degree": 4}},
        {"topology": {"name": "regular", "degree": 4, "dynamic": True}},
        {"topology": {"name": "erdos_renyi", "p": 0.7}},
        {"topology": CHURN},
        {"algorithm": secure(on_missing="recover", share=0.5), "faults": {"loss": 0.1}},
        {"faults": {"loss": 0.1}},
    ],
    ids=str,
)
def test_blocks_apart_reach_the_same_numbers(
    make_job: MakeJob,
    host: Callable[..., Any],
    host_apart: Callable[..., Any],
    changes: dict[str, Any],
) -> None:
    changes = {"algorithm": secure(), "rounds": 3, "clock": {"name": "modelled"}, **changes}
    changes["algorithm"] = {**changes["algorithm"], "keys": "seeded"}
    whole, reports = host(make_job(changes))
    for workers in (2, 3, 8):
        rows, state, posts = host_apart(lambda: make_job(changes), workers)
        assert torch.equal(rows, whole.rows)
        assert set(state) == set(whole.state)
        for name, value in whole.state.items():
            assert torch.equal(state[name], value), name
        assert [post.dropped for post in posts] == [{}] * workers
    if "faults" in changes:
        name = "recovered" if "on_missing" in changes["algorithm"] else "skipped"
        assert sum(report["values"][f"aggregations_{name}"].sum() for report in reports) > 0


def test_models_do_not_depend_on_the_keys(make_job: MakeJob, host: Callable[..., Any]) -> None:
    seeded, _ = host(make_job({"algorithm": secure()}))
    random = [host(make_job({"algorithm": secure(keys="random")}))[0] for _ in range(2)]
    assert torch.equal(seeded.rows, random[0].rows)
    assert torch.equal(seeded.rows, random[1].rows)
    keys = [block.state["secure.key"] for block in (seeded, *random)]
    assert len({key.numpy().tobytes() for key in keys}) == 3
    assert len(np.unique(keys[0].numpy(), axis=0)) == 8


def test_keys_are_random_where_nodes_are_apart(
    make_job: MakeJob, host: Callable[..., Any], host_apart: Callable[..., Any]
) -> None:
    whole, _ = host(make_job({"algorithm": secure()}))
    named, _ = host(make_job({"algorithm": secure(keys="seeded")}))
    assert torch.equal(whole.state["secure.key"], named.state["secure.key"])
    keys = [whole.state["secure.key"]]
    for _ in range(2):
        rows, state, _ = host_apart(lambda: make_job({"algorithm": secure()}), 2)
        assert torch.equal(rows, whole.rows)
        keys.append(state["secure.key"])
    for i in range(8):
        assert len({key[i].numpy().tobytes() for key in keys}) == 3


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_resumed_run_goes_on_as_if_nothing_had_been(
    make_job: MakeJob, host: Callable[..., Any], tmp_path: Path, dynamic: bool
) -> None:
    changes = {
        "topology": {"name": "regular", "degree": 4, "dynamic": dynamic},
        "algorithm": secure(keys="random"),
        "faults": {"loss": 0.1},
        "rounds": 4,
    }
    job = make_job(changes)
    block = job.block(np.arange(8))

    def save(block: Block, done: int) -> None:
        seal(tmp_path, done, [save_block(block, tmp_path, done)], keep=9)

    job.checkpoint = job.checkpoint.model_copy(update={"every": 2})
    Host(job, block, job.exchange(), lambda report: None, save).run()

    again = make_job(changes)
    resumed = again.block(np.arange(8))
    folder = tmp_path / "round-000002"
    load_block(resumed, folder, read_manifest(folder))
    exchange = again.exchange()
    Host(again, resumed, exchange, lambda report: None, lambda block, done: None).run(2)
    assert torch.equal(resumed.rows, block.rows)
    for name, value in block.state.items():
        assert torch.equal(resumed.state[name], value), name


@pytest.mark.parametrize("dynamic", [False, True])
def test_bytes_are_those_of_full_sharing_and_the_keys(
    make_job: MakeJob, host: Callable[..., Any], dynamic: bool
) -> None:
    topology = {"name": "regular", "degree": 4, "dynamic": dynamic}
    plain, _ = host(make_job({"topology": topology}))
    block, _ = host(make_job({"topology": topology, "algorithm": secure()}))
    d, rounds = 4, 5
    keys = d * (HEADER_BYTES + 32) + d * (HEADER_BYTES + (d - 1) * 36)
    more = block.state["bytes_sent"] - plain.state["bytes_sent"]
    assert more.tolist() == [keys * (rounds if dynamic else 1)] * 8
    assert block.state["bytes_sent"].sum() == block.state["bytes_received"].sum()


def test_it_composes_with_skiptrain(make_job: MakeJob, host: Callable[..., Any]) -> None:
    inner = {"train_rounds": 1, "sync_rounds": 1}
    block, _ = host(make_job({"algorithm": {"name": "skiptrain", **inner, "algorithm": secure()}}))
    plain, _ = host(make_job({"algorithm": {"name": "skiptrain", **inner}}))
    torch.testing.assert_close(block.rows, plain.rows, rtol=0, atol=1e-4)
    assert torch.equal(block.state["training_rounds"], plain.state["training_rounds"])


@pytest.mark.parametrize(
    ("changes", "field", "problem"),
    [
        ({"algorithm": secure(fraction_bits=31)}, "algorithm.fraction_bits", "1 to 30"),
        ({"algorithm": secure(fraction_bits=0)}, "algorithm.fraction_bits", "1 to 30"),
        ({"algorithm": secure(share=0)}, "algorithm.share", "greater than 0"),
        ({"algorithm": secure(drop_rate=0.1)}, "algorithm.drop_rate", "now faults.loss"),
        ({"algorithm": secure(keys="none")}, "algorithm.keys", "seeded"),
        ({"algorithm": secure(on_missing="wait")}, "algorithm.on_missing", "recover"),
        ({"algorithm": secure(), "topology": "star"}, "algorithm.allow_exposed", "hears only one"),
    ],
)
def test_what_cannot_work_is_explained_beforehand(
    make_job: MakeJob, changes: dict[str, Any], field: str, problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_job(changes)
    assert caught.value.field == field
    assert problem in str(caught.value)
    assert "fix:" in str(caught.value)


def test_a_model_that_does_not_fit_stops_the_run(
    make_job: MakeJob, host: Callable[..., Any]
) -> None:
    job = make_job({"algorithm": secure(fraction_bits=30), "train.optimizer.lr": 30})
    with pytest.raises(RunError, match="set fewer fraction_bits") as caught:
        host(job)
    assert caught.value.node is not None
    assert caught.value.round is not None


def test_a_receiver_that_would_become_exposed_is_refused_before_the_run(
    make_job: MakeJob, host: Callable[..., Any]
) -> None:
    topology = {"name": "churn", "topology": "ring", "absent": {3: [[2, 3]]}}
    with pytest.raises(ConfigError, match="node 2 hears only one other in round 3"):
        make_job({"topology": topology, "algorithm": secure()})
    shown = {"topology": topology, "algorithm": secure(allow_exposed=True)}
    assert torch.isfinite(host(make_job(shown))[0].rows).all()


def test_a_network_that_exposes_later_is_refused_before_the_run() -> None:
    churn = {"name": "churn", "leave": 0.3, "topology": {"name": "regular", "degree": 3}}
    settings = {"algorithm": "secure_dpsgd", "nodes": 8, "rounds": 5, "topology": churn}
    with pytest.raises(ConfigError, match=r"hears only one other in round \d+"):
        prepare(RunFile.parse(settings))
