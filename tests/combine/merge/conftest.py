"""Small models on disk, fine-tuned from one base by chance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from hansa.weights.model_folder import ModelFolder

SHAPES = {
    "embeddings.word.weight": (11, 4),
    "encoder.layer.0.attention.weight": (4, 4),
    "encoder.layer.0.attention.bias": (4,),
    "encoder.layer.0.mlp.weight": (6, 4),
    "encoder.layer.1.attention.weight": (4, 4),
    "encoder.layer.1.mlp.weight": (6, 4),
    "norm.weight": (3,),
}
Models = tuple[list[ModelFolder], ModelFolder]


def random_models(
    place: Path,
    count: int,
    *,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    frozen: tuple[str, ...] = (),
    heads: bool = False,
    scale: int = 1,
) -> Models:
    """Models in folders of safetensors files, and their base; tensors of ``frozen`` are its."""
    draws = torch.Generator().manual_seed(seed)

    def random(shape: tuple[int, ...]) -> Tensor:
        return torch.randn([shape[0] * scale, *shape[1:]], generator=draws)

    base = {name: random(shape).to(dtype) for name, shape in SHAPES.items()}
    base["position_ids"] = torch.arange(5)
    folders = []
    for k in range(count + 1):
        tensors = dict(base)
        for name, shape in SHAPES.items():
            if k and name not in frozen:
                tensors[name] = (base[name].float() + 0.1 * random(shape)).to(dtype)
        if heads and k:
            tensors["head.weight"] = torch.randn(k + 1, 3, generator=draws).to(dtype)
        folder = place / ("base" if k == 0 else f"task{k - 1}")
        folder.mkdir(parents=True)
        save_file(tensors, folder / "model.safetensors")
        folders.append(ModelFolder.open(folder))
    return folders[1:], folders[0]


@pytest.fixture
def make_models(tmp_path: Path) -> Callable[..., Models]:
    def make(count: int, name: str = "models", **settings: object) -> Models:
        return random_models(tmp_path / name, count, **settings)  # type: ignore[arg-type]

    return make
