"""The ensemble that a run of ``hansa combine ensemble`` saved."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.experiment.deliverable import Deliverable
from hansa.experiment.network_product import NetworkProduct
from hansa.report import RunFolder
from hansa.report.which import Which

if TYPE_CHECKING:
    from hansa.combine.ensemble.store import Loaded
    from hansa.report.predictions import Predictions


@register("combine")
class CombinedModel(NetworkProduct):
    """Members and the rule that was kept, as one network; or one member."""

    command: ClassVar[str] = "combine ensemble"
    marker: ClassVar[str] = "ensemble.json"

    def delivered(self, run: RunFolder, which: Which) -> Deliverable:
        """All of it, or a client's member."""
        from hansa.combine.ensemble.ensemble_networks import Whole

        which.only("an ensemble", "node")
        ensemble = self._opened(run, which)
        facts: dict[str, Any] = {"run": run.path.resolve().name, "node": which.node, **run.marks}
        if which.node is None:
            members, rule = len(ensemble.members), ensemble.card["aggregator"].get("name")
            facts |= {"members": members, "rule": rule}
            return Deliverable(Whole(ensemble), ensemble.signature, facts)
        clients = [int(one.get("client", k)) for k, one in enumerate(ensemble.card["members"])]
        if which.node not in clients:
            known = ", ".join(map(str, clients))
            raise ConfigError("node", which.node, "is no member of the ensemble", f"one of {known}")
        member = ensemble.members[clients.index(which.node)]
        return Deliverable(member, ensemble.signature, facts)

    def export(
        self, run: RunFolder, out: Path, which: Which, merged: bool = False, card: bool = False
    ) -> Path:
        """A folder is the ensemble's own, from which ``hansa combine predict`` answers."""
        if out.suffix or which.node is not None:
            return super().export(run, out, which, merged, card)
        from hansa.experiment.export import CARD, check_out, facts_of_network
        from hansa.experiment.model_card import write_card

        check_out(out, merged)
        one = self.delivered(run, which)
        part = out.with_name(f".{out.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(run.path / "ensemble", part)
        write_card(part / CARD, run, {**one.facts, **facts_of_network(one)}, "ensemble.json")
        part.rename(out)
        return out / "ensemble.json"

    def exported_answers(self, place: Path, data: Any, which: Which) -> Predictions:
        """Of all members under the rule."""
        from hansa.combine.ensemble.store import load
        from hansa.experiment.predicting import predictions

        which.only("an exported ensemble")
        ensemble = load(place, which.trust)
        return predictions(ensemble, ensemble.signature, data)

    def _opened(self, run: RunFolder, which: Which) -> Loaded:
        from hansa.combine.ensemble.store import load

        if not (run.path / "ensemble").is_dir():
            fix = f"hansa combine ensemble --resume {run.path}"
            raise ConfigError("run", str(run.path), "has not finished its ensemble", fix)
        # Its settings name the code that it was made with; loading it elsewhere needs --trust.
        return load(run.path / "ensemble", which.trust)
