"""Exchanges of evidence: what two ends accept, and everything that they must not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.attest.attested import Attested
from hansa.attest.attesters.replay import Replay
from hansa.attest.channel import LONGEST, AttestedVoucher, Members, Terms, report_data
from hansa.attest.code import code_digest
from hansa.attest.evidence import Evidence
from hansa.attest.policy import Policy
from hansa.attest.simulation import SimulatedRoot, verify_simulated
from hansa.attest.verdict import Verdict
from hansa.attest.verify import verify
from hansa.base.errors import ConfigError
from hansa.engine.links.vouching import VouchError

from .attested_sites import (
    DIALS,
    HARDWARE,
    ROOT,
    between,
    evidence_of,
    fresh,
    listens,
    policy_at,
    talk,
    vouching_of,
)


@pytest.fixture(autouse=True)
def simulating(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a policy alone does not allow."""
    monkeypatch.setenv("HANSA_SIMULATED_TEE", "1")


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return policy_at(tmp_path)


def test_two_members_of_a_group_accept_each_other_again_and_again(policy: Path) -> None:
    one, two = vouching_of(policy), vouching_of(policy)
    for _ in range(3):  # as when evidence is shown anew in the same session
        ends = between(one, two)
        assert not talk(*ends)
        assert all(end.over for end in ends)


def test_no_word_is_longer_than_links_take(policy: Path) -> None:
    one, two = between(vouching_of(policy), vouching_of(policy))
    (opening,) = one.begin()
    assert len(opening) == 146
    word = evidence_of(two, opening)
    assert len(word) < 1000 < LONGEST
    assert vouching_of(policy).longest == LONGEST


# Words of another time or place


def test_evidence_of_another_session_is_refused(policy: Path) -> None:
    """Spliced in by who sits in the middle of two sessions, with the same nonces even."""
    one, two = vouching_of(policy), vouching_of(policy)
    here, elsewhere = one.between(fresh()), two.between(listens(fresh()))
    (opening,) = here.begin()
    here.heard(elsewhere.begin()[0])
    with pytest.raises(VouchError, match="report-data"):
        here.heard(evidence_of(elsewhere, opening))
    assert not here.over


def test_replayed_evidence_is_refused(policy: Path) -> None:
    """Of an earlier exchange in the same session: nonces are others."""
    one, two = vouching_of(policy), vouching_of(policy)
    before = between(one, two)
    recorded = [before[1].begin()[0], evidence_of(before[1], before[0].begin()[0])]
    again = one.between(DIALS)
    again.begin()
    again.heard(recorded[0])
    with pytest.raises(VouchError, match="report-data"):
        again.heard(recorded[1])


def test_words_turned_round_are_refused(policy: Path) -> None:
    """A peer that answers with this site's own words, or with its evidence."""
    one = vouching_of(policy)
    here = one.between(DIALS)
    (opening,) = here.begin()
    with pytest.raises(VouchError, match="own words back"):
        here.heard(opening)
    here = one.between(DIALS)
    opening = here.begin()[0]
    other = one.between(DIALS)  # the same site, asked in the same role
    word = evidence_of(other, opening)
    here.heard(other.begin()[0])
    with pytest.raises(VouchError, match="report-data"):
        here.heard(word)


def test_recorded_evidence_of_real_hardware_is_refused(tmp_path: Path, policy: Path) -> None:
    """Replay of a recording: it cannot be about this session, whatever its signature says."""
    recording = tmp_path / "evidence"
    recording.write_bytes(Evidence("snp", bytes(1184)).to_bytes())
    here = vouching_of(policy)
    rogue = vouching_of(policy)
    rogue.attester = Replay(file=recording)
    errors = talk(*between(here, rogue))
    assert set(errors) == {0}
    assert "not accepted" in str(errors[0])


