"""A LoRA adapter on disk, as PEFT writes it: its factors, with the scale folded into B.

Hu et al. 2021: in an adapted layer y = W x + s B A x, with A [r, in], B [out, r] and s = alpha / r.
Adapters of other ranks and scales add up exactly only once s stands in one of the factors.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.weights.canonical_names import canonical
from hansa.weights.lora_config import check_config, rank_of, scale_of, targets
from hansa.weights.staging import staged
from hansa.weights.streamed import Entry, StreamedWriter, file_bytes
from hansa.weights.tensor_file import (
    FLOATS,
    TensorEntry,
    raw_bytes,
    read_entry,
    read_header,
    torch_dtype,
)

if TYPE_CHECKING:
    from torch import Tensor

_KEY = re.compile(
    r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])(?:\.(?P<adapter>[^.]+))?\.weight"
)
_CONFIG, _TENSORS = "adapter_config.json", "adapter_model.safetensors"
_NOTED = {"format": "pt"}
_PICKLED = ("adapter_model.bin", "adapter_model.pt", "adapter_model.pth")


@dataclass(frozen=True)
class LoraFactors:
    """The two factors of an adapter in one module; its delta is ``b @ a``.

    Attributes:
        a: [r, in], fp32.
        b: [out, r], fp32, the scale folded in.
    """

    a: Tensor
    b: Tensor


@dataclass(frozen=True)
class LoraFolder:
    """An adapter on disk, of which only headers and configuration are read.

    Attributes:
        config: its ``adapter_config.json``.
        rank: the largest of any module.
        base: the model that it says it was trained on, or None.
        modules: module, as the adapter names it, to (r, in, out).
    """

    path: Path
    name: str
    config: dict[str, Any]
    rank: int
    base: str | None
    modules: Mapping[str, tuple[int, int, int]]
    _entries: Mapping[str, tuple[TensorEntry, TensorEntry]] = field(repr=False)

    @classmethod
    def open(cls, path: Path | str) -> LoraFolder:
        """An adapter's folder.

        Raises:
            ConfigError: it is no plain LoRA adapter, is pickled or cut off, or its tensors do not
                fit its configuration; names the file or the key.
        """
        path = Path(path).expanduser()
        config = _config(path)
        check_config(config, path.name)
        if not (path / _TENSORS).is_file():
            pickled = next((name for name in _PICKLED if (path / name).exists()), None)
            problem = f"is pickled ({pickled}), and reading that runs its code"
            raise ConfigError(
                "adapter",
                str(path),
                problem if pickled else f"lacks {_TENSORS}",
                "save it with PEFT's save_pretrained(FOLDER), which writes safetensors",
            )
        entries = _pairs(path)
        modules = {
            module: _extents(path, config, module, *pair) for module, pair in entries.items()
        }
        base = config.get("base_model_name_or_path") or None
        rank = max(rank for rank, _, _ in modules.values())
        return cls(path, path.resolve().name, config, rank, base, modules, entries)

    @property
    def bytes(self) -> int:
        """Of all factors as they are stored."""
        return sum(a.bytes + b.bytes for a, b in self._entries.values())

    def scale(self, module: str) -> float:
        """What B has to be multiplied by: alpha / r, or alpha / sqrt(r)."""
        return scale_of(self.config, module)

    def factors(self, module: str) -> LoraFactors:
        """The factors of a module, as the adapter names it.

        Raises:
            ConfigError: they hold a number that is not finite.
        """
        a, b = (read_entry(entry).to(torch.float32) for entry in self._entries[module])
        for side, tensor in (("A", a), ("B", b)):
            # A sum is finite only where all are, but for numbers beyond any adapter's.
            if not math.isfinite(float(tensor.sum())) and not bool(torch.isfinite(tensor).all()):
                problem = f"lora_{side} of {module} holds a number that is not finite"
                raise ConfigError("adapter", str(self.path), problem, "leave this adapter out")
        return LoraFactors(a, b * self.scale(module))

    def sha256(self) -> str:
        """Digest of all factors and their scales, in the order of the modules' names."""
        digest = hashlib.sha256()
        for module, pair in sorted(self._entries.items()):
            digest.update(f"{module} {self.scale(module)} ".encode())
            for entry in pair:
                digest.update(f"{entry.dtype} {entry.shape} ".encode())
                digest.update(raw_bytes(read_entry(entry)))
        return digest.hexdigest()


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads((path / _CONFIG).read_bytes())
    except FileNotFoundError:
        raise ConfigError(
            "adapter", str(path), f"holds no {_CONFIG}", "give a folder that PEFT has written"
        ) from None
    except (OSError, ValueError) as error:
        problem = f"its {_CONFIG} cannot be read ({error})"
        raise ConfigError("adapter", str(path), problem) from None
    if not isinstance(config, dict):
        raise ConfigError("adapter", str(path), f"its {_CONFIG} holds no mapping")
    return config


