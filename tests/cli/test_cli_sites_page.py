"""The page on sites is run from top to bottom, and what it points to is what it says."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from .conftest import Hansa
from .followed import follow

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorials" / "three_hospitals.md"
UNIT = ROOT / "examples" / "sites" / "hansa-site@.service"


@pytest.mark.slow
def test_a_stranger_follows_the_page(hansa: Hansa, tmp_path: Path) -> None:
    said = follow(hansa, PAGE, tmp_path).said
    explained = " ".join(said["hansa node explain north.yaml"].split())
    assert "the names of its classes and of the words in its columns" in explained
    assert "round 10/10" in said["hansa node run north.yaml"]
    assert "finished, round 10 of 10" in said["hansa node status north.yaml"]
    (compared,) = (text for line, text in said.items() if line.startswith("hansa compare"))
    assert "the folders of north, south, east as one run" in compared
    for site in ("north", "south", "east"):
        assert (tmp_path / f"{site}.key").stat().st_mode & 0o777 == 0o600


def test_the_compose_file_has_three_sites_that_may_do_little() -> None:
    compose = yaml.safe_load((ROOT / "examples" / "sites" / "compose.yaml").read_text())
    assert set(compose["services"]) == {"north", "south", "east"}
    for name, site in compose["services"].items():
        assert site["command"][:3] == ["hansa", "node", "run"]
        assert site["volumes"] == [f"./{name}:/site"]
        assert site["cap_drop"] == ["ALL"]
        assert site["read_only"]
        assert "no-new-privileges:true" in site["security_opt"]
        assert set(site["networks"]) <= set(compose["networks"])
        assert "ports" not in site
    assert {key for key in compose if not key.startswith("x-")} == {"services", "networks"}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_the_unit_is_valid_and_hardened(tmp_path: Path) -> None:
    unit = tmp_path / "hansa-site@north.service"
    unit.write_text(UNIT.read_text())
    checked = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    told = [line for line in checked.stderr.splitlines() if "hansa-site" in line]
    assert not told, told
    secured = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=25", str(unit)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert secured.returncode == 0, secured.stdout[-2000:]


def test_the_unit_names_what_there_is() -> None:
    text = UNIT.read_text()
    assert "ExecStart=/usr/bin/env hansa node run /etc/hansa/%i.yaml" in text
    settings = [line for line in text.splitlines() if "=" in line and not line.startswith("#")]
    assert all(re.match(r"[A-Z][A-Za-z0-9]+=", line) for line in settings)
