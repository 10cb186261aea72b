"""What the parts of a query cost on this machine: measured once, in a few hundred milliseconds.

Times are of one thread's processor, the least of several tries, so that a busy machine changes
them little. They are kept in hansa's cache folder, by processor and profile.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from hansa.base.files import cache_folder, write_json
from hansa.base.lazy import Lazy
from hansa.infer.private.client_steps import Relu, Shift
from hansa.infer.private.linear.encrypted import Held
from hansa.infer.private.program import Activation, Block, Program, Round, Term, Value
from hansa.infer.private.rlwe.draws import Draws
from hansa.infer.private.rlwe.keys import PublicKey, SecretKey
from hansa.infer.private.rlwe.profiles import Profile
from hansa.infer.private.sessions.scheme import Scheme

ciphers = Lazy("hansa.infer.private.rlwe.ciphers")
batched = Lazy("hansa.infer.private.linear.batched")
packing = Lazy("hansa.infer.private.lwe.packing")
switch_keys = Lazy("hansa.infer.private.lwe.switch_keys")
share_model = Lazy("hansa.infer.private.shares.share_model")
sides = Lazy("hansa.infer.private.sessions.sides")

VERSION = 4
"""Of what is measured: an older file is measured anew."""
_TRIES = 4
_AT_ONCE = 6  # polynomials
_PLAIN_BITS, _FLOODING = 16, 30
_SIDE = 16  # of the weights of a product
_LEVELS, _TAPS = 6, (8, 256)  # of a tree that packs rows, and weights of each of its rows
_SHARED = (16, 512)  # numbers that are rectified


@dataclass(frozen=True)
class Costs:
    """Seconds of one thread.

    Attributes:
        encrypt, receive: of an uploaded polynomial, at the client and at the server.
        product: of a polynomial of weights with both halves.
        hide: of a reply's polynomial: re-randomised, flooded, and its mask switched to words.
        coefficient: of each of its coefficients that is sent, at the server.
        decrypt: of a reply's polynomial, at the client.
        weights: of one polynomial of weights made ready, once a session.
        key: of a session's key at the client.
        multiply: of one weight with a batch's ciphertext of a number (packing batch).
        step: of what a request costs beside all that, at each side.
    """  # what of mode shares is measured is ShareCosts

    encrypt: float
    receive: float
    product: float
    hide: float
    coefficient: float
    decrypt: float
    weights: float
    key: float
    multiply: float
    step: float = 3e-4


@dataclass(frozen=True)
class ShareCosts:
    """Seconds of one thread that mode shares takes beside the ciphertexts.

    Attributes:
        server_round, client_round: of a round's circuits, however small.
        server_byte, client_byte: of a byte of garbled circuits.
        opening: of a session's base transfers, at both sides.
    """

    server_round: float
    client_round: float
    server_byte: float
    client_byte: float
    opening: float


@dataclass(frozen=True)
class RowCosts:
    """Seconds of one thread that packing rows takes at the server.

    Attributes:
        row: of a number's ciphertext, packed with others again.
        tap: of a weight that it sums.
        keys: of the packing keys, at the client.
    """

    row: float
    tap: float
    keys: float


C = TypeVar("C", Costs, ShareCosts, RowCosts)


def costs_of(profile: Profile, measure_again: bool = False) -> Costs:
    """The costs in a profile, measured when they are first asked for."""
    return _kept(Costs, profile.name, lambda: measured(profile), measure_again)


def share_costs_of(profile: Profile, measure_again: bool = False) -> ShareCosts:
    """Those of mode shares."""
    ordinary = costs_of(profile)
    name = f"{profile.name}, shares"
    return _kept(ShareCosts, name, lambda: share_measured(profile, ordinary), measure_again)


def row_costs_of(profile: Profile, measure_again: bool = False) -> RowCosts:
    """Those of packing rows.

    Raises:
        ConfigError: the profile has no room for it.
    """
    return _kept(RowCosts, f"{profile.name}, rows", lambda: row_measured(profile), measure_again)


def _kept(kind: type[C], label: str, measure: Callable[[], C], measure_again: bool) -> C:
    file, name = costs_file(), f"{_processor()}, {label}"
    known = _read(file)
    if not measure_again and name in known:
        try:
            return kind(**known[name])
        except TypeError:
            pass  # another version's
    made = measure()
    known = _read(file)
    known[name] = {key: float(value) for key, value in asdict(made).items()}
    write_json(file, {"version": VERSION, "costs": known})
    return made


def costs_file() -> Path:
    """Where they are kept."""
    return cache_folder() / "private_costs.json"


def _read(file: Path) -> dict[str, dict[str, float]]:
    try:
        facts = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    whole = isinstance(facts, dict) and facts.get("version") == VERSION
    return dict(facts["costs"]) if whole and isinstance(facts.get("costs"), dict) else {}


def _processor() -> str:
    """What a machine's speed depends on, as far as it says."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {platform.machine()}"


