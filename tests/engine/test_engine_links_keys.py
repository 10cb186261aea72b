"""Keys that links learn of while they run: of peers that make theirs late, or make another."""

from collections.abc import Callable
from typing import Any

import pytest

from hansa.engine.links.keys import Key
from hansa.engine.links.limits import LinkSettings
from hansa.engine.links.links import CONTROL, Links
from hansa.engine.links.ticket import Peer, Ticket

from ..toy.waiting import until


class End:
    """A site's links, and what came over them."""

    def __init__(self, site: int, key: Key, peer: Peer, incarnation: int = 0) -> None:
        self.came: list[bytes] = []
        ticket = Ticket("run", site, (0, 1), (peer,), key=key, incarnation=incarnation)
        self.links = Links(
            ticket,
            LinkSettings(retry=0.2),
            lambda site, kind, parts: self.came.append(b"".join(map(bytes, parts))),
            lambda: None,
        )
        self.address = self.links.start()


@pytest.fixture
def ends() -> Any:
    """Makes ends that are closed when the test is over."""
    made: list[End] = []

    def make(*args: Any, **more: Any) -> End:
        made.append(End(*args, **more))
        return made[-1]

    yield make
    for end in made:
        end.links.close()


def test_a_key_is_learnt_and_another_makes_it_void(ends: Callable[..., End]) -> None:
    head_key, first, second = (Key.generate(name) for name in ("head", "first", "second"))
    head = ends(1, head_key, Peer(0))
    to_head = Peer(1, head.address, head_key.fingerprint)
    old = ends(0, first, to_head)
    old.links.meet([to_head])
    until(lambda: "key" in old.links.state(1).why + old.links.state(1).refused, "a word of keys")
    head.links.meet([Peer(0, key=first.fingerprint)])
    old.links.send(1, CONTROL, [b"one"])
    until(lambda: head.came == [b"one"], "the first message")

    head.links.meet([Peer(0, key=second.fingerprint)])
    until(lambda: not head.links.state(0).connected, "the end of a connection")
    new = ends(0, second, to_head, incarnation=1)
    new.links.meet([to_head])
    new.links.send(1, CONTROL, [b"three"])
    until(lambda: b"three" in head.came, "a message by the new key")
    old.links.send(1, CONTROL, [b"two"])
    until(lambda: "key" in old.links.state(1).why + old.links.state(1).refused, "a word of keys")
    assert head.came == [b"one", b"three"]
