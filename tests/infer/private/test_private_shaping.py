"""A shaped line: the same bytes, never sooner than its rate and its round trip allow."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from hansa.infer.private.protocol.desk import Desk
from hansa.infer.private.protocol.loopback import serve_in_thread
from hansa.infer.private.protocol.pins import make_identity
from hansa.infer.private.protocol.private_client import asking
from hansa.infer.private.protocol.private_server import PrivateServer
from hansa.infer.private.protocol.shaping import predicted_s, shaped

from .toy_service import ToyClient, ToyService, expected


def test_a_shaped_line_takes_its_time(tmp_path: Path) -> None:
    keys = make_identity(tmp_path, "server")
    server = PrivateServer(Desk(ToyService(4), tmp_path / "state"), keys, workers=1)
    rows = np.arange(8).reshape(2, 4)
    with (
        serve_in_thread(server, keys.fingerprint) as nearby,
        shaped(nearby.address, 0.05, 10.0) as address,
        asking(address, nearby.pin, ToyClient) as client,
    ):
        client.open()
        before = client.traffic.bytes_up, client.traffic.bytes_down
        began = time.monotonic()
        answers = client.ask(rows)
        took = time.monotonic() - began
    assert np.array_equal(answers.logits, expected(rows, 4))
    up, down = client.traffic.bytes_up - before[0], client.traffic.bytes_down - before[1]
    # The greeting and the goodbye lie outside of what was timed; eight requests inside.
    assert took > 8 * 0.010
    assert predicted_s(0.0, up, down, 8, 0.05, 10.0) > 8 * 0.010


def test_predictions_add_up() -> None:
    assert predicted_s(1.0, 2_000_000, 3_000_000, 10, 5.0, 20.0) == 1.0 + 1.0 + 0.2
