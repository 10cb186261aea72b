"""Sums of which nobody sees the terms: masks that cancel, and what unmasks who went away."""
