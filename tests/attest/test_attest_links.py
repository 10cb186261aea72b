"""Attested channels over real links: who gets in, who does not, and what the wire shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hansa.attest.attested import Attested
from hansa.attest.simulation import SimulatedRoot
from hansa.engine.links.keys import Key
from hansa.engine.links.links import DATA
from hansa.engine.links.ticket import Peer

from ..engine.link_sites import LinkSite
from ..toy.capturing import Capture
from .attested_sites import POLICY, ROOT, policy_at

KEYS = [Key.generate(f"site-{k}") for k in range(3)]
CANARY = b"user 7 gave item 42 five stars"


@pytest.fixture(autouse=True)
def simulating(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANSA_SIMULATED_TEE", "1")


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., LinkSite]]:
    """Makes attested sites that are closed when the test is over."""
    made: list[LinkSite] = []

    def one(
        site: int,
        sites: int = 2,
        *,
        policy: str = POLICY,
        root: SimulatedRoot = ROOT,
        chip: bytes | None = None,
        config: dict[str, Any] | None = None,
        **more: Any,
    ) -> LinkSite:
        file = policy_at(tmp_path, policy, f"policy-{site}.yaml")
        channel = Attested.resolve({"name": "attested", "policy": file, "attester": "simulated"})
        peers = tuple(Peer(k, key=KEYS[k].fingerprint) for k in range(sites) if k != site)
        made.append(
            LinkSite(
                site, sites, settings={"retry": 0.2}, secret=b"", key=KEYS[site], peers=peers,
                channel=channel, member={"simulated": root.member(chip).dump()},
                config=config or {"lr": 0.1}, **more,
            )
        )  # fmt: skip
        return made[-1]

    yield one
    for site in made:
        site.links.close(0.0)


def test_attested_sites_talk_and_the_wire_shows_nothing_of_it(
    make: Callable[..., LinkSite],
) -> None:
    near, far = make(0), make(1)
    wire = Capture(far.address)
    near.links.send(1, DATA, [CANARY])
    near.meet((1, wire.address))
    far.until(lambda: far.got)
    far.links.send(0, DATA, [CANARY])
    near.until(lambda: near.got)
    assert wire.size > 2000
    assert not wire.holds(CANARY)
    assert not wire.holds(b"HANSA-SIMULATED-TEE")  # evidence is inside the channel too
    for site in (near, far):
        assert site.links.overhead.sent.by_cause()["vouch"] > 400
    wire.close()


def test_a_wire_shows_everything_of_a_channel_that_does_not_hide() -> None:
    """That the eavesdropper of these tests can hear at all."""
    near, far = LinkSite(0), LinkSite(1)
    wire = Capture(far.address)
    near.links.send(1, DATA, [CANARY])
    near.meet((1, wire.address))
    far.until(lambda: far.got)
    assert wire.holds(CANARY)
    for site in (near, far):
        site.close()
    wire.close()


@pytest.mark.parametrize(
    ("odd", "says"),
    [
        ({"policy": POLICY + "vmpl: 2\n"}, "another policy"),
        ({"config": {"lr": 0.2}}, "configured to do something else"),
        ({"root": SimulatedRoot.generate()}, "root of another run"),
    ],
)
def test_who_is_not_of_the_group_is_told_and_hears_nothing(
    make: Callable[..., LinkSite], odd: dict[str, Any], says: str
) -> None:
    near, far = make(0), make(1, **odd)
    near.links.send(1, DATA, [CANARY])
    far.links.send(0, DATA, [CANARY])
    near.meet(far)
    near.until(lambda: near.links.state(1).refused)
    far.until(lambda: far.links.state(0).refused)
    told = near.links.state(1).refused + far.links.state(0).refused
    assert says in told
    assert not near.got
    assert not far.got


def test_a_member_with_other_code_is_refused(
    make: Callable[..., LinkSite], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lies in what it says and its measurement tells: its package is another."""
    near = make(0)
    with monkeypatch.context() as patch:
        patch.setattr("hansa.attest.attesters.simulated.code_digest", lambda: b"x" * 48)
        far = make(1)
        near.links.send(1, DATA, [CANARY])
        near.meet(far)
        near.until(lambda: near.links.state(1).refused)
    assert "other code" in near.links.state(1).refused
    assert not far.got


def test_two_members_on_one_chip_are_one_too_many(make: Callable[..., LinkSite]) -> None:
    hub, chip = make(0, 3), b"c" * 32
    twins = [make(k, 3, chip=chip) for k in (1, 2)]
    hub.meet(twins[0])
    hub.until(lambda: hub.connected(1))
    hub.meet(twins[1])
    hub.until(lambda: hub.links.state(2).refused)
    assert "on the chip of site 1" in hub.links.state(2).refused
    assert hub.connected(1)


def test_evidence_goes_end_to_end_through_a_relay(make: Callable[..., LinkSite]) -> None:
    relay = make(2, 3, relays=(2,))
    ends = [make(k, 3, listen="", relays=(2,)) for k in (0, 1)]
    for end in ends:
        end.links.send(1 - end.ticket.site, DATA, [CANARY])
        end.meet(relay, (1 - end.ticket.site, ""))
    for end in ends:
        end.until(lambda end=end: end.got)
        other = 1 - end.ticket.site
        assert end.links.overhead.of(other).sent.by_cause()["vouch"] > 400
    assert not relay.got


def test_a_member_that_is_started_anew_is_attested_anew(make: Callable[..., LinkSite]) -> None:
    near, far = make(0), make(1)
    near.meet(far)
    near.until(lambda: near.connected(1))
    before = near.links.overhead.of(1).sent.by_cause()["vouch"]
    far.links.close(0.0)
    near.until(lambda: not near.connected(1))
    again = make(1, incarnation=1)
    near.meet(again)
    near.until(lambda: near.connected(1))
    near.links.send(1, DATA, [CANARY])
    again.until(lambda: again.got)
    assert near.links.overhead.of(1).sent.by_cause()["vouch"] > before
    near.links.attest()
    near.until(lambda: near.links.overhead.of(1).sent.by_cause()["vouch"] > 2 * before)
    assert near.connected(1)


def test_evidence_of_one_session_is_none_in_another(make: Callable[..., LinkSite]) -> None:
    """Bindings are equal at both ends and different in every session."""
    seen: list[tuple[bytes, int]] = []
    near, far = make(0), make(1)
    for site in (near, far):
        guards = site.links._board._guards
        assert guards is not None
        between, own = guards.vouching.between, site.ticket.site

        def noted(meeting: Any, between: Any = between, own: int = own) -> Any:
            seen.append((meeting.binding, own))
            return between(meeting)

        guards.vouching.between = noted  # type: ignore[method-assign]
    near.meet(far)
    near.until(lambda: near.connected(1))
    near.links.cut(1)
    near.until(lambda: len(seen) >= 4 and near.connected(1))
    by_binding: dict[bytes, set[int]] = {}
    for binding, own in seen:
        by_binding.setdefault(binding, set()).add(own)
    assert len(by_binding) >= 2
    assert all(len(binding) == 32 for binding in by_binding)
    assert {0, 1} in by_binding.values()


def test_terms_are_those_of_the_run(make: Callable[..., LinkSite]) -> None:
    """Another run of the same members is another group: the run's name is in the evidence."""
    near, far = make(0), make(1)
    guards = far.links._board._guards
    assert guards is not None
    vouching: Any = guards.vouching
    vouching.terms = replace(vouching.terms, run="another run")
    near.meet(far)
    near.until(lambda: near.links.state(1).refused)
    assert "report-data" in near.links.state(1).refused
