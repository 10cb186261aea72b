"""Models in 8 bits a weight, after training, for the wire and the disk.

Every tensor of two dimensions or more is stored as int8 with one float32 scale for each output
channel, w ~ scale * q with q in -127..127 (symmetric, so that 0 stays 0); what has one dimension
(biases, normalization) stays float32. Nothing depends on a backend: the same bytes give the same
numbers anywhere. FENS's own code quantizes statically with torch's backends and calibrates on a
slice of the test set; see :class:`Calibrated` for the static way here, from training inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hansa.base.lazy import nn, torch, without_gradients

if TYPE_CHECKING:
    from torch import Tensor

LEVELS = 127
SCALE = ".scale"


@dataclass(frozen=True)
class Int8:
    """A module's state with its matrices in 8 bits.

    Attributes:
        tensors: by name: int8 with a ``name.scale`` [channels] beside it, or as it was.
    """

    tensors: Mapping[str, Tensor]

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Int8:
        """Quantize a state dict.

        Raises:
            ValueError: a number is not finite.
        """
        tensors: dict[str, Tensor] = {}
        for name, value in state.items():
            if value.ndim < 2 or not value.is_floating_point():
                tensors[name] = value.detach().clone()
                continue
            if not torch.isfinite(value).all():
                raise ValueError(f"{name} holds a number that is not finite")
            flat = value.detach().flatten(1)
            scale = flat.abs().amax(1) / LEVELS
            safe = torch.where(scale > 0, scale, torch.ones_like(scale))
            codes = (flat / safe.unsqueeze(1)).round().clamp(-LEVELS, LEVELS).to(torch.int8)
            tensors[name] = codes.view(value.shape)
            tensors[name + SCALE] = safe
        return cls(tensors)

    def state(self) -> dict[str, Tensor]:
        """The state dict that inference uses, float32."""
        tensors = {}
        for name, value in self.tensors.items():
            if name.endswith(SCALE) and name.removesuffix(SCALE) in self.tensors:
                continue
            scale = self.tensors.get(name + SCALE)
            if value.dtype == torch.int8 and scale is not None:
                value = (value.flatten(1).float() * scale.unsqueeze(1)).view(value.shape)
            tensors[name] = value
        return tensors

    @property
    def nbytes(self) -> int:
        """Bytes of all numbers."""
        return sum(value.numel() * value.element_size() for value in self.tensors.values())


def state_bytes(module: nn.Module) -> int:
    """Bytes of a module's state as it is."""
    return sum(v.numel() * v.element_size() for v in module.state_dict().values())


class Calibrated:
    """The static way: the outputs of linear and convolutional layers take 256 levels as well.

    Their ranges are those that training inputs gave. Inference rounds in float32 what a backend
    would compute in integers, so that the answers are the same everywhere.
    """

    def __init__(self, module: nn.Module) -> None:
        self.layers = {
            name: part
            for name, part in module.named_modules()
            if isinstance(part, nn.Linear | nn.modules.conv._ConvNd)
        }

    @without_gradients
    def ranges(self, module: nn.Module, inputs: Tensor) -> dict[str, tuple[float, float]]:
        """Smallest and largest output of each layer over inputs [m, ...], 0 included."""
        ranges: dict[str, tuple[float, float]] = {}

        def watch(name: str):  # type: ignore[no-untyped-def]
            def hook(_module: nn.Module, _given: object, output: Tensor) -> None:
                low, high = ranges.get(name, (0.0, 0.0))
                ranges[name] = (min(low, float(output.min())), max(high, float(output.max())))

            return hook

        hooks = [part.register_forward_hook(watch(name)) for name, part in self.layers.items()]
        module.eval()
        for piece in inputs.split(256):
            module(piece)
        for hook in hooks:
            hook.remove()
        return ranges

    def apply(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Round the outputs of the module's layers from now on."""
        for name, part in self.layers.items():
            low, high = ranges[name]
            step = max(high - low, 1e-12) / 255

            def hook(
                _module: nn.Module, _given: object, output: Tensor, low: float = low,
                step: float = step,
            ) -> Tensor:  # fmt: skip
                return ((output - low) / step).round().clamp(0, 255) * step + low

            part.register_forward_hook(hook)
