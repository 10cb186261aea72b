"""Mode shares end to end: the same answers, from a client that decrypts uniform numbers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from hansa.base.errors import ConfigError
from hansa.infer.private.client_steps import Shift, SumPool, Table
from hansa.infer.private.integer_net import accumulate, evaluate, read_rows
from hansa.infer.private.program import (
    LOGITS,
    Activation,
    Block,
    Program,
    Round,
    Term,
    Value,
    bounds,
)
from hansa.infer.private.rlwe import ciphers
from hansa.infer.private.sessions.errors import ProtocolError
from hansa.infer.private.sessions.messages import read_upload, upload_payload
from hansa.infer.private.sessions.outline import Outline
from hansa.infer.private.sessions.scheme import Scheme
from hansa.infer.private.sessions.sides import client_session, server_model, server_session
from hansa.infer.private.shares.share_client import ShareClient
from hansa.infer.private.shares.share_model import ShareModel, failure_log2, least_plain_bits
from hansa.infer.private.shares.share_server import ShareServer
from hansa.infer.private.shares.step_circuits import guard_bits

from . import made_programs

SCHEME = Scheme("n2048", 20, hides="none", mode="shares", flooding_bits=0, reveals="class")
SEED, OWN, OTHER = bytes(32), b"c" * 32, b"s" * 32


@cache
def small() -> Program:
    return made_programs.mlp((12, 9, 6, 4))


@cache
def model(reveals: Any = "class") -> ShareModel:
    program = small()
    bits = least_plain_bits(program)
    made = server_model(program, replace(SCHEME, plain_bits=bits, reveals=reveals))
    assert isinstance(made, ShareModel)
    return made


def pair(of: ShareModel, secret: bytes = OTHER) -> tuple[ShareClient, ShareServer]:
    """Both sides, the client's from what a wire carries."""
    outline = Outline.of(json.loads(json.dumps(of.outline.plain())))
    client = client_session(outline, Scheme.of(of.scheme.plain()), SEED, OWN)
    return client, server_session(of, SEED, secret)


def drive(
    requests: Generator[bytes, bytes, Any], server: ShareServer, query: int
) -> tuple[Any, list[tuple[bytes, bytes]]]:
    """The result, and what was said."""
    said, step = [], 0
    payload = next(requests)
    while True:
        reply = server.answer(query, step, payload)
        said.append((payload, reply))
        step += 1
        try:
            payload = requests.send(reply)
        except StopIteration as done:
            return done.value, said


def rows_of(program: Program, count: int, seed: int = 0) -> np.ndarray:
    value = program.input
    draw = np.random.default_rng(seed)
    return draw.integers(value.low, value.high + 1, (count, *program.input_shape)).astype(float)


def expected(program: Program, rows: np.ndarray) -> np.ndarray:
    return evaluate(program, read_rows(program, rows))


@pytest.mark.parametrize("reveals", ["class", "logits"])
def test_answers_are_those_of_the_program(reveals: str) -> None:
    of, rows = model(reveals), rows_of(small(), 6)
    client, server = pair(of)
    drive(client.open(), server, -1)
    for query, row in enumerate(rows):
        answers, said = drive(client.ask(query, row[None]), server, query)
        logits = expected(small(), row[None])
        np.testing.assert_array_equal(answers.classes, logits.argmax(1))
        if reveals == "logits":
            np.testing.assert_array_equal(answers.logits, logits)
        else:
            assert answers.logits is None
        assert len(said) == of.steps(query)
        assert tuple(len(one) for one, _ in said) == of.sizes.requests
        assert tuple(len(one) for _, one in said) == of.sizes.replies


def test_images_pools_and_residuals_come_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made_programs.Maker, "weight_bits", 3)
    for program in (made_programs.lenet(14), made_programs.resnet(1, side=8, width=4)):
        scheme = replace(SCHEME, plain_bits=least_plain_bits(program), reveals="logits")
        client, server = pair(ShareModel(program, scheme))
        drive(client.open(), server, -1)
        row = rows_of(program, 1)
        answers, _ = drive(client.ask(0, row), server, 0)
        np.testing.assert_array_equal(answers.logits, expected(program, row))


def answered(program: Program, row: np.ndarray) -> np.ndarray:
    """Logits of one query of a fresh session."""
    scheme = replace(SCHEME, plain_bits=least_plain_bits(program), reveals="logits")
    client, server = pair(server_model(program, scheme))
    drive(client.open(), server, -1)
    return np.asarray(drive(client.ask(0, row), server, 0)[0].logits)


def test_random_layers_and_networks_come_to_the_same() -> None:
    draw = np.random.default_rng(7)
    for seed in range(10):
        program = (made_programs.one_layer if seed % 2 else made_programs.network)(draw)
        row = rows_of(program, 1, seed)
        np.testing.assert_array_equal(answered(program, row), expected(program, row))


