"""Sweeps: many settings, each with several seeds, of one file of whichever verb."""
