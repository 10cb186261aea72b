"""What more can be installed, and what each of it gives."""

from __future__ import annotations

import importlib.metadata
import re
from dataclasses import dataclass

EXTRAS = {
    "transformers": "models and texts of Hugging Face, LoRA adapters, hansa route",
    "serve": "ensembles, pools of adapters and private inference behind an address",
    "privacy": "accountants of differential privacy",
    "hub": "data sets of the Hugging Face hub",
    "ray": "runs on a cluster",
    "flower": "hansa's methods as Flower apps",
    "tensorboard": "figures in TensorBoard",
    "mlflow": "figures in MLflow",
    "wandb": "figures in Weights & Biases",
    "pandas": "comparisons as frames of pandas",
    "onnx": "models in ONNX, for other frameworks and phones",
}
"""By name, as in ``pip install 'hansa[name]'``; a test holds it to the package's own list."""


@dataclass(frozen=True)
class Extra:
    """An extra, as far as it is installed.

    Attributes:
        packages: (name, version or None where it is not there).
    """

    name: str
    gives: str
    packages: tuple[tuple[str, str | None], ...]

    @property
    def whole(self) -> bool:
        """Whether all of it is there."""
        return all(version for _, version in self.packages)

    @property
    def command(self) -> str:
        """What installs it."""
        return f"pip install 'hansa[{self.name}]'"


def version_of(package: str) -> str | None:
    """The installed version of a package, without importing it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def required(extra: str = "") -> list[str]:
    """The packages that hansa needs, or one of its extras does; none where it is not installed.

    Without hansa's own name. None of them is for one system or one Python alone.
    """
    try:
        lines = importlib.metadata.requires("hansa") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    names = []
    for line in lines:
        named = re.search(r"""extra\s*==\s*['"]([\w-]+)['"]""", line)
        if (named[1] if named else "") != extra:
            continue
        name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
        if name.lower() != "hansa":
            names.append(name)
    return names


def extras() -> list[Extra]:
    """All extras, with what is there of them."""
    return [
        Extra(name, gives, tuple((package, version_of(package)) for package in required(name)))
        for name, gives in EXTRAS.items()
    ]