def test_two_activations_of_one_block_and_negative_values() -> None:
    values = {
        "in": Value("in", (3, 2, 2), -9, 9, 1.0),
        "one": Value("one", (4, 1, 1), -20, 20, 1.0),
        "two": Value("two", (4, 2, 2), -3, 12, 1.0),
    }
    draw = np.random.default_rng(3)

    def block(name: str, shape: tuple[int, int, int], *terms: Term) -> Block:
        bias = draw.integers(-50, 50, shape[0])
        return Block(name, terms, bias, shape, *bounds(terms, bias, values), 1.0)

    def weight(*shape: int) -> np.ndarray:
        return draw.integers(-7, 8, shape)

    first = block("first", (4, 2, 2), Term("in", weight(4, 3, 1, 1)))
    last = block(
        "last", (5, 1, 1), Term("one", weight(5, 4, 1, 1)), Term("two", weight(5, 4, 2, 2))
    )
    pool = SumPool((2, 2), (2, 2), (0, 0, 0, 0))
    made = (
        Activation("first", (Shift(2, -40, 40), pool, Shift(3, -20, 20)), "one"),
        Activation("first", (Table((-60, 0, 9), (-3, 4, 12, 5)),), "two"),
    )
    program = Program(
        values,
        (
            Round(("in",), (first,), made),
            Round(("one", "two"), (last,), (Activation("last", (), LOGITS),)),
        ),
        (3, 2, 2),
        np.zeros(3),
    )
    for seed in range(4):
        row = rows_of(program, 1, seed)
        np.testing.assert_array_equal(answered(program, row), expected(program, row))


def test_accumulators_that_need_wider_words() -> None:
    program, rows = small(), rows_of(small(), 2)
    for profile, bits in (("n2048", 23), ("n4096", 26), ("n8192", 24)):
        scheme = replace(SCHEME, profile=profile, plain_bits=bits, reveals="logits")
        assert scheme.word_bits > 32
        client, server = pair(server_model(program, scheme))
        drive(client.open(), server, -1)
        for query, row in enumerate(rows):
            answers, _ = drive(client.ask(query, row[None]), server, query)
            np.testing.assert_array_equal(answers.logits, expected(program, row[None]))


def test_the_same_secrets_make_the_same_bytes_and_others_do_not() -> None:
    of, row = model(), rows_of(small(), 1)
    saids = []
    for secret in (OTHER, OTHER, b"x" * 32):
        client, server = pair(of, secret)
        drive(client.open(), server, -1)
        saids.append(drive(client.ask(0, row), server, 0)[1])
    assert saids[0] == saids[1]
    assert saids[0][0][0] == saids[2][0][0]
    assert saids[0][0][1] != saids[2][0][1]


def test_a_server_that_was_killed_goes_on() -> None:
    of, row = model("logits"), rows_of(small(), 1)
    client, server = pair(of)
    opening = drive(client.open(), server, -1)[1]
    requests, payloads = client.ask(3, row), []
    payload = next(requests)
    for step in range(3):
        payloads.append(payload)
        payload = requests.send(server.answer(3, step, payload))
    fresh = ShareServer(of, SEED, OTHER)
    fresh.restore(-1, [one for one, _ in opening])
    fresh.restore(3, payloads)
    for step in range(3, of.steps(3)):
        try:
            payload = requests.send(fresh.answer(3, step, payload))
        except StopIteration as done:
            np.testing.assert_array_equal(done.value.logits, expected(small(), row))


def test_the_last_request_may_be_repeated_but_not_changed() -> None:
    client, server = pair(model())
    drive(client.open(), server, -1)
    first = next(client.ask(0, rows_of(small(), 1)))
    other = next(client.ask(0, rows_of(small(), 1, seed=1)))
    assert server.answer(0, 0, first) == server.answer(0, 0, first)
    with pytest.raises(ProtocolError, match="changed"):
        server.answer(0, 0, other)
    with pytest.raises(ProtocolError, match="out_of_order"):
        server.answer(0, 2, first)
    with pytest.raises(ProtocolError, match="malformed"):
        server.answer(0, 1, first)


def test_requests_before_the_opening_or_of_no_size_are_refused() -> None:
    client, server = pair(model())
    with pytest.raises(ProtocolError, match="not open"):
        server.answer(0, 0, b"")
    with pytest.raises(ProtocolError, match="malformed"):
        server.answer(-1, 0, b"short")
    opening = next(client.open())
    with pytest.raises(ProtocolError, match="not a point"):
        server.answer(-1, 0, opening[:-33] + bytes(33))
    with pytest.raises(ProtocolError, match="not open"):
        next(client.ask(0, rows_of(small(), 1)))


