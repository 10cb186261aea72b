"""What an adapter's ``adapter_config.json`` says: its scale, its targets, and what is refused.

The meaning of each key is PEFT's (``peft.LoraConfig``), held to it by tests; all that would change
the forward pass in a way that an exact delta ``s B A`` does not have is refused by its name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from hansa.base.errors import ConfigError

_FORWARD = {
    "use_dora": "DoRA rescales the columns of the whole weight, so its effect is no sum of deltas",
    "lora_bias": "it adds biases beside the factors",
    "modules_to_save": "it replaces whole modules of the base",
    "trainable_token_indices": "it replaces rows of the embeddings",
    "alora_invocation_tokens": "it acts on some tokens only",
    "use_qalora": "it pools the inputs in groups",
    "layer_replication": "it repeats layers of the base",
    "target_parameters": "it changes parameters that are no linear layers",
    "use_bdlora": "its factors are block-diagonal",
    "arrow_config": "it routes between adapters itself",
    "kasa_config": "it rescales the singular values of the base",
    "megatron_config": "its layers are split over devices",
}
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_LONGEST = 1000
_TOKENS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{\d*,?\d*\}|.", re.DOTALL)
"""Of a regular expression: an escaped character, a class, a number of repeats, a character."""
_PLAIN = "train it again as plain LoRA, or merge it into a whole model with PEFT and give that"


def check_config(config: Mapping[str, Any], where: str) -> None:
    """Refuse an adapter whose effect is not ``x + s B A x`` in some linear layers.

    Raises:
        ConfigError: names the key of the configuration.
    """
    kind = str(config.get("peft_type", "")).upper()
    if kind != "LORA":
        raise ConfigError("peft_type", kind or None, f"{where} is no LoRA adapter", _PLAIN)
    for key, reason in _FORWARD.items():
        if config.get(key):
            raise ConfigError(key, config[key], f"{where}: {reason}", _PLAIN)
    if config.get("bias", "none") != "none":
        raise ConfigError("bias", config["bias"], f"{where} changes biases of the base", _PLAIN)
    start = str(config.get("init_lora_weights", True)).lower()
    if start.startswith(_CHANGES_BASE):
        raise ConfigError(
            "init_lora_weights",
            config["init_lora_weights"],
            f"{where} was trained from a base that this start had changed",
            "save it with path_initial_model_for_weight_conversion, which makes it plain LoRA",
        )
    for rank in (config.get("r"), *_pattern(config, "rank_pattern", where).values()):
        if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
            raise ConfigError("r", rank, f"the rank of {where} has to be a whole number above 0")
    for alpha in (config.get("lora_alpha"), *_pattern(config, "alpha_pattern", where).values()):
        number = isinstance(alpha, int | float) and not isinstance(alpha, bool)
        if not number or not math.isfinite(alpha):
            raise ConfigError("lora_alpha", alpha, f"the scale of {where} has to be a number")
    targets = config.get("target_modules")
    if not targets or not isinstance(targets, str | list):
        raise ConfigError("target_modules", targets, f"{where} names no module of a base")
    for key in ("target_modules", "exclude_modules", "layers_pattern"):
        value = config.get(key)
        for regex in value if isinstance(value, list) and key == "layers_pattern" else [value]:
            _check_regex(regex, key, where)


def _pattern(config: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    pattern = config.get(key) or {}
    if not isinstance(pattern, dict):
        raise ConfigError(key, pattern, f"{where}: is no mapping of patterns")
    for regex in pattern:
        _check_regex(regex, key, where)
    return pattern


def _check_regex(regex: object, key: str, where: str) -> None:
    if isinstance(regex, str):
        try:
            re.compile(regex)
        except re.error as error:
            raise ConfigError(key, regex, f"{where}: is no regular expression ({error})") from None
        if len(regex) > _LONGEST or _repeats_repeats(regex):
            problem = f"{where}: an expression of a stranger that could be matched for ever"
            fix = f"at most {_LONGEST} characters, and no repeat of what repeats itself; or a list"
            raise ConfigError(key, regex[:_LONGEST], problem, fix)


def _repeats_repeats(regex: str) -> bool:
    """Whether a group is repeated in which something is: ``(a+)+`` takes exponential time."""
    inside = [False]  # of each open group, whether it holds a repeat
    closed = False  # whether what stands before is such a group
    for token in _TOKENS.findall(regex):
        if token == "(":
            inside.append(False)
        elif token == ")" and len(inside) > 1:
            closed = inside.pop()
            inside[-1] = inside[-1] or closed
            continue
        elif token[0] in "*+{":
            if closed:
                return True
            inside[-1] = True
        closed = False
    return False


def rank_of(config: Mapping[str, Any], module: str) -> int:
    """The rank of a module by the configuration."""
    return int(_by_pattern(config.get("rank_pattern") or {}, module, config["r"]))


def scale_of(config: Mapping[str, Any], module: str) -> float:
    """alpha / r, or alpha / sqrt(r) for rsLoRA (Kalajdzievski 2023)."""
    alpha = float(_by_pattern(config.get("alpha_pattern") or {}, module, config["lora_alpha"]))
    rank = rank_of(config, module)
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def _by_pattern(pattern: Mapping[str, Any], module: str, default: Any) -> Any:
    for key, value in pattern.items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default


def targets(config: Mapping[str, Any], module: str) -> bool:
    """Whether the configuration targets a module, as PEFT decides it."""
    excluded = config.get("exclude_modules")
    if excluded and _matches(excluded, module):
        return False
    wanted = config["target_modules"]
    if wanted == "all-linear":
        return True
    if isinstance(wanted, str) or not _matches(wanted, module):
        return _matches(wanted, module)
    layers = config.get("layers_to_transform")
    if layers is None or layers == []:
        return True
    patterns = config.get("layers_pattern") or r"[^.]*"
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if layer := re.match(rf"(?:^|.*?\.){pattern}\.(\d+)\.", module):
            return int(layer[1]) in ([layers] if isinstance(layers, int) else layers)
    return False


def _matches(wanted: str | list[str], module: str) -> bool:
    if isinstance(wanted, str):
        return re.fullmatch(wanted, module) is not None
    return module in wanted or module.endswith(tuple(f".{name}" for name in wanted))
