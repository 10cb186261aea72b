"""The cellar: what every room stands on and that knows nothing of any of them.

Errors that name their field, components found by name, named random streams,
the description of a data set that models are built from, and careful files.
"""
