"""How evidence is come by: against fakes of Gramine, configfs-tsm and /dev/sev-guest."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import pytest

from hansa.attest.attesters import covering
from hansa.attest.attesters.attester import Attester, NoEvidence, NoSealing
from hansa.attest.attesters.auto import Auto
from hansa.attest.attesters.gramine import Gramine
from hansa.attest.attesters.replay import Replay
from hansa.attest.attesters.sev_guest import SevGuest, table
from hansa.attest.attesters.simulated import SimulatedAttester
from hansa.attest.attesters.tsm import Tsm
from hansa.attest.code import code_digest, digest_of
from hansa.attest.evidence import Evidence
from hansa.attest.simulation import SimulatedRoot
from hansa.base.errors import ConfigError

from .fake_hardware import VERITY, FakeGramine, FakeSevGuest, configfs, snp_report

ASKED = bytes(range(64))


@pytest.fixture
def verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose kernel was told a dm-verity root hash; gives the command line's file."""
    cmdline = tmp_path / "cmdline"
    cmdline.write_text(VERITY)
    monkeypatch.setattr(covering, "CMDLINE", cmdline)
    return cmdline


# Gramine


def test_gramine_gives_a_quote_about_what_was_asked_and_a_key(tmp_path: Path) -> None:
    fake = FakeGramine(tmp_path / "attestation")
    fake.quoting()
    attester = Gramine(folder=fake.folder)
    evidence = attester.evidence(ASKED)
    assert (evidence.tee, len(evidence.report)) == ("sgx", 1200)
    assert evidence.report[368:432] == ASKED
    assert attester.sealing_key() == bytes(range(16))


@pytest.mark.parametrize(("kind", "says"), [("none", "gramine-direct"), ("epid", "not dcap")])
def test_gramine_without_an_enclave_raises(tmp_path: Path, kind: str, says: str) -> None:
    with pytest.raises(NoEvidence, match=says):
        Gramine(folder=FakeGramine(tmp_path / "a", kind).folder).evidence(ASKED)


def test_gramine_quote_about_other_data_is_none(tmp_path: Path) -> None:
    fake = FakeGramine(tmp_path / "attestation", other=bytes(64))
    fake.quoting()
    with pytest.raises(NoEvidence, match="other data"):
        Gramine(folder=fake.folder).evidence(ASKED)


# configfs-tsm


@pytest.mark.usefixtures("verified")
def test_configfs_gives_a_report_and_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "report"
    diary = configfs(monkeypatch, folder, auxiliary=b"certificates")
    evidence = Tsm(folder=folder, privlevel=0).evidence(ASKED)
    assert evidence == Evidence("snp", snp_report(ASKED), b"certificates")
    assert diary == ["mkdir", "privlevel 1", "inblob 64", "rmdir"]
    assert not list(folder.iterdir())


@pytest.mark.usefixtures("verified")
@pytest.mark.parametrize("busy", [False, True])
def test_who_writes_in_between_makes_it_ask_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    folder = tmp_path / "report"
    diary = configfs(monkeypatch, folder, races=2, busy=busy, auxiliary=None)
    assert Tsm(folder=folder).evidence(ASKED).report == snp_report(ASKED)
    assert diary.count("mkdir") == diary.count("rmdir") == 3
    monkeypatch.undo()
    monkeypatch.setattr(covering, "CMDLINE", tmp_path / "cmdline")
    diary = configfs(monkeypatch, tmp_path / "again", races=9, busy=busy)
    with pytest.raises(NoEvidence, match="in between"):
        Tsm(folder=tmp_path / "again").evidence(ASKED)


@pytest.mark.usefixtures("verified")
def test_configfs_of_another_provider_and_a_report_of_other_data_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configfs(monkeypatch, tmp_path / "arm", provider="arm_cca_guest")
    with pytest.raises(NoEvidence, match="arm_cca_guest"):
        Tsm(folder=tmp_path / "arm").evidence(ASKED)
    monkeypatch.undo()
    monkeypatch.setattr(covering, "CMDLINE", tmp_path / "cmdline")
    configfs(monkeypatch, tmp_path / "odd", report=lambda asked: snp_report(bytes(64)))
    with pytest.raises(NoEvidence, match="other data"):
        Tsm(folder=tmp_path / "odd").evidence(ASKED)


