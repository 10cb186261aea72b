"""What a run of ``hansa route run`` came to: a pool of adapters that texts are routed over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.report import RunFolder
from hansa.report.product import Product
from hansa.report.which import Which

if TYPE_CHECKING:
    from hansa.report.predictions import Predictions


@register("route")
class RoutedPool(Product):
    """The clean pool of the first seed, as ``hansa route ask`` opens it."""

    command: ClassVar[str] = "route run"

    def model(self, run: RunFolder, which: Which) -> Any:
        """A :class:`hansa.route.serving.served_pool.ServedPool`."""
        from hansa.route.serving.opening import open_pool

        which.only("a pool of adapters", "candidates")
        if not (run.path / "index").is_dir():
            fix = f"hansa route run --resume {run.path}"
            raise ConfigError("run", str(run.path), "has no index yet", fix)
        return open_pool(run.path).pool

    def answers(self, run: RunFolder, data: Any, which: Which) -> Predictions:
        """An answer to each text, and which adapters gave it."""
        from hansa.route.texts import answered, read_texts

        texts = read_texts(data)
        return answered(self.model(run, which), texts, which.candidates)

    def export(
        self, run: RunFolder, out: Path, which: Which, merged: bool = False, card: bool = False
    ) -> Path:
        """There is no one model: adapters are PEFT folders already."""
        problem = "is a pool of adapters on one base, each a PEFT folder already, under worlds/"
        fix = f"hansa route compress makes one smaller; hansa route serve {run.path} serves it"
        raise ConfigError("run", str(run.path), problem, fix)
