"""The page of a run that learned and forgot by a file, and its figures among those of others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hansa.base.component import register
from hansa.forget.page import RECEIPT, RequestPage, Served
from hansa.report.folder import RunFolder
from hansa.report.page import Figure

_SHARES = {"retain": "of what remains", "test": "of the test set", "forget": "of what went"}
_WAYS = {"retain": "higher", "test": "higher", "forget": ""}


@register("forgetting")
class ForgettingPage(RequestPage):
    """A run of a file of ``hansa forget`` whose request was served."""

    def claim(self, path: Path, config: Mapping[str, Any] | None) -> int:
        """Such a run, with its receipt."""
        mine = (config or {}).get("verb") == "forget"
        return 3 * (mine and (path / RECEIPT).exists())

    def called(self, folder: RunFolder) -> str:
        """The method."""
        return str((folder.summary or {}).get("method") or super().called(folder))

    def figures(self, of: Served) -> dict[str, Figure]:
        """What is right of each part, whether the goal was reached, and what else was measured.

        Of what went little is right where a class went; where clients or examples went, as much as
        of a model that never saw them: so no way is the better one there.
        """
        after = of.receipt["figures"]["after"]
        oracle = of.receipt["figures"].get("oracle", {})
        found = {
            f"right {words}": Figure(after[part], share=True, better=_WAYS[part])
            for part, words in _SHARES.items()
        }
        found["goal reached"] = Figure(float(self.status(of) == "done"), share=True)
        found["membership AUC"] = Figure(after["membership_auc"], better="")
        for part, words in _SHARES.items():
            if part in oracle and of.method != "retrain":  # which is the oracle
                found[f"right {words}, retrained"] = Figure(oracle[part], share=True, better="")
        rest = {k: v for k, v in after.items() if k not in (*_SHARES, "membership_auc")}
        more = {
            k: Figure(float(v), better="") for k, v in rest.items() if isinstance(v, int | float)
        }
        return found | more
