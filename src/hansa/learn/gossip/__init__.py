"""Peer to peer: D-PSGD and what sends less, trains less or waits less; and their bounds."""
