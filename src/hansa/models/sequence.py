"""Models of text."""

from __future__ import annotations

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import Lazy, nn
from hansa.base.spec import DataSpec
from hansa.models.model import Model

networks = Lazy("hansa.models.networks")  # they need torch


@register("lstm", paper="Dhasade et al.", year=2023, url="https://arxiv.org/abs/2304.08322")
class LSTM(Model):
    """The next-character network of DecentralizePy: a stacked LSTM and one linear layer over all
    positions.

    2,683,708 parameters for Shakespeare (92 characters, sequences of 80).
    """

    stackable = False  # torch has no batching rule for its LSTM kernels
    embedding: int = Field(8, ge=1, description="numbers a character is turned into")
    hidden: int = Field(256, ge=1, description="width of an LSTM layer")
    layers: int = Field(2, ge=1, description="LSTM layers")

    def build(self, spec: DataSpec) -> nn.Module:
        """Embedding, LSTM, ReLU, linear."""
        self.takes(spec, "tokens")
        if len(spec.vocabulary) != 1:
            raise ConfigError(
                "", "lstm", "the data do not state one vocabulary", "vocabulary: (V,) in DataSpec"
            )
        return networks.CharacterLSTM(
            spec.vocabulary[0], spec.shape[0], spec.outputs,
            embedding=self.embedding, hidden=self.hidden, layers=self.layers,
        )  # fmt: skip
