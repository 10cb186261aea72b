"""For every test: one torch thread, since workers share the machine, no deadlines, own cache.

What a stranger does not have, no test has: $HANSA_DATA is taken away from all that are not marked
``data``, and nothing is downloaded.
"""

import os
import sys
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

from hansa.base import component

from .toy.warm import warmed

# The machine is shared, and the first call of a test imports lazily.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")
torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HANSA_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HANSA_OFFLINE", "1")
        yield


@pytest.fixture(autouse=True, scope="session")
def _warm() -> Iterator[None]:
    with warmed():
        yield


@pytest.fixture(autouse=True)
def _real_data(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("data") is None:
        monkeypatch.delenv("HANSA_DATA", raising=False)
    elif "HANSA_DATA" not in os.environ:
        pytest.skip("needs $HANSA_DATA")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is slow runs where it is asked for: by ``-m slow``, or by its file or name."""
    if "slow" in config.option.markexpr or any(".py" in each for each in config.args):
        return
    slow = [item for item in items if item.get_closest_marker("slow") is not None]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in set(slow)]


@pytest.fixture(autouse=True)
def _no_plugins_of_other_tests() -> Iterator[None]:
    """Forget the components that a test brought along, and the files they came from."""
    before = {kind: set(known) for kind, known in component._registry.items()}
    yield
    for kind, known in component._registry.items():
        for name in set(known) - before.get(kind, set()):
            if not known[name].__module__.startswith("hansa."):
                del known[name]
    for module in [name for name in sys.modules if name.startswith("hansa_plugin_")]:
        del sys.modules[module]
