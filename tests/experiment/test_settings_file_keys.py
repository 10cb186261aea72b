"""A run file in which something stands twice."""

from pathlib import Path

import pytest

from hansa.base.errors import ConfigError
from hansa.experiment.runfile import RunFile
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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nodes: 4\ntrain:\n\tbatch_size: 4\n", "spaces where the tab is"),
        ("nodes:4\n", "a space after each colon: nodes: 4"),
    ],
)
def test_the_usual_slips_of_yaml_have_a_way_out(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_settings_file(path)
    assert words in caught.value.fix


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"rounds": True}, "rounds"),
        ({"train": {"local_steps": True}}, "train.local_steps"),
        ({"train": {"optimizer": {"lr": True}}}, "train.optimizer.lr"),
        ({"train": {"optimizer": {"lr": float("inf")}}}, "train.optimizer.lr"),
        ({"train": {"optimizer": {"lr": float("nan")}}}, "train.optimizer.lr"),
        ({"seed": 2**70}, "seed"),
        ({"nodes": 10**20}, "nodes"),
        ({"checkpoint": 5}, "checkpoint"),
        ({"plugins": ["no_such_module_anywhere"]}, "plugins"),
        ([1], ""),
        ('{"nodes": 4}', ""),
    ],
)
def test_wrong_types_and_ranges_name_the_field(settings: object, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RunFile.of(settings)  # type: ignore[arg-type]
    assert caught.value.field == field
    assert caught.value.fix
    assert ".nan" not in caught.value.fix


def test_small_numbers_in_a_file_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("rounds: 1e1\nmodel: {name: module, path: a:b, arguments: {p: 1e-3}}\n")
    read = RunFile.load(path)
    assert read.rounds == 10
    assert read.model.dump()["arguments"] == {"p": 1e-3}