def _pairs(path: Path) -> dict[str, tuple[TensorEntry, TensorEntry]]:
    """Module to its A and B, each key of the file accounted for."""
    sides: dict[str, dict[str, TensorEntry]] = {}
    adapters: Counter[str] = Counter()
    for key, entry in read_header(path / _TENSORS, "adapter").entries.items():
        match = _KEY.fullmatch(key)
        if match is None or len(entry.shape) != 2 or entry.dtype not in FLOATS:
            raise ConfigError("adapter", str(path), _strange(key, entry), "leave this adapter out")
        adapters[match["adapter"] or ""] += 1
        sides.setdefault(match["module"], {})[match["side"]] = entry
    if not sides:
        raise ConfigError("adapter", str(path), "holds no tensor")
    if len(adapters) > 1:
        problem = f"holds more than one adapter ({', '.join(sorted(adapters))})"
        raise ConfigError("adapter", str(path), problem, "save each in a folder of its own")
    for module, pair in sides.items():
        if len(pair) != 2:
            problem = f"has only lora_{next(iter(pair))} of {module}"
            raise ConfigError("adapter", str(path), problem, "save it again")
    return {module: (pair["A"], pair["B"]) for module, pair in sorted(sides.items())}


def _strange(key: str, entry: TensorEntry) -> str:
    if "lora_magnitude_vector" in key:
        return f"holds {key}: it is DoRA, whose effect is no sum of deltas"
    if "lora_embedding" in key:
        return f"adapts an embedding ({key}), which is not supported"
    if "lora_" in key and len(entry.shape) > 2:
        return f"adapts a convolution ({key} is {entry.shape}), which is not supported"
    if "lora_" in key and key.endswith(".bias"):
        return f"holds {key}: biases beside the factors (lora_bias) are not supported"
    return f"holds {key}, which is no factor of LoRA: it would replace a part of the base"


def _extents(
    path: Path, config: dict[str, Any], module: str, a: TensorEntry, b: TensorEntry
) -> tuple[int, int, int]:
    (rank, inputs), (outputs, other) = a.shape, b.shape
    if rank != other or not rank:
        problem = f"{module}: A is {a.shape} and B {b.shape}, which have no rank in common"
        raise ConfigError("adapter", str(path), problem, "save it again")
    if not targets(config, module):
        problem = f"holds factors for {module}, which its target_modules do not name"
        raise ConfigError("adapter", str(path), problem, "PEFT would ignore them; save it again")
    if (said := rank_of(config, module)) != rank:
        problem = f"{module} is of rank {rank}, its configuration says {said}: the scale is open"
        raise ConfigError("adapter", str(path), problem, "correct r or rank_pattern")
    return rank, inputs, outputs


