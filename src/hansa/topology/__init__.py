"""Who hears whom in a round, and with what weight."""

from typing import TYPE_CHECKING

from hansa.base.lazy import front

if TYPE_CHECKING:
    from hansa.topology.chance import ErdosRenyi, SmallWorld
    from hansa.topology.churn import Churn
    from hansa.topology.exponential import Exponential, OnePeerExponential
    from hansa.topology.file import FromFile
    from hansa.topology.graph import Graph
    from hansa.topology.mixing import MixingMatrix, given, likely, metropolis_hastings, uniform
    from hansa.topology.peers import Matching, RandomPeers
    from hansa.topology.plain import Complete, Ring, Star, Torus
    from hansa.topology.regular import Regular
    from hansa.topology.schedule import Schedule
    from hansa.topology.topology import Topology
    from hansa.topology.trace import Trace


__all__ = [
    "Churn",
    "Complete",
    "ErdosRenyi",
    "Exponential",
    "FromFile",
    "Graph",
    "Matching",
    "MixingMatrix",
    "OnePeerExponential",
    "RandomPeers",
    "Regular",
    "Ring",
    "Schedule",
    "SmallWorld",
    "Star",
    "Topology",
    "Torus",
    "Trace",
    "given",
    "likely",
    "metropolis_hastings",
    "uniform",
]

__getattr__ = front(__name__)
