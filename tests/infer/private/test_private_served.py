"""Compiled programs over TLS: answers are those of the integers, whichever side was taken up."""

from __future__ import annotations

import csv
import json
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.base.errors import ConfigError, DataError, HansaError, HansaWarning
from hansa.infer.private.compiling.certificate import choose_scheme
from hansa.infer.private.integer_net import evaluate, read_rows
from hansa.infer.private.program import Program
from hansa.infer.private.protocol import row_files
from hansa.infer.private.protocol.allowances import Quotas, check_budget
from hansa.infer.private.protocol.asked_file import WrongAnswers, ask_file
from hansa.infer.private.protocol.codes import Refusal
from hansa.infer.private.protocol.desk import Desk
from hansa.infer.private.protocol.dialing import Retries
from hansa.infer.private.protocol.loopback import Nearby, serve_in_thread
from hansa.infer.private.protocol.model_service import (
    ModelService,
    client_side,
    equations,
    program_digest,
)
from hansa.infer.private.protocol.pins import Identity, clients_in, make_identity
from hansa.infer.private.protocol.private_client import asking
from hansa.infer.private.protocol.private_server import PrivateServer

from .made_programs import lenet, mlp


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return make_identity(tmp_path_factory.mktemp("keys"), "server")


def rows_of(program: Program, n: int) -> np.ndarray:
    return np.random.default_rng(5).uniform(0, 127, (n, *program.input_shape))


@contextmanager
def served(keys: Identity, folder: Path, service: ModelService, **more: Any) -> Iterator[Nearby]:
    desk = Desk(
        service, folder, more.pop("quotas", Quotas()), more.pop("live", 8), "clients" in more
    )
    with serve_in_thread(PrivateServer(desk, keys, workers=2, **more), keys.fingerprint) as nearby:
        yield nearby


@pytest.mark.parametrize("made", [mlp, lenet])
def test_logits_are_those_of_the_integers(made: Any, keys: Identity, tmp_path: Path) -> None:
    program = made()
    service = ModelService(program, choose_scheme(program, profile_name="n4096"))
    rows = rows_of(program, 3)
    with (
        served(keys, tmp_path, service) as nearby,
        asking(nearby.address, nearby.pin, client_side) as client,
    ):
        answers = client.ask(rows)
    wanted = evaluate(program, read_rows(program, rows))
    assert np.array_equal(answers.logits, wanted)
    assert np.array_equal(answers.classes, wanted.argmax(1))
    assert answers.in_range.all()


def test_eight_clients_at_once(keys: Identity, tmp_path: Path) -> None:
    program = lenet()
    rows = rows_of(program, 8)
    wanted = evaluate(program, read_rows(program, rows))
    meet = threading.Barrier(8)
    service = ModelService(program, choose_scheme(program))
    with served(keys, tmp_path, service, live=4) as nearby:

        def one(k: int) -> bool:
            with asking(nearby.address, nearby.pin, client_side) as client:
                client.open()
                meet.wait(120)  # all eight have begun
                return np.array_equal(client.ask(rows[[k]]).logits, wanted[[k]])

        with ThreadPoolExecutor(8) as clients:
            assert all(clients.map(one, range(8)))


def test_shares_tell_classes_alone(keys: Identity, tmp_path: Path) -> None:
    program = mlp((16, 8, 4))
    service = ModelService(program, choose_scheme(program, "shares"))
    rows = rows_of(program, 3)
    with (
        served(keys, tmp_path / "state", service) as nearby,
        asking(nearby.address, nearby.pin, client_side) as client,
    ):
        answers = client.ask(rows)
        np.save(tmp_path / "rows.npy", rows)
        asked = ask_file(
            rows, tmp_path / "rows.npy", tmp_path / "out.json", nearby.address, nearby.pin
        )
    assert answers.logits is None
    wanted = evaluate(program, read_rows(program, rows)).argmax(1)
    assert np.array_equal(answers.classes, wanted)
    assert json.loads((tmp_path / "out.json").read_text())["class_numbers"] == wanted.tolist()
    assert asked.facts["requests"] == answers.requests


