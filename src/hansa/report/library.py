"""The script that draws charts in a page: made once a version, then kept in the user's cache."""

from __future__ import annotations

import contextlib
import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

from hansa.base.files import atomic_write, cache_folder

_SNIPPET = "window.vegaEmbed = vegaEmbed;"


@cache
def library(vega_lite: str) -> str:
    """Vega, Vega-Lite of this version and Vega-Embed as one script without outside parts.

    Bundling them takes longer than all the rest of a page, so the script is kept. A copy that is
    not what was written is made anew.
    """
    made_by = version("vl-convert-python")
    kept = cache_folder() / "report" / f"vega-{vega_lite}-{made_by}.js"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        digest, _, text = kept.read_text(encoding="utf-8").partition("\n")
        if digest == _digest(text):
            return text
    import vl_convert

    text = vl_convert.javascript_bundle(_SNIPPET, vl_version=vega_lite)
    text = text.replace("</script", "<\\/script").replace("<!--", "<\\!--")
    with contextlib.suppress(OSError):  # a page needs no cache
        _keep(kept, text)
    return text


def _keep(path: Path, text: str) -> None:
    with atomic_write(path, "w") as file:
        file.write(f"{_digest(text)}\n{text}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
