"""``hansa list systems``: its page and its claims are those of the tables."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import claims
import claims_tables
from claims_tables import DIFFERS, NO, YES, Table, size

from hansa.base.systems import VERDICTS, systems

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_the_command_prints(hansa) -> None:
    fix = "hansa list systems --markdown > docs/systems.md"
    page = (ROOT / "docs" / "systems.md").read_text()
    assert page == hansa("list systems --markdown").out, fix
    one = hansa("list systems rex --markdown").out
    assert one.startswith("## REX\n")
    assert one in page
    assert "did you mean 'REX'" in hansa("list systems rexx --markdown").err


def test_claims_say_what_the_tables_say() -> None:
    """But for the commit of tables that do not name theirs, which only a full clone knows."""
    fix = "python benchmarks/claims.py"
    kept = json.loads(claims.OUT.read_text())
    read = [asdict(claims.judged(claim)) for claim in claims.CLAIMS]
    for one, other in zip(kept, read, strict=True):
        assert {**one, "commit": ""} == {**other, "commit": ""}, fix


def test_every_system_can_be_found_and_run(hansa) -> None:
    assert len(hansa("list systems --json").object["systems"]) == 13
    for system in systems():
        assert (ROOT / "examples" / f"{system.example}.yaml").is_file()
        assert (ROOT / "docs" / f"{system.docs}.md").is_file()
        assert system.command.split()[:2] == ["hansa", system.verb]
        assert system.claims
        assert {claim.verdict for claim in system.claims} <= set(VERDICTS)
        for claim in system.claims:
            measured = claim.verdict != "not measured"
            assert measured == bool(claim.table) == bool(claim.command)
            if measured:
                assert (ROOT / claim.command.split()[1]).is_file()


def test_one_is_shown_with_its_claims_and_a_wrong_name_with_the_nearest(hansa) -> None:
    assert "3 yes" not in hansa("list systems safhire").out
    assert "1.5 to 10.5 times faster than Orion" in hansa("list systems safhire --json").out
    assert "did you mean 'Safhire'" in hansa("list systems safire").err


PAGE = """# A table

`python benchmarks/one.py` at commit 0123456789ab

| what | measured | wanted | reached |
|---|---|---|---|
| faster than the loop | 3.1 | >= 3 | yes |
| smaller | 7,000 kB | < 5 MB | no |

- ours is as good (0.2): yes
- ours is better: NO (-0.4)
"""


def test_a_table_is_read_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.md").write_text(PAGE)
    monkeypatch.setattr(claims_tables, "RESULTS", tmp_path)
    table = Table("one")
    assert (table.command, table.commit) == ("python benchmarks/one.py", "0123456789")
    assert table.met("faster") == ("3.1", True)
    assert table.cell("measured", "smaller") == 7000
    assert [table.met(f"ours is {word}") for word in ("as good", "better")] == [
        ("0.2", True),
        ("-0.4", False),
    ]
    verdicts = [table.all(*w)[1] for w in (["faster"], ["faster", "smaller"], ["ours is better"])]
    assert verdicts == [YES, DIFFERS, NO]
    with pytest.raises(KeyError, match="no goal begins with 'none'"):
        table.met("none")


@pytest.mark.parametrize(("got", "verdict"), [(4.0, YES), (1.5, DIFFERS), (1.0, NO), (0.2, NO)])
def test_a_figure_is_judged_by_size_and_direction(got: float, verdict: str) -> None:
    assert size("", got, 1, 4)[1] == verdict