@pytest.mark.usefixtures("verified")
@pytest.mark.parametrize(("version", "at"), [(4, 568), (5, 574)])
def test_configfs_of_a_td(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int, at: int
) -> None:
    def quote(asked: bytes) -> bytes:
        return version.to_bytes(2, "little") + bytes(at - 2) + asked + bytes(300)

    configfs(monkeypatch, tmp_path / "report", provider="tdx_guest", report=quote)
    attester = Tsm(folder=tmp_path / "report")
    assert attester.evidence(ASKED).tee == "tdx"
    with pytest.raises(NoSealing):
        attester.sealing_key()


def test_a_machine_that_measures_no_code_is_refused(
    verified: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configfs(monkeypatch, tmp_path / "report")
    verified.write_text("root=/dev/vda1 console=ttyS0\n")
    with pytest.raises(NoEvidence, match="dm-verity"):
        Tsm(folder=tmp_path / "report").evidence(ASKED)


def test_the_package_is_measured_into_rtmr3_once(tmp_path: Path) -> None:
    register = tmp_path / "rtmr3"
    register.write_bytes(bytes(48))
    covering.extend(register)
    assert register.read_bytes() == code_digest()  # hardware would hash it onto what was there
    register.write_bytes(hashlib.sha384(bytes(48) + code_digest()).digest())
    covering.extend(register)
    register.write_bytes(bytes(47) + b"x")
    with pytest.raises(NoEvidence, match="something else"):
        covering.extend(register)
    with pytest.raises(NoEvidence, match="RTMR3"):
        covering.extend(tmp_path / "none")


# /dev/sev-guest


@pytest.mark.usefixtures("verified")
@pytest.mark.parametrize("extended", [True, False])
def test_ioctls_give_a_report_with_certificates_or_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extended: bool
) -> None:
    entry = struct.pack("<16sII", b"v" * 16, 48, 5)
    fake = FakeSevGuest(entry + bytes(24) + b"cert\0", extended=extended)
    monkeypatch.setattr(SevGuest, "ioctl", staticmethod(fake))
    (tmp_path / "sev-guest").touch()
    attester = SevGuest(device=tmp_path / "sev-guest")
    evidence = attester.evidence(ASKED)
    assert evidence.report == snp_report(ASKED)
    assert evidence.certificates == (fake.certificates if extended else b"")
    assert fake.asked == ([2] if extended else [2, 0])
    assert attester.sealing_key() == bytes(range(32))


@pytest.mark.parametrize("room", [b"", bytes(24), b"x" * 23])
def test_a_table_without_certificates_is_none(room: bytes) -> None:
    assert table(room) == b""


# Outside of everything


@pytest.mark.parametrize(
    "attester",
    [
        Auto(),
        Gramine(folder=Path("/nonexistent/attestation")),
        Tsm(folder=Path("/nonexistent/report")),
        SevGuest(device=Path("/nonexistent/sev-guest")),
    ],
)
def test_outside_of_trusted_hardware_everything_raises(
    attester: Attester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANSA_SIMULATED_TEE", "1")  # which is no reason to simulate
    with pytest.raises(NoEvidence):
        attester.evidence(ASKED)


def test_simulation_needs_the_environment_and_a_root(monkeypatch: pytest.MonkeyPatch) -> None:
    member = {"simulated": SimulatedRoot.generate().member().dump()}
    monkeypatch.delenv("HANSA_SIMULATED_TEE", raising=False)
    with pytest.raises(ConfigError, match="HANSA_SIMULATED_TEE"):
        SimulatedAttester().told(member)
    monkeypatch.setenv("HANSA_SIMULATED_TEE", "1")
    with pytest.raises(NoEvidence, match="root"):
        SimulatedAttester().told({}).evidence(ASKED)
    evidence = SimulatedAttester().told(member).evidence(ASKED)
    assert evidence.tee == "simulated"
    assert evidence.report.startswith(b"HANSA-SIMULATED-TEE")
    assert not SimulatedAttester.is_hardware


def test_a_recording_is_what_it_was_whatever_is_asked(tmp_path: Path) -> None:
    recorded = Evidence("snp", snp_report(ASKED))
    (tmp_path / "evidence").write_bytes(recorded.to_bytes())
    replay = Replay(file=tmp_path / "evidence")
    assert replay.evidence(bytes(64)) == recorded
    assert replay.tee == "snp"


def test_the_measurement_of_a_package_is_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "__pycache__").mkdir()
    before = digest_of(tmp_path)
    (tmp_path / "__pycache__" / "a.pyc").write_bytes(b"cache")
    assert digest_of(tmp_path) == before
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert digest_of(tmp_path) != before
    (tmp_path / "b.py").rename(tmp_path / "a.py")
    (tmp_path / "a.py").write_text("x = 2\n")
    assert digest_of(tmp_path) != before
