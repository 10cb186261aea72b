"""The page of peers: who heard whom, and how far their models are apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hansa.base.component import register
from hansa.report import pictures
from hansa.report.measured import Measured
from hansa.report.page import Section
from hansa.report.run_page import RunPage
from hansa.report.units import number


@register("peers")
class PeersPage(RunPage):
    """A run of peers on a graph."""

    def claim(self, path: Path, config: Mapping[str, Any] | None) -> int:
        """A run that left its graph."""
        return 2 * (config is not None and (path / "topology.json").exists())

    def headline(self, of: Measured) -> str:
        """What ran on which graph, and on how many nodes."""
        topology = of.config.get("topology")
        name = topology.get("name") if isinstance(topology, Mapping) else topology
        many = f"{number(of.nodes)} nodes" if of.nodes else ""
        graph = f" on {name}" if name else ""
        return ", ".join(filter(None, [f"{self.called(of.run)}{graph}", many]))

    def unfolded(self, of: Measured) -> list[Section]:
        """The nodes, their graph and their data."""
        score, values = self.by_node(of)
        charts = self.nodes_and_data(of)
        if of.topology.get("nodes"):
            differ = len(set(values.values())) > 1  # as is drawn first then
            shown = values if differ else {}
            charts.insert(differ, pictures.topology_picture(of.topology, shown, score))
        return [Section("Nodes, graph and data", charts, note=self.sizes(of))]
