"""Every test here has its own cache folder."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hansa.base.streams import Streams


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANSA_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that $HANSA_DATA names."""
    place = tmp_path / "store"
    place.mkdir()
    monkeypatch.setenv("HANSA_DATA", str(place))
    return place


@pytest.fixture
def real() -> Path:
    """The real data sets, for tests marked ``data``."""
    return Path(os.environ["HANSA_DATA"])


@pytest.fixture
def streams() -> Streams:
    return Streams(7)


@pytest.fixture
def picture_table() -> Callable[..., None]:
    """Writes images [N, H, W, C] and other columns as parquet in the hub's layout."""

    def write(
        path: Path, name: str, images: np.ndarray, style: str = "PNG", **columns: object
    ) -> None:
        items = []
        for row, pixels in enumerate(images):
            file = io.BytesIO()
            Image.fromarray(pixels.squeeze()).save(file, style)
            items.append({"bytes": file.getvalue(), "path": f"{row}.{style.lower()}"})
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({name: items, **columns}), path)

    return write