def test_a_client_that_fails_the_check_is_shut_out() -> None:
    client, server = pair(model())
    drive(client.open(), server, -1)
    requests = client.ask(0, rows_of(small(), 1))
    request = requests.send(server.answer(0, 0, next(requests)))
    with pytest.raises(ProtocolError, match="cheating"):
        server.answer(0, 1, request[:-1] + bytes([request[-1] ^ 1]))
    with pytest.raises(ProtocolError, match="cheating"):
        server.answer(0, 1, request)


def hidden_in_noise(client: ShareClient, query: int) -> bytes:
    """An upload of zero whose errors hold a query, far below a message's unit."""
    ring, zeros = client.profile, np.zeros((1, client.profile.n), np.int64)
    seed, b_ntt = read_upload(ring, client.request(query, 0, zeros), 1)
    unit = np.int64(ring.q >> client.scheme.plain_bits)
    pattern = np.zeros_like(zeros)
    pattern[0, ::3] = unit >> 6
    ciphers.add(ring, b_ntt, ciphers.to_ntt(ring, pattern))
    return upload_payload(ring, 1, seed, b_ntt)


@pytest.mark.parametrize("kind", ["zeros", "large", "in the noise"])
def test_what_the_client_decrypts_is_uniform_whatever_it_sends(kind: str) -> None:
    of = model()
    client, server = pair(of)
    drive(client.open(), server, -1)
    found = []
    for query in range(200):
        if kind == "in the noise":
            request = hidden_in_noise(client, query)
        else:
            messages = np.full((1, of.profile.n), 500 if kind == "large" else 0)
            request = client.request(query, 0, messages)
        found.append(client.decrypt(of.outline.turns[0], server.answer(query, 0, request))[0])
    numbers = np.concatenate(found)
    for places in (of.scheme.plain_bits - 2, 0):
        seen = np.bincount(numbers >> places & 15, minlength=16)
        even = len(numbers) / 16
        # 15 degrees of freedom: larger than 50 once in 10^5 times.
        assert ((seen - even) ** 2 / even).sum() < 50


def test_garbage_is_refused_by_name_and_changes_nothing_that_is_sent() -> None:
    of, row, draw = model(), rows_of(small(), 1), np.random.default_rng(9)

    def spoilt(payload: bytes) -> bytes:
        at = int(draw.integers(len(payload)))
        return payload[:at] + bytes([payload[at] ^ int(draw.integers(1, 256))]) + payload[at + 1 :]

    client, server = pair(of)
    opening = next(client.open())
    for _ in range(20):
        fresh = ShareServer(of, SEED, OTHER)
        with contextlib.suppress(ProtocolError):
            fresh.answer(-1, 0, spoilt(opening))
    drive(client.open(), server, -1)
    for query in range(12):
        requests, sent, classes = client.ask(query, row), [], -1
        payload = next(requests)
        for step in range(of.steps(query)):
            sent.append(len(payload))
            reply = server.answer(query, step, payload)
            try:
                payload = requests.send(spoilt(reply) if step % 2 else reply)
            except StopIteration as done:
                classes = int(done.value.classes[0])
        assert 0 <= classes < 4
        assert tuple(sent) == of.sizes.requests


def test_numbers_that_do_not_fit_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="plain_bits: "):
        ShareModel(small(), replace(SCHEME, plain_bits=8))
    with pytest.raises(ConfigError, match="no room for exact answers"):
        ShareModel(small(), replace(SCHEME, plain_bits=30))
    client, server = pair(model())
    drive(client.open(), server, -1)
    with pytest.raises(ConfigError, match="one query takes one row"):
        next(client.ask(0, rows_of(small(), 2)))


def test_the_bound_of_failure_holds_what_is_measured() -> None:
    of = model()
    client, server = pair(of)
    drive(client.open(), server, -1)
    errors = []
    for query in range(30):
        numbers = rows_of(small(), 1, query)
        held = {0: of.outline.read(numbers)}
        request = client.request(query, 0, client.messages(of.outline.turns[0], held))
        reply = server.answer(query, 0, request)
        masked = client.decrypt(of.outline.turns[0], reply)[0] - server._query.masks[0]
        block = small().rounds[0].blocks[0]
        true = accumulate(block, {"input": held[0]}).reshape(-1)
        guard = 1 << guard_bits(of.scheme.plain_bits)
        modulus = guard << of.scheme.plain_bits
        errors.append((masked - true * guard + modulus // 2) % modulus - modulus // 2)
    # Both roundings together: one at most, of four in a unit.
    assert np.abs(np.concatenate(errors)).max() <= 1
    assert failure_log2(of.scheme, 10**4) < -40
    assert failure_log2(replace(of.scheme, plain_bits=30), 10**4) > -40
