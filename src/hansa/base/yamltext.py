"""YAML read safely, with every key of a mapping standing once."""

from __future__ import annotations

from typing import Any

import yaml


class RepeatedKey(yaml.YAMLError):
    """A key that stands twice in one mapping; YAML forbids it, most readers take the last."""


def load_yaml(text: str) -> Any:
    """What a YAML document says.

    Raises:
        yaml.YAMLError: it is no YAML, or (:class:`RepeatedKey`) a mapping has a key twice; names
            the key with the keys around it, and both lines.
    """
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _refuse_repeats(loader, root, "", set())
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _refuse_repeats(loader: yaml.SafeLoader, node: yaml.Node, path: str, seen: set[int]) -> None:
    """Look through a tree before merges (``<<``) are put in, where keys may well be replaced."""
    if id(node) in seen:  # an alias, maybe of what is around it
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for k, inner in enumerate(node.value):
            _refuse_repeats(loader, inner, f"{path}{k}.", seen)
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
            _refuse_repeats(loader, inner, f"{path}{name}.", seen)
