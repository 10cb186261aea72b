"""YAML read safely, with every key of a mapping standing once, and numbers as people write them.

``1e-3`` is a number, as in YAML 1.2 (in 1.1 it is text), ``010`` and ``1:30`` are text (in 1.1 they
are 8 and 90).
"""

from __future__ import annotations

import re
from typing import Any

import yaml


class RepeatedKey(yaml.YAMLError):
    """A key that stands twice in one mapping; YAML forbids it, most readers take the last."""


_FLOAT, _INT = "tag:yaml.org,2002:float", "tag:yaml.org,2002:int"
_NUMBERS = (
    (_FLOAT, r"[-+]?(\d[\d_]*\.[\d_]*|\.\d[\d_]*|\d[\d_]*(?=[eE]))([eE][-+]?\d+)?"),
    (_FLOAT, r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"),
    (_INT, r"[-+]?(0|[1-9][\d_]*|0b[01_]+|0x[\da-fA-F_]+)"),
)


class _Loader(yaml.SafeLoader):
    """Reads numbers as :data:`_NUMBERS` says."""


class _Dumper(yaml.SafeDumper):
    """Quotes text that either would read as a number."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in rules if tag not in (_FLOAT, _INT)]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _form in _NUMBERS:
    for _kind in (_Loader, _Dumper):
        _kind.add_implicit_resolver(_tag, re.compile(f"^({_form})$"), list("-+.0123456789"))


# Text that knows the file it stands in is text.
_Dumper.add_multi_representer(str, lambda dumper, text: dumper.represent_str(str(text)))


def dump_yaml(value: Any, file: Any = None, **how: Any) -> Any:
    """Plain data as YAML that :func:`load_yaml` reads back, to a file or as text."""
    return yaml.dump(value, file, _Dumper, **how)


def in_a_line(value: Any) -> str:
    """Plain data as YAML in a line, as ``--set KEY=`` takes it."""
    text: str = dump_yaml(value, default_flow_style=True, width=10**6).strip()
    return text.removesuffix("...").strip()


def load_yaml(text: str) -> Any:
    """What a YAML document says.

    Raises:
        yaml.YAMLError: it is no YAML, or an alias stands for what is around it, or
            (:class:`RepeatedKey`) a mapping has a key twice; names the key with the keys around
            it, and both lines.
    """
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _refuse_repeats(loader, root, "", set())
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _refuse_repeats(
    loader: yaml.SafeLoader,
    node: yaml.Node,
    path: str,
    seen: set[int],
    around: frozenset[int] = frozenset(),
) -> None:
    """Look through a tree before merges (``<<``) are put in, where keys may well be replaced."""
    if id(node) in around:
        raise yaml.YAMLError(f"{path.rstrip('.')!r} is an alias of what is around it")
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    around |= {id(node)}
    if isinstance(node, yaml.SequenceNode):
        for k, inner in enumerate(node.value):
            _refuse_repeats(loader, inner, f"{path}{k}.", seen, around)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[Any, int] = {}
        for key, inner in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "?"
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                meant, line = loader.construct_object(key), key.start_mark.line + 1
                if meant in lines:
                    raise RepeatedKey(
                        f"line {line}: {path + name!r} stands there again, first in line "
                        f"{lines[meant]}; keep one of the two"
                    )
                lines[meant] = line
            _refuse_repeats(loader, inner, f"{path}{name}.", seen, around)
