"""A run file in which something stands twice."""

from pathlib import Path

import pytest

from hansa.base.errors import ConfigError
from hansa.experiment.settings_file import override, read_settings_file


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nodes: 4\ntrain: {local_steps: 1}\nnodes: 6\n", "line 3: 'nodes' .* first in line 1"),
        ("train:\n  optimizer:\n    lr: 1\n    lr: 2\n", "line 4: 'train.optimizer.lr'"),
        ("clients:\n- name: a\n  share: 1\n  share: 2\n", "line 4: 'clients.0.share'"),
    ],
)
def test_keys_that_stand_twice_are_refused_with_the_line(
    text: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        read_settings_file(path)
    assert caught.value.value == str(path)


def test_in_an_override_too() -> None:
    with pytest.raises(ConfigError, match="stands there again"):
        override({}, ("train={local_steps: 1, local_steps: 2}",))


def test_a_byte_order_mark_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_bytes(b"\xef\xbb\xbfnodes: 4\n")
    assert read_settings_file(tmp_path / "run.yaml") == {"nodes": 4}