def least(work: Callable[[], object], tries: int = _TRIES) -> float:
    """Seconds of this process's processor that a piece of work takes, the least of some tries."""
    work()  # compiled, and memory warm
    times = []
    for _ in range(tries):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def measured(profile: Profile) -> Costs:
    """The costs in a profile, measured now."""
    draws, k = Draws(bytes(32), "costs"), _AT_ONCE
    secret = SecretKey.make(profile, draws)
    public = PublicKey.make(secret, bytes(32), draws)
    numbers = np.random.default_rng(0).integers(-100, 100, (k, profile.n))
    sealed = ciphers.encrypt(secret, numbers, _PLAIN_BITS, draws)
    packed = ciphers.pack_residues(profile, sealed.b_ntt)
    a_ntt = ciphers.masks(profile, sealed.mask_seed, k)
    weights = ciphers.to_ntt(profile, numbers)
    grid = np.ascontiguousarray(np.broadcast_to(weights, (_SIDE, k, *weights.shape[1:])))
    a_words = np.zeros((k, profile.n), np.uint32)
    positions = np.tile(np.arange(profile.n), (k, 1))
    hidden = ciphers.rerandomise(public, a_ntt, sealed.b_ntt, _FLOODING, draws)

    def encrypt() -> object:
        made = ciphers.encrypt(secret, numbers, _PLAIN_BITS, draws)
        return ciphers.pack_residues(profile, made.b_ntt)

    def receive() -> object:
        ciphers.unpack_residues(profile, packed, k)
        return ciphers.masks(profile, sealed.mask_seed, k)

    def hide() -> object:
        a, _ = ciphers.rerandomise(public, a_ntt, sealed.b_ntt, _FLOODING, draws)
        return ciphers.switch(profile, a)

    def decrypt() -> object:
        return ciphers.decrypt(secret, a_words, a_words, positions, _PLAIN_BITS)

    def product() -> object:
        return ciphers.multiply_add(profile, a_ntt, sealed.b_ntt, grid)

    return Costs(
        encrypt=least(encrypt) / k,
        receive=least(receive) / k,
        product=least(product) / (k * _SIDE),
        hide=least(hide) / k,
        coefficient=least(lambda: ciphers.switch(profile, hidden[1])) / (k * profile.n),
        decrypt=least(decrypt) / k,
        weights=least(lambda: ciphers.to_ntt(profile, numbers)) / k,
        key=least(lambda: PublicKey.make(secret, bytes(32), draws)),
        multiply=_multiply(profile),
    )


def _multiply(profile: Profile) -> float:
    """Of one weight with both halves of a batch's ciphertext."""
    side = 64
    program = _one_layer((side, 1, 1), np.random.default_rng(0).integers(-127, 128, (side, side)))
    block = program.rounds[0].blocks[0]
    layers = batched.BatchLayers(program, profile)
    held = np.zeros((side, profile.levels, profile.n), np.uint64)
    prepared = layers.prepare(block, {}, None)
    work = lambda: layers.apply(block, prepared, {"input": Held(held, held)}, profile.n)  # noqa: E731
    return least(work, 2) / (side * side)


