"""Both sides against the integer reference: exact, repeatable, outwardly always the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.errors import ConfigError
from hansa.infer.private.integer_net import evaluate
from hansa.infer.private.program import Program
from hansa.infer.private.sessions.client import Answers, ClientSession
from hansa.infer.private.sessions.errors import ProtocolError
from hansa.infer.private.sessions.model import ServerModel, layers_of
from hansa.infer.private.sessions.outline import Outline
from hansa.infer.private.sessions.scheme import Scheme
from hansa.infer.private.sessions.server import ServerSession

from . import made_programs

MASK, SERVER, CLIENT = b"m" * 32, b"s" * 32, b"c" * 32


def scheme_of(program: Program, **settings_of: object) -> Scheme:
    """Flooded to the ceiling."""
    bare = Scheme(plain_bits=program.accumulator_bits, **settings_of)  # type: ignore[arg-type]
    layers = layers_of(program, bare)
    blocks = [block for one in program.rounds for block in one.blocks]
    return bare.at_ceiling(max(layers.norm(block) for block in blocks))


@dataclass
class Pair:
    """A client and a server in one process, and all that they said."""

    program: Program
    scheme: Scheme
    secret: bytes = SERVER
    model: ServerModel | None = None
    requests: list[bytes] = field(default_factory=list)
    replies: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model = self.model or ServerModel(self.program, self.scheme)
        self.server = ServerSession(self.model, MASK, self.secret)
        told = Outline.of(json.loads(json.dumps(self.model.outline.plain())))
        self.client = ClientSession(told, self.scheme, MASK, CLIENT)
        (self.opening,) = drive(
            self.client.open(), lambda step, one: self.server.answer(-1, step, one)
        )[0]

    def ask(self, query: int, rows: np.ndarray) -> Answers:
        def answer(step: int, payload: bytes) -> bytes:
            self.requests.append(payload)
            self.replies.append(self.server.answer(query, step, payload))
            return self.replies[-1]

        return drive(self.client.ask(query, rows), answer)[1]


def drive(talk, answer):  # type: ignore[no-untyped-def]
    """(requests, what the generator returns)."""
    requests = [next(talk)]
    while True:
        try:
            requests.append(talk.send(answer(len(requests) - 1, requests[-1])))
        except StopIteration as end:
            return requests, end.value


def numbers_for(program: Program, n: int, seed: int = 0) -> np.ndarray:
    value = program.input
    draw = np.random.default_rng(seed)
    return draw.integers(value.low, value.high + 1, (n, *value.shape))


def check(pair: Pair, query: int, n: int = 1, seed: int = 0) -> None:
    numbers = numbers_for(pair.program, n, seed)
    answers = pair.ask(query, numbers.reshape(n, *pair.program.input_shape))
    np.testing.assert_array_equal(answers.logits, evaluate(pair.program, numbers))
    assert answers.in_range


@pytest.fixture(scope="module")
def small() -> Program:
    return made_programs.resnet(1, side=8, width=4, classes=5)


@pytest.mark.parametrize("hides", ["none", "channel"])
@pytest.mark.parametrize("name", ["mlp", "lenet", "resnet"])
def test_networks_answer_bit_for_bit(name: str, hides: str) -> None:
    program = getattr(made_programs, name)(**({"blocks": 1} if name == "resnet" else {}))
    pair = Pair(program, scheme_of(program, hides=hides))
    for query in range(2):
        check(pair, query, seed=query)


@pytest.mark.parametrize("profile", ["n4096", "n8192"])
def test_profiles_answer_bit_for_bit(small: Program, profile: str) -> None:
    check(Pair(small, scheme_of(small, profile=profile)), 0)


@pytest.mark.parametrize("profile", ["n4096", "n8192"])
@pytest.mark.parametrize("extra", [23, 25, 28])
def test_wide_accumulators_are_answered_in_wider_words(profile: str, extra: int) -> None:
    most = 1 << (extra - 13)
    maker = made_programs.Maker((40, 1, 1), weight_bits=8, low=-most, high=most)
    maker.then("logits", [maker.whole("input", 6)])
    program = maker.program((40,))
    assert program.accumulator_bits in (extra - 1, extra)
    bare = Scheme(profile=profile, plain_bits=extra)
    layers = layers_of(program, bare)
    scheme = bare.at_ceiling(layers.norm(program.rounds[0].blocks[0]))
    assert 32 < scheme.word_bits <= 40
    pair = Pair(program, scheme)
    for query in range(3):
        check(pair, query, seed=query)
    assert len(pair.replies[0]) == pair.model.reply_bytes(0, 1)


def test_the_fast_profile_answers_where_accumulators_are_small() -> None:
    maker = made_programs.Maker((40, 1, 1), weight_bits=4, low=0, high=15)
    maker.then("logits", [maker.whole("input", 10)])
    program = maker.program((40,))
    scheme = replace(scheme_of(program, profile="n2048"))
    check(Pair(program, scheme), 0)


@settings(max_examples=12)
@given(seed=st.integers(0, 2**32))
def test_random_networks_answer_bit_for_bit(seed: int) -> None:
    """Several blocks a round, values read again later, strides that do not go together."""
    program = made_programs.network(np.random.default_rng(seed))
    check(Pair(program, scheme_of(program)), 0, seed=seed)


def test_images_longer_than_a_polynomial_answer_bit_for_bit() -> None:
    wide = made_programs.Maker((2, 1, 9000), weight_bits=6)
    wide.then("a", [wide.conv("input", 4, (1, 9), padding=(0, 0, 4, 4))])
    apart = {"stride": (1, 3), "dilation": (1, 7), "padding": (0, 0, 1, 9)}
    wide.then("b", [wide.conv("a", 3, (1, 5), **apart)])
    wide.then("logits", [wide.whole("b", 3)])
    high = made_programs.Maker((3, 5000, 2), weight_bits=6)
    high.then("a", [high.conv("input", 2, (3, 2), padding=(1, 1, 1, 0))])
    high.then("logits", [high.whole("a", 3)])
    for program in (wide.program(), high.program()):
        pair = Pair(program, scheme_of(program))
        assert any(one.tiles > 1 for one in pair.model.layers.layout.placements)
        check(pair, 0)


def test_a_depthwise_network_answers_bit_for_bit() -> None:
    maker = made_programs.Maker((3, 9, 9))
    maker.then("wide", [maker.conv("input", 40, 1)])
    maker.then("deep", [maker.conv("wide", 40, 3, padding=(1, 1, 1, 1), groups=40, stride=(2, 2))])
    maker.then("logits", [maker.whole("deep", 4)])
    program = maker.program()
    for hides in ("none", "channel"):
        check(Pair(program, scheme_of(program, hides=hides)), 0)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32))
def test_random_layers_answer_bit_for_bit(seed: int) -> None:
    program = made_programs.one_layer(np.random.default_rng(seed))
    check(Pair(program, scheme_of(program, hides="none")), 0, seed=seed)


def test_several_rows_are_asked_in_one_query(small: Program) -> None:
    pair = Pair(small, scheme_of(small, rows=3))
    check(pair, 0, n=3)
    check(pair, 1, n=2)
    with pytest.raises(ConfigError, match="up to 3"):
        check(pair, 2, n=4)


@pytest.mark.parametrize("hides", ["none", "channel"])
def test_a_batch_in_the_coefficients_answers_bit_for_bit(hides: str) -> None:
    program = made_programs.mlp((30, 20, 7))
    pair = Pair(program, scheme_of(program, packing="batch", hides=hides))
    check(pair, 0, n=50)
    check(pair, 1, n=1)
    assert pair.model.outline.rows == 4096


@settings(max_examples=8)
@given(seed=st.integers(0, 2**32))
def test_a_batch_of_random_layers_answers_bit_for_bit(seed: int) -> None:
    program = made_programs.one_layer(np.random.default_rng(seed))
    check(Pair(program, scheme_of(program, packing="batch", hides="none")), 0, n=3, seed=seed)


def test_a_batch_of_a_residual_network_answers_bit_for_bit() -> None:
    program = made_programs.resnet(1, side=4, width=3, classes=4)
    one = Pair(program, scheme_of(program, packing="batch", profile="n8192"))
    check(one, 0, n=5)
    two = Pair(program, one.scheme, model=ServerModel(program, one.scheme, threads=2))
    check(two, 0, n=5)
    assert one.replies == two.replies


@pytest.mark.parametrize("hides", ["none", "channel", "element"])
def test_rows_as_in_the_paper_answer_bit_for_bit(hides: str) -> None:
    program = made_programs.lenet(side=16)
    pair = Pair(program, scheme_of(program, packing="rows", hides=hides))
    check(pair, 0)
    assert len(pair.opening) == pair.model.opening_bytes
    orders = pair.server.orders
    if hides == "element":  # what is pooled stays together
        assert len(orders["block0"]) == 6
        assert len(orders["block2"]) == 120


def test_rows_shuffle_single_numbers_of_images() -> None:
    maker = made_programs.Maker((2, 6, 5))
    maker.then("one", [maker.conv("input", 3, 3, padding=(1, 1, 1, 1))])
    two = maker.conv("one", 3, 3, padding=(1, 1, 1, 1))
    maker.then("two", [two, maker.identity("one", 9)])
    maker.then("logits", [maker.whole("two", 4)])
    program = maker.program()
    pair = Pair(program, scheme_of(program, packing="rows", hides="element", rows=2))
    check(pair, 0, n=2)
    assert len(pair.server.orders["block0"]) == 90
    two = Pair(program, pair.scheme, model=ServerModel(program, pair.scheme, threads=2))
    check(two, 0, n=2)
    assert pair.replies == two.replies


@settings(max_examples=6)
@given(seed=st.integers(0, 2**32))
def test_rows_of_random_layers_answer_bit_for_bit(seed: int) -> None:
    program = made_programs.one_layer(np.random.default_rng(seed))
    check(Pair(program, scheme_of(program, packing="rows", hides="none")), 0, seed=seed)


def test_a_batch_of_large_images_is_refused_by_name() -> None:
    program = made_programs.resnet(1)
    with pytest.raises(ConfigError, match="block0 has 16384"):
        ServerModel(program, replace(scheme_of(program), packing="batch"))


def test_threads_change_no_byte(small: Program) -> None:
    scheme = scheme_of(small)
    one, two = Pair(small, scheme), Pair(small, scheme, model=ServerModel(small, scheme, threads=2))
    check(one, 0)
    check(two, 0)
    assert one.replies == two.replies


def test_an_outline_holds_no_name_and_no_weight(small: Program) -> None:
    told = json.dumps(ServerModel(small, scheme_of(small)).outline.plain())
    names = [*small.values, *(block.name for one in small.rounds for block in one.blocks)]
    assert not [name for name in names if f'"{name}"' in told]
    assert "weight" not in told


def test_sizes_are_known_beforehand(small: Program) -> None:
    pair = Pair(small, scheme_of(small))
    check(pair, 0)
    steps = range(pair.model.steps(0))
    assert [len(one) for one in pair.requests] == [pair.model.request_bytes(k, 1) for k in steps]
    assert [len(one) for one in pair.replies] == [pair.model.reply_bytes(k, 1) for k in steps]
    assert max(map(len, pair.requests)) <= pair.model.largest_request
    assert max(map(len, pair.replies)) <= pair.model.largest_reply
    assert pair.client.largest_reply == pair.model.largest_reply


def test_two_sessions_shuffle_differently_and_answer_alike(small: Program) -> None:
    scheme = scheme_of(small)
    one = Pair(small, scheme)
    other = Pair(small, scheme, b"t" * 32, one.model)
    check(one, 0)
    check(other, 0)
    orders = [
        np.concatenate([order for order in pair.server.orders.values() if order is not None])
        for pair in (one, other)
    ]
    assert (orders[0] != orders[1]).any()
    assert one.server.orders[small.logits.name] is None


def test_the_client_sees_channels_in_the_sessions_order(small: Program) -> None:
    shown = []
    for hides in ("none", "channel"):
        pair = Pair(small, scheme_of(small, hides=hides))
        check(pair, 0)
        turn = pair.client.outline.turns[0]
        shown.append(pair.client.decrypt(turn.replies, pair.replies[0], 1)[0][0])
    order = pair.server.orders["block0"]
    assert (shown[0] != shown[1]).any()
    np.testing.assert_array_equal(shown[0], shown[1][order])


def test_a_repeated_request_has_the_same_reply_and_another_is_refused(small: Program) -> None:
    pair = Pair(small, scheme_of(small))
    check(pair, 0)
    last = len(pair.requests) - 1
    assert pair.server.answer(0, last, pair.requests[last]) == pair.replies[last]
    changed = bytearray(pair.requests[last])
    changed[10] ^= 1
    with pytest.raises(ProtocolError, match="changed"):
        pair.server.answer(0, last, bytes(changed))
    with pytest.raises(ProtocolError, match="out_of_order"):
        pair.server.answer(0, last - 1, pair.requests[last - 1])
    with pytest.raises(ProtocolError, match="out_of_order"):
        pair.server.answer(2, 1, pair.requests[1])


def test_a_server_that_was_killed_goes_on_with_the_same_bytes(small: Program) -> None:
    pair = Pair(small, scheme_of(small))
    check(pair, 0)
    again = ServerSession(ServerModel(small, pair.scheme), MASK, SERVER)
    again.restore(-1, [pair.opening])
    again.restore(0, pair.requests[:3])
    for step in range(3, len(pair.requests)):
        assert again.answer(0, step, pair.requests[step]) == pair.replies[step]


def test_a_client_that_was_killed_goes_on_with_the_same_bytes(small: Program) -> None:
    pair = Pair(small, scheme_of(small))
    check(pair, 0)
    client = ClientSession(pair.client.outline, pair.scheme, MASK, CLIENT)
    numbers = numbers_for(small, 1)
    requests, answers = drive(client.ask(0, numbers), lambda step, _: pair.replies[step])
    assert requests == pair.requests
    np.testing.assert_array_equal(answers.logits, evaluate(small, numbers))


def test_other_rows_under_the_same_number_meet_another_mask(small: Program) -> None:
    pair = Pair(small, scheme_of(small))
    first = next(pair.client.ask(0, numbers_for(small, 1, 0)))
    other = next(pair.client.ask(0, numbers_for(small, 1, 1)))
    assert first[4:36] != other[4:36]


def test_a_server_that_answers_garbage_sees_nothing_of_it(small: Program) -> None:
    pair = Pair(small, scheme_of(small))
    check(pair, 0)
    draw = np.random.default_rng(0)

    def garbage(step: int, _: bytes) -> bytes:
        honest = pair.replies[step]
        return honest if step < 2 else draw.bytes(len(honest))

    requests, answers = drive(pair.client.ask(0, numbers_for(small, 1)), garbage)
    assert [len(one) for one in requests] == [len(one) for one in pair.requests]
    assert not answers.in_range


def test_malformed_requests_and_replies_are_refused(small: Program) -> None:
    pair = Pair(small, scheme_of(small))
    talk = pair.client.ask(0, numbers_for(small, 1))
    payload = next(talk)
    for wrong in (payload[:-1], payload + b"\0", payload[:20], b"", b"\xff" * len(payload)):
        with pytest.raises(ProtocolError, match="malformed"):
            pair.server.answer(0, 0, wrong)
    big = payload[:36] + b"\xff" * (len(payload) - 36)
    with pytest.raises(ProtocolError, match="residue"):
        pair.server.answer(0, 0, big)
    reply = pair.server.answer(0, 0, payload)
    with pytest.raises(ProtocolError, match="malformed"):
        talk.send(reply[:-4])
    fresh = ServerSession(pair.model, MASK, SERVER)
    with pytest.raises(ProtocolError, match="not begun"):
        fresh.answer(0, 0, payload)
    with pytest.raises(ProtocolError, match="malformed"):
        fresh.answer(-1, 0, pair.opening[:-1])


def test_a_program_that_would_not_be_exact_is_refused_by_name(small: Program) -> None:
    scheme = scheme_of(small)
    with pytest.raises(ConfigError, match=r"block\d+ accumulates numbers of"):
        ServerModel(small, replace(scheme, plain_bits=scheme.plain_bits - 1))
    with pytest.raises(ConfigError, match="leaves no room"):
        ServerModel(small, replace(scheme, flooding_bits=scheme.flooding_bits + 1))
    with pytest.raises(ConfigError, match="images"):
        ServerModel(small, replace(scheme, hides="element"))
    with pytest.raises(ConfigError, match="decrypts the logits"):
        ServerModel(small, replace(scheme, reveals="class"))


def _places(facts: object) -> Iterator[dict]:
    if isinstance(facts, dict):
        if "width" in facts:
            yield facts
        for one in facts.values():
            yield from _places(one)
    elif isinstance(facts, list):
        for one in facts:
            yield from _places(one)


@settings(max_examples=60)
@given(data=st.data())
def test_an_outline_that_lies_is_refused_or_asked_within_its_sizes(data: st.DataObject) -> None:
    program = made_programs.mlp((12, 6, 4))
    scheme = scheme_of(program)
    facts = json.loads(json.dumps(ServerModel(program, scheme).outline.plain()))
    place = data.draw(st.sampled_from(list(_places(facts))))
    name = data.draw(st.sampled_from([k for k, v in place.items() if isinstance(v, int)]))
    place[name] = data.draw(st.sampled_from([-1, 0, 2, 7, 4096, 1 << 40, None, "x", 1.5]))
    try:
        client = ClientSession(Outline.of(facts), scheme, MASK, CLIENT)
    except ProtocolError:
        return
    assert len(next(client.ask(0, np.zeros((1, 12))))) < 1 << 20


def test_names_of_classes_are_fit_for_a_terminal() -> None:
    program = replace(made_programs.mlp((6, 8, 2)), classes=("\x1b[2J", "b" * 5000))
    told = ServerModel(program, scheme_of(program)).outline.plain()
    assert Outline.of(told).classes == ("?[2J", "b" * 200)
