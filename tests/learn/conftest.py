"""The same small runs and hosts as the tests of the engine use."""

import importlib.util
from pathlib import Path

_path = Path(__file__).parents[1] / "engine" / "conftest.py"
_spec = importlib.util.spec_from_file_location("tests_engine_fixtures", _path)
assert _spec is not None
assert _spec.loader is not None
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)

small, make_job = _fixtures.small, _fixtures.make_job
host, host_apart = _fixtures.host, _fixtures.host_apart
