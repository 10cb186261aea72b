"""One metric of a run as a chart of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hansa.base.errors import ConfigError
from hansa.report.charts import views
from hansa.report.curves import AXIS_WORDS, Curves, axes, curves_chart
from hansa.report.page import page_of
from hansa.report.run_page import RunPage
from hansa.report.series import Line

if TYPE_CHECKING:
    from hansa.report.folder import RunFolder


def plot(run: RunFolder, metric: str | None, x: str) -> Any:
    """See :meth:`hansa.RunFolder.plot`."""
    page = page_of(run)
    if not isinstance(page, RunPage):  # pragma: no cover - every run's page is one
        raise ConfigError("run", str(run.path), "has no curves", "hansa report")
    of = page.read(run)
    if x not in AXIS_WORDS:
        raise ConfigError("x", x, "is no axis", f"one of {', '.join(AXIS_WORDS)}")
    families = of.families
    if metric is None and of.main is None:
        chart = next((c for section in page.sections(of) for c in section.charts), None)
        if chart is None or x != "round":
            raise ConfigError("metric", None, "nothing was measured round by round", "its page")
        return chart
    name = metric or str(of.main)
    lines = {line.name: (family, line) for family, own in families.items() for line in own}
    if name in families:
        family, curves = name, page.curves(of, name)
    elif name in lines:
        family, line = lines[name]
        curves = _alone(of.curve(line), line)
    else:
        known = ", ".join(dict.fromkeys([*families, *lines]))
        raise ConfigError("metric", name, "was not measured", f"one of {known}")
    able = axes(curves.frames.values())
    if x not in able:
        problem = f"nothing was counted along {AXIS_WORDS[x]}"
        raise ConfigError("x", x, problem, f"one of {', '.join(able)}")
    chart = curves_chart(curves, family, large=True)
    if chart is None:
        raise ConfigError("metric", name, "has no point", "another metric")
    change = next((v["change"] for v in views(chart) if v["words"] == AXIS_WORDS[x]), None)
    if change is not None:
        chart.encoding = change["encoding"]
    chart.usermeta = {}
    return chart


def _alone(frame: Any, line: Line) -> Curves:
    return Curves({line.label: frame})