@pytest.mark.parametrize("packing", ["batch", "rows"])
def test_other_packings_are_served_too(packing: Any, keys: Identity, tmp_path: Path) -> None:
    program = mlp((16, 8, 4))
    scheme = choose_scheme(program, packing=packing, profile_name="n4096")
    service = ModelService(program, scheme)
    rows = rows_of(program, 5)
    with (
        served(keys, tmp_path, service) as nearby,
        asking(nearby.address, nearby.pin, client_side) as client,
    ):
        answers = client.ask(rows)
    assert np.array_equal(answers.logits, evaluate(program, read_rows(program, rows)))
    assert answers.queries == (1 if packing == "batch" else 5)


def test_sessions_that_make_room_for_each_other_answer_the_same(
    keys: Identity, tmp_path: Path
) -> None:
    program = lenet()
    service = ModelService(program, choose_scheme(program))
    rows = rows_of(program, 2)
    wanted = evaluate(program, read_rows(program, rows))
    with (
        served(keys, tmp_path, service, live=1) as nearby,
        asking(nearby.address, nearby.pin, client_side) as one,
        asking(nearby.address, nearby.pin, client_side) as other,
    ):
        for k in (0, 1):
            assert np.array_equal(one.ask(rows[[k]]).logits, wanted[[k]])
            assert np.array_equal(other.ask(rows[[k]]).logits, wanted[[k]])


def test_a_server_that_is_started_again_goes_on(keys: Identity, tmp_path: Path) -> None:
    program = lenet()
    scheme = choose_scheme(program)
    rows = rows_of(program, 1)
    servers = []

    class Ending(ModelService):
        """Its third step is the last that it answers."""

        asked = 0

        def session(self, mask_seed: bytes, secret: bytes) -> Any:
            side = super().session(mask_seed, secret)
            answer = side.answer

            def counted(query: int, step: int, payload: bytes) -> bytes:
                self.asked += 1
                if self.asked > 3:
                    raise ConnectionResetError
                return answer(query, step, payload)

            side.answer = counted  # type: ignore[method-assign]
            return side

    desk = Desk(Ending(program, scheme), tmp_path)
    server = PrivateServer(desk, keys, workers=1)

    def pause(seconds: float) -> None:
        if not servers:
            server.desk = Desk(ModelService(program, scheme), tmp_path)
            servers.append(server.desk)

    with (
        serve_in_thread(server, keys.fingerprint) as nearby,
        asking(nearby.address, nearby.pin, client_side, retries=Retries((0.0,)), wait=pause) as c,
    ):
        assert np.array_equal(c.ask(rows).logits, evaluate(program, read_rows(program, rows)))
    assert servers[0].counts.sessions == 0


def test_budgets_are_counted_by_certificate_and_layer(keys: Identity, tmp_path: Path) -> None:
    program = mlp()
    scheme = choose_scheme(program, "budget")
    told = equations(program, 1)
    share = 2 * max(one.told / one.unknown for one in told.values())
    with pytest.raises(ConfigError, match="one query tells up to"):
        check_budget(told, share / 4)
    check_budget(told, share)
    me = make_identity(tmp_path / "me", "client")
    clients = clients_in(tmp_path / "me")
    service = ModelService(program, scheme)
    more: dict[str, Any] = {"clients": clients, "quotas": Quotas(budget=share)}
    with served(keys, tmp_path / "state", service, **more) as nearby:
        for _ in range(2):
            with asking(nearby.address, nearby.pin, client_side, identity=me) as client:
                client.ask(rows_of(program, 1))
        with (
            pytest.raises(Refusal, match="budget: layer"),
            asking(nearby.address, nearby.pin, client_side, identity=me) as client,
        ):
            client.ask(rows_of(program, 1))


