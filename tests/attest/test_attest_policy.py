"""Policies: nothing is permissive unless it is written, errors name fields, one hash a meaning."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hansa.attest import refusals
from hansa.attest.measurement import Measurement
from hansa.attest.policy import STATUSES, Policy
from hansa.attest.refusals import AttestationError, PolicyError
from hansa.base.errors import ConfigError
from hansa.base.yamltext import dump_yaml, load_yaml

DIGEST, ENCLAVE = "ab" * 48, "cd" * 32
SNP: dict[str, Any] = {
    "platforms": ["snp"],
    "products": ["Milan", "Genoa"],
    "measurements": [{"launch_digest": DIGEST}],
    "minimum_tcb": {"Milan": {"snp": 0x18}, "Genoa": {"snp": 0x17}},
}


def test_a_strict_policy_is_what_is_read_from_few_words() -> None:
    policy = Policy.parse(SNP)
    assert policy.vmpl == 0
    assert policy.statuses == ("UpToDate",)
    assert policy.key_kinds == ("vcek",)
    assert policy.collateral == "required"
    for weakening in ("debug", "migration", "masked_chip_id", "allow_trailing", "simulated",
                      "any_measurement"):  # fmt: skip
        assert getattr(policy, weakening) is False
    assert "Revoked" not in STATUSES


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"platforms": []}, "platforms"),
        ({"platforms": ["sev"]}, "platforms.0"),
        ({"measurements": []}, "measurements"),
        ({"any_measurement": True}, "any_measurement"),
        ({"measurements": [{}]}, "measurements.0"),
        ({"measurements": [{"launch_digest": "ab"}]}, "measurements.0.launch_digest"),
        ({"measurements": [{"launch_digest": 0}]}, "measurements.0.launch_digest"),
        ({"measurements": [{"mrenclave": ENCLAVE}]}, "measurements.0"),
        ({"measurements": [{"mrsigner": ENCLAVE}]}, "measurements.0"),
        ({"measurements": [{"mrtd": DIGEST}]}, "measurements.0"),
        ({"measurements": [{"mrtd": DIGEST, "host_data": ENCLAVE}]}, "measurements.0"),
        ({"measurements": [{"launch_digest": "0g" * 48}]}, "measurements.0.launch_digest"),
        (
            {"measurements": [{"mrtd": DIGEST, "rtmr0": DIGEST, "firmware_only": True}]},
            "measurements.0",
        ),
        ({"products": []}, "products"),
        ({"products": ["Rome"]}, "products.0"),
        ({"products": ["Milan", "Genoa", "Intel"]}, "products"),
        ({"minimum_tcb": {"Milan": {"snp": 1}}}, "minimum_tcb"),
        ({"minimum_tcb": {**SNP["minimum_tcb"], "Turin": {"snp": 1}}}, "minimum_tcb.Turin"),
        ({"minimum_tcb": {**SNP["minimum_tcb"], "Milan": {"snp": 256}}}, "minimum_tcb.Milan.snp"),
        ({"vmpl": 4}, "vmpl"),
        ({"vmpl": True}, "vmpl"),
        ({"statuses": ["Revoked"]}, "statuses.0"),
        ({"advisories": ["CVE-1"]}, "advisories.0"),
        ({"collateral": "no"}, "collateral"),
        ({"collateral_age_s": 10**15}, "collateral_age_s"),
        ({"simulated": True}, "simulated"),
        ({"debgu": True}, "debgu"),
    ],
)
def test_what_cannot_work_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(PolicyError) as told:
        Policy.parse({**SNP, **change})
    assert told.value.field == field
    assert told.value.fix
    assert told.value.name == "policy"
    assert isinstance(told.value, ConfigError)
    assert isinstance(told.value, AttestationError)


def test_a_simulated_policy_takes_no_hardware() -> None:
    policy = Policy.parse({"simulated": True, "any_measurement": True})
    assert policy.platforms == ()


def test_the_hash_is_of_the_meaning() -> None:
    policy = Policy.parse(SNP)
    turned = {key: SNP[key] for key in reversed(SNP)}
    turned["products"] = ["Genoa", "Milan", "Milan"]
    turned["measurements"] = {"launch_digest": "0x" + DIGEST.upper()}
    turned["minimum_tcb"] = {key: SNP["minimum_tcb"][key] for key in ("Genoa", "Milan")}
    assert Policy.parse(turned).digest() == policy.digest()
    assert Policy.parse({**SNP, "vmpl": 0}).digest() == policy.digest()
    assert len(policy.digest()) == 32
    others: list[dict[str, Any]] = [
        {"vmpl": 1}, {"debug": True}, {"migration": True}, {"masked_chip_id": True},
        {"key_kinds": ["vlek"]}, {"collateral": "if-given"}, {"collateral_age_s": 1},
        {"allow_trailing": True}, {"revoked_chips": ["00"]}, {"statuses": ["OutOfDate"]},
        {"advisories": ["INTEL-SA-1"]}, {"minimum_evaluation": 1},
        {"measurements": [{"launch_digest": "00" * 48}]},
        {"measurements": [{"launch_digest": DIGEST, "host_data": ENCLAVE}]},
        {"products": ["Milan"], "minimum_tcb": {"Milan": {"snp": 0x18}}},
        {"minimum_tcb": {"Milan": {"snp": 0x19}, "Genoa": {"snp": 0x17}}},
        {"measurements": [], "any_measurement": True},
    ]  # fmt: skip
    digests = {Policy.parse({**SNP, **other}).digest() for other in others}
    assert len(digests) == len(others)
    assert policy.digest() not in digests


def test_what_it_says_is_read_back(tmp_path: Path) -> None:
    policy = Policy.parse(SNP)
    assert Policy.parse(policy.dump()) == policy
    (tmp_path / "p.json").write_text(json.dumps(policy.dump()))
    (tmp_path / "p.yaml").write_text(dump_yaml(policy.dump()))
    assert Policy.load(tmp_path / "p.json") == policy == Policy.load(tmp_path / "p.yaml")


@pytest.mark.parametrize("text", ["- a list", "vmpl: 0\nvmpl: 1\n", "\xff", "{", "[" * 3000])
def test_a_file_that_is_no_policy_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(PolicyError):
        Policy.load(tmp_path / "p.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * (1 << 21))
    with pytest.raises(PolicyError, match="too large"):
        Policy.load(tmp_path / "large.yaml")
    with pytest.raises(PolicyError, match="cannot be read"):
        Policy.load(tmp_path / "none.yaml")


def test_a_measurement_holds_as_a_whole() -> None:
    data: dict[str, Any] = {
        "platforms": ["sgx", "tdx"], "products": ["Intel"],
        "measurements": [
            {"mrsigner": ENCLAVE, "isv_prod_id": 1, "isv_svn": 5},
            {"mrtd": DIGEST, "rtmr3": DIGEST},
        ],
    }  # fmt: skip
    signer, td = sorted(Policy.parse(data).measurements, key=lambda each: each.platform)
    enclave = {"mrenclave": "00" * 32, "mrsigner": ENCLAVE, "isv_prod_id": 1, "isv_svn": 5}
    assert signer.holds(enclave)
    assert signer.holds({**enclave, "isv_svn": 6})
    assert not signer.holds({**enclave, "isv_svn": 4})
    assert not signer.holds({**enclave, "isv_prod_id": 2})
    assert not signer.holds({})
    assert td.holds({"mrtd": DIGEST, "rtmr0": ENCLAVE, "rtmr3": DIGEST})
    assert not td.holds({"mrtd": DIGEST, "rtmr3": "00" * 48})
    data["measurements"] = [{"mrtd": DIGEST, "firmware_only": True}]
    assert Policy.parse(data | {"platforms": ["tdx"]}).measurements[0].holds({"mrtd": DIGEST})


def test_the_page_shows_a_policy_and_names_every_field_and_refusal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    page = Path("docs/attestation.md").read_text()
    (shown,) = re.findall(r"^```yaml\n(platforms.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert Policy.parse(load_yaml(shown)).products == ("Genoa", "Intel", "Turin")
    for code in re.findall(r"^```python\n(from datetime.*?)^```", page, re.MULTILINE | re.DOTALL):
        exec(compile(code, "attestation.md", "exec"), {})
    assert "accepted Genoa" in capsys.readouterr().out
    for field, info in Policy.model_fields.items():
        assert f"| `{field}` |" in page
        assert info.description
    for field in Measurement.model_fields:
        assert f"`{field}" in page
    kinds = {kind for kind in vars(refusals).values() if isinstance(kind, type)}
    named = {kind.name for kind in kinds if issubclass(kind, AttestationError)}
    for name in named - {"attestation", "policy"}:
        assert f"`{name}`" in page
