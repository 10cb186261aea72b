"""Facts and tensors on disk: what comes back is what went in, and damage is named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.bundle import bundle_file, read_bundle, read_facts, read_tensors, write_bundle
from hansa.base.bundle import write_tensors as write
from hansa.base.errors import CheckpointError

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=9)
FACTS = st.dictionaries(
    NAMES, st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
)
KINDS = [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
SHAPES = st.lists(st.integers(0, 4), max_size=3)


@given(FACTS, st.dictionaries(NAMES, st.tuples(st.sampled_from(KINDS), SHAPES), max_size=4))
def test_what_comes_back_is_what_went_in(
    tmp_path_factory: pytest.TempPathFactory, facts: dict[str, Any], forms: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("bundle") / "one"
    tensors = {
        name: torch.arange(torch.Size(shape).numel()).reshape(shape).to(kind)
        for name, (kind, shape) in forms.items()
    }
    tensors.pop("__metadata__", None)
    write_bundle(path, facts, tensors)
    found, back = read_bundle(path)
    assert found == facts
    assert set(back) == set(tensors)
    for name, value in tensors.items():
        assert back[name].dtype == value.dtype
        assert torch.equal(back[name], value)


def test_every_byte_that_changes_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "one"
    write_bundle(path, {"round": 3, "name": "x"}, {"a": torch.arange(4.0), "b": torch.tensor(7)})
    file = bundle_file(path)
    whole = file.read_bytes()
    for at in range(len(whole)):
        if whole[at : at + 1] == b" ":  # what pads the header says nothing
            continue
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(CheckpointError, match=r"one\.safetensors: is"):
            read_bundle(path)
    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"corrupt.*; delete it"):
            read_bundle(path, "delete it")


def test_what_is_no_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"one\.safetensors: is missing"):
        read_bundle(tmp_path / "one")
    for header in (None, {"hansa.bundle": '{"format": 9}'}):
        safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "one.safetensors", header)
        with pytest.raises(CheckpointError, match="no bundle of format 1"):
            read_bundle(tmp_path / "one")
    (tmp_path / "one.json").write_text("[1]")
    with pytest.raises(CheckpointError, match="does not hold a mapping"):
        read_facts(tmp_path / "one.json")


def test_tensors_are_held_against_their_digest(tmp_path: Path) -> None:
    file = tmp_path / "one.safetensors"
    digest = write(file, {"a": torch.tensor([1.0, float("inf")])})
    assert read_tensors(file, digest)["a"][0] == 1
    with pytest.raises(CheckpointError, match="a holds a number that is not finite"):
        read_tensors(file, digest, finite=True)
    with pytest.raises(CheckpointError, match="corrupt"):
        read_tensors(file, "0" * 64)


def test_one_that_is_replaced_is_whole_whenever_the_process_dies(tmp_path: Path) -> None:
    """A process that replaces a bundle for ever is killed: an old one or a new one is there."""
    code = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from hansa.base.bundle import write_bundle\n"
        "k = 0\n"
        "while True:\n"
        "    write_bundle(Path(sys.argv[1]), {'k': k}, {'a': torch.full((1000,), k)})\n"
        "    k += 1\n"
        "    print(k, flush=True)\n"
    )
    path = tmp_path / "one"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as going:
        assert going.stdout is not None
        for _ in range(20):
            going.stdout.readline()
        going.send_signal(signal.SIGKILL)
    facts, tensors = read_bundle(path)
    assert facts["k"] >= 19
    assert (tensors["a"] == facts["k"]).all()
