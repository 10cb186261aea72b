"""What can be refused before anything is read whole and any large library is imported."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

from pydantic import BaseModel

from hansa.base.errors import ConfigError
from hansa.data import DataSource
from hansa.engine.settings import Settings
from hansa.ensemble.attacks import Attack

_DEVICE = re.compile(r"[a-z]+(:\d+)?")
_KINDS = {"cpu", "cuda", "mps", "xpu", "xla", "hpu", "meta", "mtia", "privateuseone"}


def glance(chosen: Settings) -> None:
    """Refuse what shows at a glance: a file's name or its columns, a device, who attacks.

    Raises:
        ConfigError: with the setting's dotted name.
        DataError: a file is no table.
    """
    for path, part in _parts(chosen, ()):
        try:
            if isinstance(part, DataSource):
                part.glance()
            elif isinstance(part, Attack) and isinstance(
                nodes := getattr(chosen, "nodes", None), int
            ):
                part.check_nodes(nodes)
        except ConfigError as error:
            raise error.under(".".join(path)) from None
    check_device_word(getattr(chosen, "device", "cpu"))


def check_device_word(device: str) -> None:
    """Refuse what no device is called.

    Raises:
        ConfigError: PyTorch knows no such kind; whether one is here is seen later.
    """
    known = device.partition(":")[0] in _KINDS or entry_points(group="torch.backends")
    if not _DEVICE.fullmatch(device) or not known:  # such packages bring kinds of their own
        raise ConfigError("device", device, "is not a torch device", "cpu, cuda or cuda:1")


def _parts(part: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, part
    for field in type(part).model_fields if isinstance(part, BaseModel) else ():
        value = getattr(part, field)
        for k, one in enumerate(value) if isinstance(value, tuple) else (("", value),):
            if isinstance(one, BaseModel):
                yield from _parts(one, (*path, field, *([str(k)] if k != "" else [])))
