"""Watching runs while they go on: what their folders say so far, as a page or in a terminal.

The folder is all that is known of a run, so it does not matter who writes it: a simulation, worker
processes, Ray or a site. Its files are followed, never read anew, and what is kept of them does
not grow with the run.
"""
