"""Write anew what ``hansa.base.index`` reads: ``python docs/make_index.py``."""

from __future__ import annotations

from pathlib import Path

from hansa.base import index
from hansa.experiment.vocabulary import index_text

if __name__ == "__main__":
    Path(index.__file__).with_name("index.json").write_text(index_text(), encoding="utf-8")
