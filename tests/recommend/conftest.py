"""The same hosts as the tests of the engine use, and the command line."""

from ..cli.conftest import cache, hansa
from ..engine.conftest import host, host_apart, make_job, poisoned, small

__all__ = ["cache", "hansa", "host", "host_apart", "make_job", "poisoned", "small"]
