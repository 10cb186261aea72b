"""The ResNet-20 that is shipped as integers, asked under encryption."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest

from hansa.infer.private.compiling.certificate import choose_scheme, hidden_bits
from hansa.infer.private.compiling.program_file import read_program
from hansa.infer.private.integer_net import evaluate, read_rows
from hansa.infer.private.program import Program
from hansa.infer.private.sessions.sides import client_session, server_model, server_session

INFER = Path(__file__).parents[3] / "benchmarks" / "infer"
FILE = INFER / "resnet20_int8.safetensors"


@pytest.fixture(scope="module")
def program() -> Program:
    return read_program(FILE)


def asked(program: Program, rows: np.ndarray) -> np.ndarray:
    """The logits of rows, each a query of one session."""
    scheme = choose_scheme(program, profile_name="n4096")
    assert hidden_bits(program, scheme) >= 40
    model, seed = server_model(program, scheme), hashlib.sha256(b"mask").digest()
    server = server_session(model, seed, hashlib.sha256(b"server").digest())
    client = client_session(model.outline, scheme, seed, hashlib.sha256(b"client").digest())
    answers = []
    for query in range(-1, len(rows)):
        steps = client.open() if query < 0 else client.ask(query, rows[query : query + 1])
        step, reply = 0, None
        while True:
            try:
                request = next(steps) if reply is None else steps.send(reply)
            except StopIteration as end:
                answers.append(end.value)
                break
            reply, step = server.answer(query, step, request), step + 1
    return np.concatenate([one.logits for one in answers[1:]])


def test_the_file_is_the_one_that_was_measured(program: Program) -> None:
    told = (INFER / "private_resnet.py").read_text()
    assert f'SHA256 = "{hashlib.sha256(FILE.read_bytes()).hexdigest()}"' in told
    assert FILE.stat().st_size < 500_000
    assert len(program.rounds) == 20
    assert program.input_shape == (3, 32, 32)
    lost = program.facts["accuracy_real"] - program.facts["accuracy_w8a7"]  # type: ignore[operator]
    assert lost <= 0.005


def test_an_image_gets_the_logits_of_the_integers(program: Program) -> None:
    rows = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)
    assert (asked(program, rows) == evaluate(program, read_rows(program, rows))).all()


@pytest.mark.data
def test_real_images_get_the_logits_of_the_integers(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(INFER)
    from resnet20_train import images, normalised

    sys.modules.pop("resnet20_train")
    _, _, pixels, labels = images()
    rows = normalised(pixels[:8]).numpy()
    logits = asked(program, rows)
    assert (logits == evaluate(program, read_rows(program, rows))).all()
    assert (logits.argmax(1) == labels[:8].numpy()).mean() > 0.5
