"""The same hosts as the tests of the engine use."""

from ..engine.conftest import host, host_apart, make_job, poisoned, small

__all__ = ["host", "host_apart", "make_job", "poisoned", "small"]