def match_modules(lora: LoraFolder, names: Mapping[str, tuple[int, int]]) -> dict[str, str]:
    """An adapter's modules to those of a base.

    Names may differ by what wrappers and heads put before them.

    Args:
        names: the base's linear layers to (inputs, outputs).

    Raises:
        ConfigError: a module is not in the base, fits more than one, or has another shape.
    """
    mine, theirs = canonical(lora.modules), canonical(names)
    by_canonical = {short: name for name, short in theirs.items()}
    matched: dict[str, str] = {}
    for module, (_, inputs, outputs) in lora.modules.items():
        own = module if module in names else by_canonical.get(mine[module])
        own = own or _by_ending(lora, mine[module], by_canonical)
        if names[own] != (inputs, outputs):
            problem = f"{module} maps {inputs} to {outputs}, in the base {own} maps {names[own]}"
            raise _other_base(lora, problem)
        matched[module] = own
    if len(set(matched.values())) < len(matched):
        raise _other_base(lora, "two of its modules match one of the base")
    return matched


def _by_ending(lora: LoraFolder, module: str, names: Mapping[str, str]) -> str:
    fitting = [n for n in names if n.endswith(f".{module}") or module.endswith(f".{n}")]
    if len(fitting) != 1:
        many = f"matches {len(fitting)} modules" if fitting else "matches no module"
        raise _other_base(lora, f"{module} {many} of the base")
    return names[fitting[0]]


def _other_base(lora: LoraFolder, problem: str) -> ConfigError:
    said = f" (it names {lora.base})" if lora.base else ""
    fix = f"give the base that it was trained on{said}"
    return ConfigError("adapter", str(lora.path), problem, fix)


def lora_bytes(extents: Mapping[str, tuple[int, int, int]], dtype: str = "F32") -> int:
    """The size of the file of factors that :func:`write_lora` would write.

    Args:
        extents: module to (r, in, out).
    """
    return file_bytes(_declared(extents, dtype), _NOTED)


def _declared(extents: Mapping[str, tuple[int, int, int]], dtype: str) -> dict[str, Entry]:
    return {
        f"base_model.model.{module}.lora_{side}.weight": (dtype, shape)
        for module, (rank, inputs, outputs) in extents.items()
        for side, shape in (("A", (rank, inputs)), ("B", (outputs, rank)))
    }


def write_lora(
    path: Path,
    factors: Mapping[str, LoraFactors],
    base: str | None = None,
    like: Mapping[str, Any] | None = None,
    dtype: str = "F32",
) -> Path:
    """Write an adapter that PEFT loads; whole or not at all.

    The scale stands in B already, so alpha is each module's rank.

    Args:
        factors: by module, without PEFT's prefix; their ranks may differ.
        base: what the model that it belongs to is called.
        like: a configuration of which ``task_type`` and ``fan_in_fan_out`` are taken.
        dtype: safetensors' name of the type to store.

    Raises:
        ConfigError: ``path`` exists.
    """
    ranks = {module: len(pair.a) for module, pair in factors.items()}
    usual = Counter(ranks.values()).most_common(1)[0][0]
    # PEFT takes the first pattern that ends a name: longer names first, so that each finds itself.
    longest = sorted(ranks, key=len, reverse=True) if len(set(ranks.values())) > 1 else []
    others = {re.escape(module): ranks[module] for module in longest}
    like = like or {}
    config = {
        "peft_type": "LORA",
        "task_type": like.get("task_type"),
        "inference_mode": True,
        "base_model_name_or_path": base,
        "r": usual,
        "lora_alpha": usual,
        "bias": "none",
        "rank_pattern": others,
        "alpha_pattern": others,
        "lora_dropout": 0.0,
        "target_modules": sorted(factors),
        "use_rslora": False,
        "use_dora": False,
        "fan_in_fan_out": bool(like.get("fan_in_fan_out")),
        "init_lora_weights": True,
    }
    extents = {m: (len(pair.a), pair.a.shape[1], len(pair.b)) for m, pair in factors.items()}
    with staged(Path(path)) as place:
        with StreamedWriter(place / _TENSORS, _declared(extents, dtype), _NOTED) as writer:
            for module, pair in factors.items():
                for side, tensor in (("A", pair.a), ("B", pair.b)):
                    key = f"base_model.model.{module}.lora_{side}.weight"
                    writer.write(key, tensor.to(torch_dtype(dtype)))
        (place / _CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    return Path(path)
