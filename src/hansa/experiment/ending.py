"""How a run ends: what is kept when it fails, and a page that is not worth a run."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import Any

from hansa.base.errors import DiskError, Diverged, HansaError, HansaWarning
from hansa.base.telling import doing
from hansa.report import RunFolder


def keep(folder: RunFolder, summary: dict[str, Any], error: BaseException) -> None:
    """Keep what can be kept of a run that ends before its time; its own error is what is told."""
    summary["status"] = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
    if isinstance(error, Diverged):
        summary["status"] = "diverged"
    steps: list[Callable[[], None]] = [lambda: folder.finish(summary)]
    if isinstance(error, HansaError):
        error.folder, error.summary = folder, summary
        told = {"error": str(error), "type": type(error).__name__}
        steps.insert(0, lambda: folder.event("failed", **told))
    for step in steps:
        with contextlib.suppress(DiskError):
            step()


def page(folder: RunFolder) -> None:
    """Write the report. Whatever is wrong with it becomes a warning: the results are there."""
    try:
        doing("drawing the page")
        from hansa.report.page import write_report  # charts take long to import

        write_report(folder)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - see above
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
        text = f"there is no report: {why or type(error).__name__}"
        with contextlib.suppress(DiskError):
            folder.event("warning", text=text)
        text += f"\n  to write it: hansa report {folder.path}"
        warnings.warn(HansaWarning(text), stacklevel=3)
