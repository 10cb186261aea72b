"""Fuzzing of evidence: reports, quotes, certificates, lists and policies that somebody has changed,
and of what a peer says on the attested channel.

    python tests/fuzz_attest.py 100000
    HANSA_DATA=... python tests/fuzz_attest.py 100000 quote collateral
    python tests/fuzz_attest.py 100000 channel

Mutates good input so many times for each target, or those with such a word in their names, and
prints a table; with $HANSA_DATA real evidence is among it. The test run does the same with a few.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].isdigit():
        from tests.attest import channel_targets, evidence_targets
        from tests.toy.mutating import table

        os.environ["HANSA_SIMULATED_TEE"] = "1"
        for of in (evidence_targets, channel_targets):
            table(of.TARGETS, of.seeds, of.mutations, int(sys.argv[1]), sys.argv[2:])
    else:
        print(__doc__)
