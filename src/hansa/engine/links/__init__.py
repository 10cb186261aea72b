"""What carries bytes between the sites of a run: tickets, channels, links, and what shapes them.

A site is one process that hosts one block. Nothing in this room knows of models or of algorithms.
"""
