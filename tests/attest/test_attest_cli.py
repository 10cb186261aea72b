"""``hansa attest``: files in all forms, the contract for scripts, exit statuses, what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hansa.attest import verify as verifying
from hansa.attest.evidence import Evidence
from hansa.attest.policy import Policy
from hansa.cli import main

from .certifying import NOW
from .vendor import REPORT_DATA, Amd, Intel, domain, enclave

Call = Callable[..., tuple[int, str, str]]
AMD, INTEL = Amd("Genoa"), Intel()
EXAMPLE = Path(__file__).parents[2] / "examples" / "attest"


@pytest.fixture
def hansa(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    """The command line, with the roots of the tests' vendor, in a folder with its evidence."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(verifying, "pinned", Amd.roots)
    for name, policy in (("snp", AMD.policy()), ("intel", INTEL.policy())):
        Path(f"{name}.json").write_text(json.dumps(policy.dump()))
    for name, evidence in (("snp", AMD.evidence()), ("tdx", INTEL.evidence(domain())),
                           ("sgx", INTEL.evidence(enclave()))):  # fmt: skip
        Path(f"{name}.evidence").write_bytes(evidence.to_bytes())
        Path(f"{name}.bin").write_bytes(evidence.report)
        Path(f"{name}.hex").write_text("\n".join([evidence.report.hex()[:1000],
                                                  evidence.report.hex()[1000:], ""]))  # fmt: skip
        Path(f"{name}.pem").write_bytes(evidence.certificates)
        Path(f"{name}.lists").write_bytes(evidence.collateral)
    Path("azure.bin").write_bytes(b"HCLA".ljust(32, b"\1") + AMD.report() + bytes(500))

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(word) for word in words])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


AT = ("--at", NOW.isoformat())


@pytest.mark.parametrize("name", ["snp", "tdx", "sgx"])
@pytest.mark.parametrize("form", ["evidence", "bin", "hex"])
def test_evidence_in_all_forms_is_verified(hansa: Call, name: str, form: str) -> None:
    policy = "snp.json" if name == "snp" else "intel.json"
    more = ["--collateral", f"{name}.lists"] if form != "evidence" else []
    more += ["--certificates", "snp.pem"] if form != "evidence" and name == "snp" else []
    status, out, err = hansa("attest", "verify", f"{name}.{form}", "--policy", policy, *AT,
                             "--report-data", REPORT_DATA.hex(), "--json", *more)  # fmt: skip
    assert status == 0, out + err
    said = json.loads(out)
    assert (said["verdict"], said["platform"], said["problems"]) == ("accepted", name, [])
    assert said["product"] in ("Genoa", "00906ED50000")
    assert said["report_data_compared"]
    assert said["policy"] == Policy.load(Path(policy)).digest().hex()


def test_azures_wrapping_is_taken_off(hansa: Call) -> None:
    status, out, err = hansa("attest", "verify", "azure.bin", "--policy", "snp.json", *AT,
                             "--certificates", "snp.pem", "--collateral", "snp.lists")  # fmt: skip
    assert status == 0, out + err
    assert "verdict   accepted" in out
    assert "report data were not compared" in err


def test_what_is_refused_has_names_and_a_status_of_its_own(hansa: Call) -> None:
    words = ("attest", "verify", "snp.evidence", "--policy", "snp.json")
    status, out, _ = hansa(*words, "--at", "2030-01-01T00:00:00Z", "--report-data", "00" * 64)
    assert status == 5
    assert "verdict   refused" in out
    assert "problem   expired: the certificate SEV-VCEK held until" in out
    assert "problem   report-data: " in out
    status, out, _ = hansa(*words, "--at", "2030-01-01T00:00:00Z", "--json")
    assert status == 5
    assert {each["name"] for each in json.loads(out)["problems"]} == {"expired"}