def test_each_part_of_what_evidence_is_about_counts() -> None:
    terms = Terms("run", bytes(32), bytes(32), bytes(48))
    rest = (bytes(32), "key", b"own", b"other")
    known = {report_data(terms, "dialler", *rest)}
    for other in (
        report_data(replace(terms, run="ru"), "ndialler", *rest),
        report_data(replace(terms, policy=b"p" * 32), "dialler", *rest),
        report_data(replace(terms, config=b"c" * 32), "dialler", *rest),
        report_data(replace(terms, code=b"c" * 48), "dialler", *rest),
        report_data(terms, "listener", *rest),
        report_data(terms, "dialler", b"b" * 32, "key", b"own", b"other"),
        report_data(terms, "dialler", bytes(32), "yek", b"own", b"other"),
        report_data(terms, "dialler", bytes(32), "key", b"other", b"own"),
        report_data(terms, "dialler", bytes(32), "key", b"ow", b"nother"),
    ):  # fmt: skip
        assert len(other) == 64
        assert other not in known
        known.add(other)


# Others than agreed


def test_another_policy_is_refused_by_name_at_both_ends(tmp_path: Path, policy: Path) -> None:
    other = policy_at(tmp_path, policy.read_text() + "vmpl: 1\n", "other.yaml")
    errors = talk(*between(vouching_of(policy), vouching_of(other)))
    assert [str(error).partition(":")[0] for error in errors.values()] == ["has another policy"] * 2
    assert "(policy)" in errors[0].told


def test_another_configuration_is_refused(policy: Path) -> None:
    mine, theirs = vouching_of(policy, config={"lr": 1}), vouching_of(policy, config={"lr": 2})
    assert "is configured" in str(talk(*between(mine, theirs))[0])
    mine, theirs = vouching_of(policy), vouching_of(policy, per_chip=None)
    assert "is configured" in str(talk(*between(mine, theirs))[1])


def test_other_code_is_refused_whether_it_says_so_or_not(policy: Path) -> None:
    honest, other = vouching_of(policy), vouching_of(policy)
    other.terms = replace(other.terms, code=b"x" * 48)
    assert "runs other code" in str(talk(*between(honest, other))[0])
    lying = vouching_of(policy)
    with pytest.MonkeyPatch.context() as patch:  # what it measures is other code
        patch.setattr("hansa.attest.attesters.simulated.code_digest", lambda: b"x" * 48)
        one, two = between(honest, lying)
        words = evidence_of(two, one.begin()[0])
    one.heard(two.begin()[0])
    with pytest.raises(VouchError, match="other code"):
        one.heard(words)
    assert lying.terms.code == code_digest()


def test_a_member_of_another_simulation_is_refused(policy: Path) -> None:
    stranger = vouching_of(policy, root=SimulatedRoot.generate())
    errors = talk(*between(vouching_of(policy), stranger))
    assert "root of another run" in str(errors[0])
    assert "root of another run" in str(errors[1])


def test_one_member_a_chip(policy: Path) -> None:
    """One owner of a chip does not count twice; the same member may come back to it."""
    here = vouching_of(policy)
    chip = b"c" * 32
    for _ in range(2):
        assert not talk(*between(here, vouching_of(policy, chip=chip), DIALS))
    errors = talk(*between(here, vouching_of(policy, chip=chip), replace(DIALS, site=2)))
    assert "on the chip of site 1" in str(errors[0])
    own = bytes.fromhex(here.own.chip_id)
    errors = talk(*between(here, vouching_of(policy, chip=own), replace(DIALS, site=3)))
    assert "on the chip of this site" in str(errors[0])
    many = vouching_of(policy, per_chip=2)
    for site in (1, 2):
        other = vouching_of(policy, chip=chip, per_chip=2)
        assert not talk(*between(many, other, replace(DIALS, site=site)))


def test_a_masked_chip_is_refused_where_chips_are_counted() -> None:
    verdict = Verdict("snp")
    assert Members(1).objection(1, verdict) is not None
    assert Members(None).objection(1, verdict) is None


# Simulation under a policy of hardware


def hardware(tmp_path: Path) -> Policy:
    return Policy.load(policy_at(tmp_path, HARDWARE, "hardware.yaml"))


