"""Learning algorithms, one file each: peer to peer, and the bounds to compare them with."""

from hansa.learn.centralized import Centralized
from hansa.learn.dpsgd import DPSGD
from hansa.learn.el_local import ELLocal
from hansa.learn.el_oracle import ELOracle
from hansa.learn.isolated import Isolated

__all__ = ["DPSGD", "Centralized", "ELLocal", "ELOracle", "Isolated"]