def _one_layer(shape: tuple[int, int, int], weights: np.ndarray) -> Program:
    """A matrix [outputs, inputs] on an image; its sums are rectified, and ten logits made."""
    outs = len(weights)
    most = int(np.abs(weights).sum(1).max()) * 63
    first = Term("input", weights.reshape(outs, *shape))
    block = Block("one", (first,), np.zeros(outs, np.int64), (outs, 1, 1), -most, most, 1.0)
    bits = max(most.bit_length() - 6, 0)
    made = Value("made", (outs, 1, 1), 0, 63, 1.0)
    last = Term("made", np.ones((10, outs, 1, 1), np.int64))
    answer = Block("two", (last,), np.zeros(10, np.int64), (10, 1, 1), 0, 63 * outs, 1.0)
    rounds = (
        Round(("input",), (block,), (Activation("one", (Relu(), Shift(bits, 0, 63)), "made"),)),
        Round(("made",), (answer,), (Activation("two", (), "logits"),)),
    )
    values = {"input": Value("input", shape, -63, 63, 1.0), "made": made}
    return Program(values, rounds, shape, np.zeros(shape[0]))


def row_measured(profile: Profile) -> RowCosts:
    """What rows take, from sums of few and of many weights."""
    draws, generator = Draws(bytes(32), "costs"), np.random.default_rng(0)
    secret = SecretKey.make(profile, draws)
    make = lambda: switch_keys.SwitchKeys.make(secret, bytes(32), draws, _LEVELS)  # noqa: E731
    keys, outs = make(), 1 << _LEVELS
    half = ciphers.masks(profile, bytes(32), 1)
    times = []
    for taps in _TAPS:
        at = generator.integers(0, profile.n, (outs, taps))
        weights = generator.integers(-99, 99, (outs, taps))
        work = lambda a=at, w=weights: packing.combine_pack(keys, half, half, a, w)  # noqa: E731
        times.append(least(work, 2) / outs)
    tap = max((times[1] - times[0]) / (_TAPS[1] - _TAPS[0]), 0.0)
    return RowCosts(max(times[0] - tap * _TAPS[0], 0.0), tap, least(make, 2) * 9 / _LEVELS)


def share_measured(profile: Profile, costs: Costs) -> ShareCosts:
    """What circuits take, from sessions of two sizes; ciphertexts are taken off."""
    small, large = (_share_session(profile, outs, costs) for outs in _SHARED)
    bytes_apart = large[2] - small[2]
    slopes = [max((large[k] - small[k]) / bytes_apart, 0.0) for k in (0, 1)]
    flat = [max(small[k] - slopes[k] * small[2], 0.0) / 2 for k in (0, 1)]  # two rounds
    return ShareCosts(flat[0], flat[1], slopes[0], slopes[1], min(small[3], large[3]))


def _share_session(profile: Profile, outs: int, costs: Costs) -> tuple[float, float, int, float]:
    """(server's seconds, client's, bytes of circuits, seconds of the opening)."""
    program = _one_layer((4, 1, 1), np.random.default_rng(0).integers(-7, 8, (outs, 4)))
    scheme = Scheme(
        profile.name, share_model.least_plain_bits(program), "channel", "none", "shares", 0, "class"
    )
    model = sides.server_model(program, scheme)
    seed = bytes(32)
    server = sides.server_session(model, seed, bytes([1]) * 32)
    client = sides.client_session(model.outline, scheme, seed, bytes([2]) * 32)
    opening = _conversation(server, client.open(), -1)
    rows = np.zeros((1, 4, 1, 1))
    tries = [_conversation(server, client.ask(query, rows), query) for query in range(_TRIES)]
    ciphertexts = sum(
        model.layers.downloads[b.name].polynomials(1) for r in program.rounds for b in r.blocks
    )
    at_server = min(one[0] for one in tries) - ciphertexts * (costs.hide + 2 * costs.encrypt)
    at_client = min(one[1] for one in tries) - ciphertexts * (costs.decrypt + costs.encrypt)
    garbled = sum(turn.tables_bytes for turn in model.turns)
    return max(at_server, 0.0), max(at_client, 0.0), garbled, sum(opening)


def _conversation(server: Any, client: Any, query: int) -> tuple[float, float]:
    """Seconds of the server's processor and of the client's."""
    spent, step = [0.0, 0.0], 0
    now = time.process_time()
    request = next(client)
    while True:
        spent[1] += time.process_time() - now
        now = time.process_time()
        reply = server.answer(query, step, request)
        spent[0] += time.process_time() - now
        now, step = time.process_time(), step + 1
        try:
            request = client.send(reply)
        except StopIteration:
            return spent[0], spent[1] + time.process_time() - now
