"""Compiled networks of every kind, asked through encrypted sessions: bit for bit the integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hansa.infer.private.compiling.certificate import choose_scheme
from hansa.infer.private.compiling.compiler import compile_network
from hansa.infer.private.compiling.quantize import Bits
from hansa.infer.private.integer_net import evaluate, read_rows
from hansa.infer.private.sessions.sides import client_session, server_model, server_session

from .test_compiling_networks import NETWORKS, settled


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even")
def test_encrypted_answers_are_those_in_the_clear(name: str) -> None:
    maker, shape = NETWORKS[name]
    torch.manual_seed(1)
    rows = np.random.default_rng(0).normal(size=(24, *shape)).astype(np.float32)
    program = compile_network(settled(maker()), rows, Bits(7, 6)).program
    scheme = choose_scheme(program)
    model, seed = server_model(program, scheme), bytes(32)
    server = server_session(model, seed, bytes([1]) * 32)
    client = client_session(model.outline, scheme, seed, bytes([2]) * 32)
    _answer(server, client.open(), -1)
    for query in range(2):
        some = rows[query : query + 1] * (1 + 3 * query)  # also beyond what was calibrated
        answers = _answer(server, client.ask(query, some), query)
        assert answers.in_range
        assert np.array_equal(answers.logits, evaluate(program, read_rows(program, some)))


def _answer(server: object, client: object, query: int):
    request, step = next(client), 0  # type: ignore[call-overload]
    while True:
        reply = server.answer(query, step, request)  # type: ignore[attr-defined]
        step += 1
        try:
            request = client.send(reply)  # type: ignore[attr-defined]
        except StopIteration as end:
            return end.value