@pytest.mark.parametrize(
    ("data", "name"),
    [(b"nothing of that kind", "malformed"), (b"", "malformed"), (b"abc", "malformed"),
     (AMD.report()[:900], "truncated"), (AMD.report() + b"1", "trailing"),
     (bytes(1 << 21), "oversized"), (AMD.evidence().to_bytes() + b"\0", "trailing"),
     (INTEL.quote(enclave())[:-1], "truncated"), (b"HANSA-SIMULATED-TEE 1", "simulated"),
     (Evidence("simulated", b"x").to_bytes(), "simulated")],
)  # fmt: skip
def test_any_file_gets_a_verdict(hansa: Call, data: bytes, name: str) -> None:
    Path("file").write_bytes(data)
    everything = {**INTEL.policy().dump(), "platforms": ["snp", "sgx", "tdx"]}
    everything |= {"products": ["Intel", "Genoa"], "minimum_tcb": {"Genoa": {"snp": 1}}}
    Path("p.json").write_text(json.dumps(everything))
    status, out, _ = hansa("attest", "verify", "file", "--policy", "p.json", *AT, "--json")
    assert status == 5
    assert json.loads(out)["verdict"] == "refused"
    assert json.loads(out)["problems"][0]["name"] == name


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"--at": "2026-06-01"}, "at"), ({"--at": "yesterday"}, "at"),
        ({"--report-data": "00"}, "report_data"), ({"--report-data": "xx"}, "report_data"),
        ({"--policy": "none.json"}, "policy"), ({"--policy": "snp.bin"}, "policy"),
        ({"--certificates": "none.pem"}, "certificates"), ({"FILE": "none"}, "FILE"),
    ],
)  # fmt: skip
def test_what_was_asked_wrongly_is_told(hansa: Call, change: dict[str, str], field: str) -> None:
    words = {"FILE": "snp.evidence", "--policy": "snp.json", "--at": NOW.isoformat(), **change}
    file = words.pop("FILE")
    flat = [word for pair in words.items() for word in pair]
    status, out, err = hansa("attest", "verify", file, *flat, "--json")
    assert status == 2
    assert json.loads(out)["error"]["field"] == field
    assert "fix: " in err


@pytest.mark.parametrize("name", ["snp", "tdx", "sgx"])
def test_evidence_is_explained_and_not_believed(hansa: Call, name: str) -> None:
    status, out, err = hansa("attest", "explain", f"{name}.evidence", "--json")
    assert status == 0, err
    said = json.loads(out)
    assert said["unverified"] is True
    assert said["report"]["report data"] == REPORT_DATA.hex()
    assert said["certificates"]
    assert not any(each["pinned root"] for each in said["certificates"])
    status, out, err = hansa("attest", "explain", f"{name}.evidence")
    assert status == 0, err
    assert "what it says, unverified" in out
    assert "Nothing was verified" in out


def test_what_cannot_be_explained_is_an_error(hansa: Call) -> None:
    Path("file").write_bytes(AMD.report()[:100])
    status, _, err = hansa("attest", "explain", "file")
    assert status == 1
    assert "error: an SNP report of 100 bytes" in err


def test_a_policy_is_shown_with_its_hash(hansa: Call) -> None:
    status, out, _ = hansa("attest", "policy", "snp.json", "--json")
    assert status == 0
    assert json.loads(out)["sha256"] == AMD.policy().digest().hex()
    status, out, _ = hansa("attest", "policy", "snp.json")
    Path("again.yaml").write_text(out)
    assert Policy.load(Path("again.yaml")) == AMD.policy()


def test_a_milan_is_remarked(hansa: Call) -> None:
    milan = Amd("Milan")
    Path("milan.evidence").write_bytes(milan.evidence().to_bytes())
    Path("milan.json").write_text(json.dumps(milan.policy().dump()))
    status, _, err = hansa("attest", "verify", "milan.evidence", "--policy", "milan.json", *AT)
    assert status == 0
    assert "can be forged" in err


def test_the_report_of_a_real_processor_is_accepted_under_amds_root(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["attest", "verify", f"{EXAMPLE}/genoa.hex", "--policy", f"{EXAMPLE}/genoa.yaml"]
    assert main([*words, "--at", "2026-03-01T00:00:00Z", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["verdict"], said["product"], said["is_hardware"]) == ("accepted", "Genoa", True)
    assert main([*words, "--at", "2034-01-01T00:00:00Z", "--json"]) == 5


def test_torch_is_not_needed(tmp_path: Path) -> None:
    evidence, policy = AMD.evidence(), AMD.policy()
    (tmp_path / "e").write_bytes(evidence.to_bytes())
    (tmp_path / "p").write_text(json.dumps(policy.dump()))
    script = (
        "import sys; from hansa.cli import main; "
        "print(main(sys.argv[1:]), 'torch' in sys.modules, 'numpy._core' in sys.modules)"
    )
    words = ["attest", "verify", "e", "--policy", "p", "--at", NOW.isoformat()]
    done = subprocess.run([sys.executable, "-c", script, *words], cwd=tmp_path,
                          capture_output=True, text=True)  # fmt: skip
    assert done.stdout.splitlines()[-1] == "5 False False", done.stderr
