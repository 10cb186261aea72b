"""The commands, one module a verb: parse, call, print.

Nothing heavy is imported before a command runs, so that ``hansa --help`` answers at once.
"""

import os

from hansa.base.deferred import defer

# To look for plugins of pydantic, all packages that are installed are read: a tenth of a second.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
defer("numpy")

from hansa.cli.app import main  # noqa: E402 - after what makes imports cheap

__all__ = ["main"]
