"""What the papers claim, beside what the tables in results/ show of it: yes, differs, NO.

    python benchmarks/claims.py           # prints the list, writes what `hansa list systems` shows
    python benchmarks/claims.py --smoke   # prints it only

Every claim names the table that it is judged by; the table's own command makes it anew. ``yes``:
the claim holds here, in the size that it was published with or better. ``differs``: its direction
holds, or it holds on one of two tables; the figures say how far. ``NO``: it does not. ``not
measured``: what stands in the way. No figure of a paper and none of ours is written by hand here,
but those of the papers.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from functools import cache

from claims_judged import CLAIMS
from claims_tables import OPEN, Claim, Table
from measure import HERE, git

from hansa.base.systems import VERDICTS
from hansa.base.systems import Claim as Judged

OUT = HERE.parent / "src" / "hansa" / "base" / "claims.json"


@cache
def _table(name: str, script: str) -> Table:
    return Table(name, script)


def judged(claim: Claim) -> Judged:
    """A claim with what its table says."""
    if claim.judge is None:
        return Judged(claim.system, claim.published, claim.why, OPEN, "", "", "")
    table = _table(*claim.table)
    measured, verdict = claim.judge(table)
    # A table from before tables named their commit is as old as the commit that brought it.
    commit = table.commit or git(
        "log", "-1", "--format=%h", "--", f":/benchmarks/results/{table.name}.md"
    )
    return Judged(
        claim.system, claim.published, measured, verdict, table.name, table.command, commit[:10]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="print only")
    options = parser.parse_args()
    told = [judged(claim) for claim in CLAIMS]
    print("| | system | claim | seen here |\n|---|---|---|---|")
    for one in told:
        print(f"| {one.verdict} | {one.system} | {one.published} | {one.measured} |")
    count = {v: sum(one.verdict == v for one in told) for v in VERDICTS}
    print(", ".join(f"{verdict}: {n}" for verdict, n in count.items()))
    if not options.smoke:
        text = json.dumps([asdict(one) for one in told], indent=1, ensure_ascii=False)
        OUT.write_text(text + "\n")


if __name__ == "__main__":
    main()
