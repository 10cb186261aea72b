"""The commands, one module a verb: parse, call, print.

Nothing heavy is imported before a command runs, so that ``hansa --help`` answers at once.
"""

from hansa.cli.app import main

__all__ = ["main"]