def places(facts: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in plain data: what holds it, and its key."""
    if not isinstance(facts, (dict, list)):
        return
    for key in facts if isinstance(facts, dict) else range(len(facts)):
        value = facts[key]
        yield facts, key
        yield from places(value)


def test_whatever_a_server_tells_of_its_program_is_read_or_refused() -> None:
    draw = random.Random(3)
    program = lenet()
    service = ModelService(program, choose_scheme(program))
    strange = (None, -1, 0, 1, 7, 2**40, 2**63, 1e308, float("nan"), "x", [], {}, [[1]], True)
    read = 0
    for k in range(400):
        facts = [json.loads(service.outline), json.loads(service.scheme)]
        for _ in range(draw.randint(1, 2)):
            holder, key = draw.choice(list(places(facts[k % 8 == 0])))
            holder[key] = draw.choice(strange)
        outline, scheme = (json.dumps(one).encode() for one in facts)
        try:
            side = client_side(outline, scheme, bytes(32), bytes(32))
            request = next(side.ask(0, np.zeros((1, *program.input_shape))))
        except HansaError:
            continue
        assert len(request) < 1 << 22
        read += 1
    assert 0 < read < 400


def test_a_digest_tells_any_two_programs_apart() -> None:
    program, other = mlp(), mlp()
    assert program_digest(program, b"") == program_digest(other, b"")
    assert program_digest(program, b"") != program_digest(other, b"scheme")
    other.rounds[0].blocks[0].terms[0].weight[0, 0] += 1
    assert program_digest(program, b"") != program_digest(other, b"")


def test_a_file_is_asked_about(keys: Identity, tmp_path: Path) -> None:
    program = mlp()
    service = ModelService(program, choose_scheme(program))
    rows = rows_of(program, 2)
    source = tmp_path / "rows.npy"
    np.save(source, rows)
    wanted = evaluate(program, read_rows(program, rows))
    with served(keys, tmp_path / "state", service) as nearby:
        for ending in (".npz", ".csv", ".json"):
            out = tmp_path / f"out{ending}"
            read = row_files.read_rows(source)
            asked = ask_file(
                read, source, out, nearby.address, nearby.pin, state=tmp_path / "client"
            )
            assert asked.facts["rows"] == 2
        with pytest.raises(ConfigError, match="rows of 3 numbers"):
            ask_file(
                np.ones((2, 3)), source, None, nearby.address, nearby.pin, state=tmp_path / "client"
            )
        few = rows.copy()
        few[:, ::20] = 1e6
        with pytest.warns(HansaWarning, match="are they scaled as in training"):
            ask_file(few, source, None, nearby.address, nearby.pin)
        with pytest.raises(ConfigError, match="rows scaled as in training"):
            ask_file(1000 * rows + 7, source, None, nearby.address, nearby.pin)
    assert not (tmp_path / "client/session.json").exists()
    with np.load(tmp_path / "out.npz") as file:
        assert np.array_equal(file["accumulators"], wanted)
        assert np.allclose(file["logits"], wanted * program.logits.scale)
        assert np.array_equal(file["classes"], wanted.argmax(1))
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["accumulators"] == wanted.tolist()
    table = list(csv.reader((tmp_path / "out.csv").open()))
    assert [len(line) for line in table] == [2 + wanted.shape[1]] * 3


class Lying(ModelService):
    """Answers with noise of the right size."""

    def session(self, mask_seed: bytes, secret: bytes) -> Any:
        side = super().session(mask_seed, secret)
        honest = side.answer

        def answer(query: int, step: int, payload: bytes) -> bytes:
            reply = honest(query, step, payload)
            return reply if query < 0 else random.Random(step).randbytes(len(reply))

        side.answer = answer  # type: ignore[method-assign]
        return side


def test_answers_of_a_server_that_lies_are_not_given(keys: Identity, tmp_path: Path) -> None:
    program = mlp()
    service, rows = Lying(program, choose_scheme(program)), rows_of(program, 2)
    source, out = tmp_path / "rows.npy", tmp_path / "out.json"
    with (
        served(keys, tmp_path / "state", service) as nearby,
        pytest.raises(WrongAnswers, match="2 of 2 rows"),
    ):
        ask_file(rows, source, out, nearby.address, nearby.pin)
    assert not out.exists()


def test_rows_of_every_kind_of_file(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    rows = np.arange(6.0).reshape(2, 3)
    np.save(tmp_path / "a.npy", rows)
    np.savez(tmp_path / "b.npz", inputs=rows, labels=np.zeros(2))
    save_file({"x": rows.astype(np.float32)}, tmp_path / "c.safetensors")
    (tmp_path / "d.csv").write_text("a,b,c\n0,1,2\n3,4,5\n")
    for path in sorted(tmp_path.iterdir()):
        assert np.array_equal(row_files.read_rows(path), rows), path
    (tmp_path / "e.csv").write_text("a,b,c\n0,1,2\n3,x,5\n")
    (tmp_path / "f.npy").write_bytes(b"no")
    np.save(tmp_path / "g.npy", np.array([[np.nan]]))
    np.save(tmp_path / "h.npy", np.array(3))
    for name, why in (
        ("e.csv", "'b' holds something"),
        ("f.npy", "cannot be read"),
        ("g.npy", "not finite"),
        ("h.npy", "not rows"),
    ):
        with pytest.raises(DataError, match=why):
            row_files.read_rows(tmp_path / name)
    for name in ("none.npy", "rows.docx"):
        with pytest.raises(ConfigError, match="input"):
            row_files.read_rows(tmp_path / name)


def test_rows_in_another_order_of_axes_are_refused(tmp_path: Path) -> None:
    """As many numbers in another order are another image, whose answer would be wrong."""
    path = tmp_path / "rows.npy"
    for held in ((32, 32, 3), (3, 16, 64), (32, 3, 32)):
        with pytest.raises(ConfigError, match="axes in the network's order"):
            row_files.fitted(np.zeros((2, *held)), (3, 32, 32), path)
    for held, wanted in (
        ((3072,), (3, 32, 32)), ((1, 3, 32, 32), (3, 32, 32)), ((8, 8), (1, 8, 8)),
        ((8, 8), (64,)), ((8, 8, 1), (1, 8, 8)),
    ):  # fmt: skip
        assert row_files.fitted(np.zeros((2, *held)), wanted, path).shape == (2, *wanted)


def test_a_table_whose_first_line_is_a_row_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("0.5,1.5\n2.5,3.5\n")
    with pytest.raises(DataError, match="its first line holds numbers"):
        row_files.read_rows(path)
    path.write_text("5,3\n2,4\n")
    with pytest.raises(DataError, match="its first line holds numbers"):
        row_files.read_rows(path)
    path.write_text("0,1\n2.5,3.5\n")  # as pandas names columns
    assert row_files.read_rows(path).tolist() == [[2.5, 3.5]]


def test_rows_as_they_are_stored(keys: Identity, tmp_path: Path) -> None:
    """Pixels are prepared where that is asked for, and refused where they are out of all range."""
    program = mlp()
    program.facts["prepare"] = {"scale": [0.5], "shift": [-3.0]}
    service, rows = ModelService(program, choose_scheme(program)), rows_of(program, 2)
    source = tmp_path / "rows.npy"
    with served(keys, tmp_path / "state", service) as nearby:
        ask = lambda rows, **more: ask_file(rows, source, None, nearby.address, nearby.pin, **more)  # noqa: E731
        plain = ask(rows)
        stored = ask((rows + 3) / 0.5, stored=True)
        assert np.array_equal(stored.predictions.logits, plain.predictions.logits)
        before = nearby.figures()["requests"]
        with pytest.raises(ConfigError, match="--stored"):
            ask(1000 * rows + 7)
        # The server sees what it sees of other rows: its range asks them nothing.
        assert nearby.figures()["requests"] - before == plain.facts["requests"] + 1


def test_a_network_of_one_output_tells_numbers_and_no_class(keys: Identity, tmp_path: Path) -> None:
    """The largest of one number is always the first: a class would be a wrong answer."""
    program = mlp((6, 8, 1))
    rows, source = rows_of(program, 3), tmp_path / "rows.npy"
    wanted = evaluate(program, read_rows(program, rows))[:, 0] * program.logits.scale
    service = ModelService(program, choose_scheme(program))
    with served(keys, tmp_path / "state", service) as nearby:
        for ending in (".npz", ".csv", ".json"):
            out = tmp_path / f"out{ending}"
            asked = ask_file(rows, source, out, nearby.address, nearby.pin)
            assert asked.facts["values"] == wanted.tolist()
            assert "classes" not in asked.facts
    assert (tmp_path / "out.csv").read_text().splitlines()[0] == "row,logit_0"
    assert "classes" not in json.loads((tmp_path / "out.json").read_text())
    with pytest.raises(ConfigError, match="one output"):
        choose_scheme(program, "shares")
