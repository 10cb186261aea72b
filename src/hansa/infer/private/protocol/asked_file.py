"""A file's rows asked about, and what came of it in a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hansa.base.errors import ConfigError, HansaError
from hansa.infer.private.protocol.client_state import digest_of, state_in
from hansa.infer.private.protocol.model_service import SizedSide, client_side
from hansa.infer.private.protocol.pins import Identity
from hansa.infer.private.protocol.private_client import Predictions, asking
from hansa.infer.private.protocol.row_files import fitted, out_of_range, write_predictions
from hansa.infer.private.sessions.outline import Outline


class WrongAnswers(HansaError):
    """A server computes something else than it says: none of its answers is given."""


@dataclass
class AskedFile:
    """Predictions of a file's rows.

    Attributes:
        names: each row's class; its number, of a network of one output, which has no classes.
        facts: as JSON can hold them.
    """

    predictions: Predictions
    names: list[str]
    facts: dict[str, Any]


def ask_file(
    rows: np.ndarray,
    source: Path,
    out: Path | None,
    address: tuple[str, int],
    pin: str,
    identity: Identity | None = None,
    state: Path | None = None,
    resume: bool = False,
    threads: int = 1,
    stored: bool = False,
    told: Callable[[int, int], None] | None = None,
) -> AskedFile:
    """Ask a server about rows, and write what it comes to.

    Args:
        rows: float64 [n, ...] of the file ``source``.
        out: where predictions go; None: nowhere.
        state: folder of the session; with ``resume`` it holds one.
        stored: rows are as the data are stored: they are prepared as in training first.

    Raises:
        ConfigError: rows that the network does not read, or are scaled otherwise, or a state that
            is another's.
        WrongAnswers: the server computes something else than it says; nothing is written.
        Refusal, Unreachable, WrongServer, WireError: the server refuses, is gone, is another, or
            does not keep to the protocol.
    """

    sides: list[SizedSide] = []

    def opened(outline: bytes, scheme: bytes, mask_seed: bytes, secret: bytes) -> SizedSide:
        sides.append(client_side(outline, scheme, mask_seed, secret, threads))
        return sides[-1]

    with state_in(state) as kept:
        more: dict[str, Any] = {"identity": identity, "state": kept, "resume": resume}
        more |= {"rows": digest_of(rows, stored), "stored": stored}
        with asking(address, pin, opened, **more) as client:
            client.open()
            outline = sides[-1].outline
            try:
                shaped = fitted(rows, outline.input_shape, source)
                read = outline.prepared(shaped) if stored else shaped
            except ConfigError:
                client.end()
                raise
            refusal = _out_of_range(read, outline, source, stored)
            made = client.ask(shaped, told)
            single = made.logits is not None and made.logits.shape[1] == 1
            columns: dict[str, Any] = {} if single else {"classes": made.classes}
            if made.logits is not None:
                columns["logits"] = made.logits * outline.logits_scale
                columns["accumulators"] = made.logits
            wrong = int((~made.in_range).sum())
            if out is not None and refusal is None and not wrong:
                write_predictions(out, columns, outline.classes)
    if refusal is not None:
        raise refusal
    if wrong:
        raise WrongAnswers(
            f"{wrong} of {len(made.classes)} rows met numbers that the network cannot come to: the "
            "server is not computing what it says, and its answers are worth nothing\n"
            "  fix: ask another server, or its owner"
        )
    classes = outline.classes
    told_facts: dict[str, Any]
    if single:
        values = columns["logits"][:, 0].tolist()
        names, told_facts = [f"{value:.6g}" for value in values], {"values": values}
    else:
        names = [classes[k] if k < len(classes) else str(k) for k in made.classes.tolist()]
        told_facts = {"classes": names}
    facts = {
        "rows": len(names),
        **told_facts,
        "in_range": bool(made.in_range.all()),
        "queries": made.queries,
        "requests": made.requests,
        "bytes_up": made.traffic.bytes_up,
        "bytes_down": made.traffic.bytes_down,
        "connections": made.traffic.lines,
        "compute_s": made.compute_s,
        "wall_s": made.wall_s,
        "out": None if out is None else str(out),
    }
    return AskedFile(made, names, facts)


def _out_of_range(
    read: np.ndarray, outline: Outline, source: Path, stored: bool
) -> ConfigError | None:
    """What is wrong with the scale of rows as the network reads them, if it is much."""
    value, offset = outline.values[0], np.asarray(outline.offset)
    low, high = (offset + bound * outline.scale for bound in (value.low, value.high))
    way = ", or --stored" if outline.prepare is not None and not stored else ""
    return out_of_range(read.reshape(len(read), len(offset), -1), low, high, source, way)