def test_simulated_evidence_is_refused_by_a_policy_of_hardware(tmp_path: Path) -> None:
    policy = hardware(tmp_path)
    evidence = Evidence("simulated", ROOT.member().report(bytes(48), bytes(64)))
    verdicts = [
        verify(evidence, policy, at=_now(), report_data=bytes(64)),
        verify_simulated(evidence, policy, ROOT.public, bytes(64)),
    ]
    for verdict in verdicts:
        assert verdict.verdict == "refused"
        assert not verdict.is_hardware
        assert "simulated" in dict(verdict.problems) or "platform" in dict(verdict.problems)


def test_a_hardware_member_refuses_a_simulated_one_and_the_other_way_round(
    tmp_path: Path, policy: Path
) -> None:
    production = hardware(tmp_path)
    simulated = vouching_of(policy)
    terms = replace(simulated.terms, policy=production.digest())
    genuine = Verdict("tdx")

    def judge(evidence: Evidence, about: bytes, at: object) -> Verdict:
        return verify(evidence, production, at=_now(), report_data=about)

    def lenient(evidence: Evidence, about: bytes, at: object) -> Verdict:
        return Verdict(evidence.tee)

    for how, says in ((judge, "simulated"), (lenient, "never in one group")):
        simulated.terms = terms  # it claims to have the policy of hardware
        here = AttestedVoucher(DIALS, terms, simulated.attester, genuine, how, Members(None))
        errors = talk(here, simulated.between(listens(DIALS)))
        assert says in str(errors[0])
        assert not here.over


@pytest.mark.parametrize(
    ("text", "attester", "says"),
    [
        (HARDWARE, "simulated", "takes no simulated evidence"),
        ("simulated: true\nany_measurement: true\n", "auto", "takes simulated evidence only"),
        (HARDWARE, "auto", "no trusted hardware here"),
    ],
)
def test_a_channel_that_cannot_work_says_so_before_anything_starts(
    tmp_path: Path, text: str, attester: str, says: str
) -> None:
    channel = Attested(policy=policy_at(tmp_path, text), attester=attester)
    with pytest.raises(ConfigError, match=says):
        channel.check()


def test_without_the_environment_nothing_is_simulated_and_nothing_simulated_is_taken(
    policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = vouching_of(policy), vouching_of(policy)
    evidence = two.attester.evidence(bytes(64))
    monkeypatch.delenv("HANSA_SIMULATED_TEE")
    with pytest.raises(ConfigError, match="HANSA_SIMULATED_TEE"):
        Attested(policy=policy, attester="simulated").check()
    verdict = one.judge(evidence, bytes(64), _now())
    assert verdict.problems == (("simulated", "HANSA_SIMULATED_TEE is not 1 here"),)
    assert set(talk(*between(one, two))) == {0, 1}


# Whatever comes


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_word_is_refused_and_never_accepted(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    policy = policy_at(tmp_path_factory.mktemp("policy"))
    one, two = between(vouching_of(policy), vouching_of(policy))
    (opening,) = one.begin()
    theirs = two.begin()[0]
    words = [theirs, evidence_of(two, opening)]
    which = data.draw(st.integers(0, 1))
    word = bytearray(words[which])
    at = data.draw(st.integers(0, len(word) - 1))
    word[at] ^= data.draw(st.integers(1, 255))
    words[which] = bytes(word[: data.draw(st.sampled_from([len(word), at]))] or b"?")
    with pytest.raises(VouchError):
        [one.heard(said) for said in words]
    assert not one.over


@given(words=st.lists(st.binary(max_size=200), max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_a_refusal(
    words: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    one = vouching_of(policy_at(tmp_path_factory.mktemp("policy"))).between(DIALS)
    one.begin()
    for word in words:
        with pytest.raises(VouchError):
            one.heard(word)
    assert not one.over


def _now() -> object:
    from datetime import UTC, datetime

    return datetime.now(UTC)
