"""Digits, each owner of which sees them in a way of its own: tasks without a download."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.lazy import torch
from hansa.data.raw import Arrays, RawSplits
from hansa.data.source import DataSource
from hansa.data.sources.digits import Digits
from hansa.data.views import INPUT_VIEWS, VIEWS, Views

_PEAK = 16.0


@register("digits_views")
class DigitsViews(DataSource):
    """The digits in several views (turned, mirrored, inverted ...); groups are the views.

    With ``partition: natural`` each node has a view of its own, which is a task: it can be
    learned together with the others or apart, and test examples tell whose they are.
    """

    views: Views = Field(INPUT_VIEWS, min_length=2, description=f"the owners: {', '.join(VIEWS)}")
    apart: bool = Field(
        False, description="each view shows training images of its own; false: all show all images"
    )

    def files(self) -> Sequence[Path]:
        return Digits().files()

    def read(self) -> RawSplits:
        plain = Digits().read()
        train, test = self._seen(plain.train, self.apart), self._seen(plain.test, False)
        return RawSplits(
            train, test, kind="image", outputs=10, peak=_PEAK, class_names=plain.class_names,
            group_names=self.views,
        )  # fmt: skip

    def _seen(self, part: Arrays, apart: bool) -> Arrays:
        """Every view of the examples, one after the other."""
        pixels = torch.from_numpy(part.inputs).float().permute(0, 3, 1, 2) * (2 / _PEAK) - 1
        classes = torch.from_numpy(part.targets)
        inputs, targets, groups = [], [], []
        for number, view in enumerate(self.views):
            mine = slice(number, None, len(self.views)) if apart else slice(None)
            x, y = VIEWS[view](pixels[mine], classes[mine])
            inputs.append(((x + 1) * (_PEAK / 2)).permute(0, 2, 3, 1).contiguous().numpy())
            targets.append(y.numpy())
            groups.append(np.full(len(y), number))
        return Arrays(np.concatenate(inputs), np.concatenate(targets), np.concatenate(groups))
