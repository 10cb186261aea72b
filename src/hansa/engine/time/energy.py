"""What training costs on a phone: the four devices of SkipTrain and its energy model.

SkipTrain (Biswas et al., 2024, arXiv 2407.01283) takes a phone's CPU time for one inference of
MobileNetV2, scales it by the number of parameters, counts a training step of an example as three
inferences, and multiplies by the most power that the phone draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

MOBILENET_V2 = 3_504_872
"""Parameters of MobileNetV2, the model whose inference time is known."""
_PASSES = 3  # a training step of an example costs as much as this many inferences
_WHOLE = 1 + 1e-9  # a quotient that is a whole number but for rounding counts as that number
FOREVER = 2**31
"""A budget, in rounds, of training that costs nothing."""

PhoneName = Literal["xiaomi_12_pro", "galaxy_s22_ultra", "oneplus_nord_2", "poco_x3"]


@dataclass(frozen=True)
class Phone:
    """A phone.

    Attributes:
        title: its name in full.
        mobilenet_ms: CPU time of one inference of MobileNetV2 in ms.
        watts: the most power that it draws.
        battery_wh: the capacity of its battery in Wh.
    """

    title: str
    mobilenet_ms: float
    watts: float
    battery_wh: float

    def inference_seconds(self, parameters: int) -> float:
        """Time of one inference of a model."""
        return self.mobilenet_ms / 1000 * parameters / MOBILENET_V2

    def training_seconds(self, parameters: int, samples: int = 1) -> float:
        """Time of training on so many examples."""
        return _PASSES * self.inference_seconds(parameters) * samples

    def training_joules(self, parameters: int, samples: int = 1) -> float:
        """Energy of training on so many examples (3,600 J are 1 Wh)."""
        return self.training_seconds(parameters, samples) * self.watts

    def joules(self, share: float = 1.0) -> float:
        """Energy in a share of the battery."""
        return share * self.battery_wh * 3600

    def budget(self, share: float, parameters: int, samples: int) -> int:
        """Whole rounds of ``samples`` examples that a share of the battery pays for."""
        each = self.training_joules(parameters, samples)
        return math.floor(self.joules(share) / each * _WHOLE) if each else FOREVER


PHONES: dict[PhoneName, Phone] = {
    "xiaomi_12_pro": Phone("Xiaomi 12 Pro (Snapdragon)", 27, 17.7, 17.8),
    "galaxy_s22_ultra": Phone("Samsung Galaxy S22 Ultra (Snapdragon)", 29, 15.1, 19.4),
    "oneplus_nord_2": Phone("OnePlus Nord 2 5G", 17, 11.0, 17.41),
    "poco_x3": Phone("Xiaomi Poco X3", 76, 8.2, 23.2),
}
"""The devices of the paper's traces, in its order."""
