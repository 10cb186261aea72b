"""Combining models that clients trained alone: ``ensemble`` asks all of them (FENS)."""
