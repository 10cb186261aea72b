"""Pretrained transformers for texts: fine-tuned whole, or by low-rank adapters around a frozen one.

With ``peft`` each adapted layer is y = W x + (alpha / r) B A x, with A [r, in] and B [out, r] (Hu
et al. 2022). W and all else of the base is frozen: the same everywhere, in no row, in no message.

Averaging A and B apart, as every rule over rows does (FedIT: Zhang et al. 2024), is not averaging
the products: mean(B) mean(A) is not mean(B A) as long as clients differ in both. With ``freeze_a``
A stays as it was drawn, and the mean of B is exact (FFA-LoRA: Sun et al. 2024), at half the bytes.
FLoRA (Wang et al. 2024) stacks the factors instead, FedEx-LoRA (Singhal et al. 2024) adds the
difference to W: both send more than the factors, and neither is here.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import Lazy, nn
from hansa.base.paths import NameOrPath
from hansa.base.pretrained import pretrained_place, require_transformers
from hansa.base.spec import DataSpec
from hansa.models.low_rank import Head, LowRank
from hansa.models.model import Model

networks = Lazy("hansa.models.adapted_networks")  # they need transformers


@register("transformers", paper="Hu et al.", year=2022, url="https://arxiv.org/abs/2106.09685")
class Transformers(Model):
    """A pretrained transformer that classifies texts: whole, or a frozen one with LoRA adapters.

    Any model that transformers' AutoModelForSequenceClassification opens; needs
    hansa[transformers]. Without a ``base`` it is a small BERT of random numbers.
    """

    stackable = False
    pretrained: ClassVar[bool] = True

    base: NameOrPath | None = Field(
        None, description="folder of the pretrained model, or its name on the hub; none: a small "
        "BERT of random numbers",
    )  # fmt: skip
    peft: LowRank | None = Field(
        None, description="adapters that are trained while all else is frozen; none: all is trained"
    )
    head: Head = Field(
        "linear",
        description="linear: a layer over the classes, trained too; label_text: the class is the "
        "one whose words lie nearest, as the base itself reads them, and there is no head",
    )
    temperature: float = Field(0.05, gt=0, description="label_text: what cosines are divided by")
    dropout: float | None = Field(
        None, ge=0, lt=1, description="of the base's own layers; none: as it was pretrained"
    )
    hidden: int = Field(64, ge=8, description="without a base: width, a multiple of 4")
    layers: int = Field(2, ge=1, description="without a base: layers")

    def tokenized_as(self) -> str | None:
        return self.base

    def build(self, spec: DataSpec) -> nn.Module:
        """The network with its adapters.

        Raises:
            ConfigError: a package or the base is missing, an adapted layer does not exist, or the
                data are no texts.
        """
        self._fits(spec)
        self.check()
        place = None if self.base is None else pretrained_place(self.base, "base")
        return networks.build(self, spec, place)

    def check(self) -> None:
        """The packages are there, and so is the base."""
        require_transformers("base", self.base, *(("peft",) if self.peft else ()))
        if self.base is not None:
            pretrained_place(self.base, "base")
        elif self.head == "label_text":
            problem = "needs a base that knows the labels' words"
            raise ConfigError("head", self.head, problem, "model.base: FOLDER, or head: linear")
        elif self.hidden % 4:
            raise ConfigError("hidden", self.hidden, "is no multiple of 4", "such as 64")

    def write_folder(self, network: nn.Module, place: Path, merged: bool = False) -> None:
        """A PEFT folder, or with ``merged`` or without adapters a whole model of transformers."""
        if merged and self.peft is None:
            raise ConfigError("merged", True, "this model has no adapters", "leave it out")
        base = None if self.base is None else pretrained_place(self.base, "base")
        networks.write(self, network, base, place, merged)

    def _fits(self, spec: DataSpec) -> None:
        self.takes(spec, "tokens")
        if spec.padding is None:
            problem = "takes texts, and these data are ids of their own"
            raise ConfigError(
                "", self.name, problem, "data: text_file or sentences; or model: lstm"
            )
        if self.head == "label_text" and all(n.strip("-").isdigit() for n in spec.labels):
            problem = "needs classes in words, and these have numbers"
            raise ConfigError("head", self.head, problem, "labels in words, or head: linear")
