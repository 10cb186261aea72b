"""Artefacts and cuts: exact at both ends, to the byte, and the same wherever they are made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from hansa.base.errors import CheckpointError, ConfigError, HansaWarning
from hansa.combine.merge.algorithms.averaging import Averaging
from hansa.combine.merge.algorithms.dare import Dare
from hansa.combine.merge.algorithms.emr import Emr
from hansa.combine.merge.algorithms.fisher import Fisher
from hansa.combine.merge.algorithms.merging import BlockFacts, MergingAlgorithm
from hansa.combine.merge.algorithms.regmean import RegMean
from hansa.combine.merge.algorithms.slerp import Slerp
from hansa.combine.merge.algorithms.tall_mask import TallMask
from hansa.combine.merge.algorithms.ties import Ties
from hansa.combine.merge.algorithms.trimming import ranked_values
from hansa.combine.merge.artefact import Artefact
from hansa.combine.merge.artefact_building import build_artefact
from hansa.combine.merge.cut import cut
from hansa.combine.merge.merged_models import MergedModels
from hansa.weights.model_folder import ModelFolder

Make = Callable[..., tuple[list[ModelFolder], ModelFolder]]
SOME: dict[str, MergingAlgorithm] = {
    "averaging": Averaging(),
    "ties": Ties(density=0.3),
    "dare_ties": Dare(drop=0.4, inner=Ties(density=0.5)),
    "emr": Emr(),
    "tall_mask": TallMask(inner=Ties(density=0.3)),
}


def whole(model: ModelFolder) -> dict[str, torch.Tensor]:
    return {name: model.read(name) for name in model.entries}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.filterwarnings("ignore:.*of the numbers that fine-tuning reached")
def test_unmerged_models_come_back_bit_for_bit(
    make_models: Make, tmp_path: Path, dtype: torch.dtype
) -> None:
    models, base = make_models(3, dtype=dtype, heads=True)
    artefact = build_artefact(models, base, tmp_path / "a", SOME, heads=["head"])
    for label in SOME:
        done = cut(artefact, label, tmp_path / f"{label}.safetensors", size=3)
        assert done.loss == 0
        merged = MergedModels.open(done.path)
        for name, model in zip(merged.names, models, strict=True):
            state, original = merged.state_dict(name), whole(model)
            assert state.keys() == original.keys()
            assert all(torch.equal(state[key], value) for key, value in original.items())


@pytest.mark.parametrize("label", ["averaging", "ties", "dare_ties"])
def test_one_size_is_the_algorithm_applied_once_to_every_block(
    make_models: Make, tmp_path: Path, label: str
) -> None:
    models, base = make_models(4)
    artefact = build_artefact(models, base, tmp_path / "a", SOME)
    done = cut(artefact, label, tmp_path / "one.safetensors", size=1)
    assert done.size == 1
    merged = MergedModels.open(done.path)
    algorithm, facts = SOME[label], []
    for layout in artefact.layouts:
        rows = [
            torch.cat([m.read(p.name)[p.first_row : p.first_row + p.shape[0]].flatten()
                       for p in layout.pieces])
            for m in [base, *models]
        ]  # fmt: skip
        facts.append((layout, rows[0], torch.stack(rows[1:]) - rows[0]))
    if ranks := algorithm.cutoff_ranks(sum(layout.numbers for layout, _, _ in facts)):
        ranked = [
            algorithm.ranked(taus, BlockFacts(layout.name, layout.pieces).whole(taus))
            for layout, _, taus in facts
        ]
        cutoffs = ranked_values(torch.cat(ranked, 1), ranks)
    for layout, original, taus in facts:
        about = BlockFacts(layout.name, layout.pieces, cutoffs=cutoffs if ranks else None)
        expected = original + algorithm.merge(taus, about).vector
        for name in merged.names:
            state = merged.state_dict(name)
            for piece in layout.pieces:
                assert torch.equal(state[piece.name], piece.of(expected))
    assert torch.equal(merged.state_dict("task1")["position_ids"], torch.arange(5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.filterwarnings("ignore:.*of the numbers that fine-tuning reached")
def test_the_ledger_is_what_lies_in_the_file(
    make_models: Make, tmp_path: Path, dtype: torch.dtype
) -> None:
    models, base = make_models(4, dtype=dtype, scale=5)
    artefact = build_artefact(models, base, tmp_path / "a", SOME)
    for label in ("averaging", "emr", "tall_mask"):
        sizes = artefact.sizes(label)
        assert list(sizes.bytes) == sorted(sizes.bytes, reverse=True)
        for step, size in enumerate(sorted(set(sizes.bytes))):
            out = tmp_path / f"{label}-{step}.safetensors"
            done = cut(artefact, label, out, size=size / sizes.unit + 1e-9)
            with safe_open(out, "pt") as file:
                lying = sum(
                    file.get_tensor(k).numel() * file.get_tensor(k).element_size()
                    for k in file.keys()  # noqa: SIM118 - it is no mapping
                )
            assert lying == done.payload == done.ledger.total == size
            assert done.bytes == out.stat().st_size


def test_masked_models_are_what_the_algorithm_gives_back(make_models: Make, tmp_path: Path) -> None:
    models, base = make_models(5, scale=9)
    artefact = build_artefact(models, base, tmp_path / "a", SOME)
    for label in ("emr", "tall_mask"):
        sizes = artefact.sizes(label)
        done = cut(artefact, label, tmp_path / f"{label}.safetensors", size=sizes.least + 1e-9)
        merged = MergedModels.open(done.path)
        lost = 0.0
        for number, layout in enumerate(artefact.layouts):
            merging = artefact.merging(label, number)
            result, members = merging.merged(tuple(range(5)))
            assert members == (0, 1, 2, 3, 4)
            for row, name in enumerate(merged.names):
                state = merged.state_dict(name)
                given_back = base_of(base, layout) + result.of(row)
                for piece in layout.pieces:
                    torch.testing.assert_close(state[piece.name], piece.of(given_back))
                lost += float((result.of(row) - merging.taus[row]).square().sum())
        energy = sum(artefact.energy(number) for number in range(len(artefact.layouts)))
        assert done.loss == pytest.approx(lost / energy, rel=1e-5)


def base_of(base: ModelFolder, layout: object) -> torch.Tensor:
    return torch.cat([
        base.read(p.name)[p.first_row : p.first_row + p.shape[0]].flatten()
        for p in layout.pieces  # type: ignore[attr-defined]
    ])  # fmt: skip


def test_a_budget_holds_header_and_all_and_wastes_no_block(
    make_models: Make, tmp_path: Path
) -> None:
    models, base = make_models(4, scale=60)
    artefact = build_artefact(models, base, tmp_path / "a", SOME)
    largest = max(layout.size.bytes for layout in artefact.layouts)
    for label in ("averaging", "ties", "emr", "tall_mask"):
        for share in (0.6, 0.7, 0.8):
            budget = int(share * 4 * artefact.unit) + 4000
            out = tmp_path / f"{label}-{share}.safetensors"
            done = cut(artefact, label, out, budget=budget)
            assert budget - largest - 400 < out.stat().st_size <= budget
            assert done.bytes == out.stat().st_size
            packed = cut(artefact, label, out.with_suffix(".k"), budget=budget, order="knapsack")
            assert packed.bytes <= budget
            assert packed.loss is not None
            assert done.loss is not None
            assert packed.loss <= done.loss + 1e-9


def test_a_size_is_the_same_bytes_wherever_it_is_cut(make_models: Make, tmp_path: Path) -> None:
    models, base = make_models(4)
    first = build_artefact(models, base, tmp_path / "a", SOME)
    again = build_artefact(models, base, tmp_path / "elsewhere" / "b", SOME)
    for label in SOME:
        files = [
            cut(artefact, label, tmp_path / f"{name}-{label}.safetensors", size=2.6).path
            for name, artefact in (("one", first), ("two", again))
        ]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_groups_of_a_smaller_size_are_unions(make_models: Make, tmp_path: Path) -> None:
    models, base = make_models(4)
    artefact = build_artefact(models, base, tmp_path / "a", {"averaging": Averaging()})
    before: list[set[frozenset[int]]] | None = None
    for size in (4, 3, 2, 1):
        done = cut(artefact, "averaging", tmp_path / f"{size}.safetensors", size=size)
        groups = [
            {frozenset(group.members) for group in block.groups}
            for block in MergedModels.open(done.path).plan.blocks
        ]
        if before:
            for fine, coarse in zip(before, groups, strict=True):
                assert all(any(g <= union for union in coarse) for g in fine)
        before = groups


def test_frozen_blocks_are_one_from_the_start(make_models: Make, tmp_path: Path) -> None:
    models, base = make_models(4, frozen=("embeddings.word.weight", "norm.weight"))
    artefact = build_artefact(models, base, tmp_path / "a", SOME)
    frozen = (11 * 4 + 3) * 4
    assert artefact.sizes("emr").most == pytest.approx(4 - 3 * (frozen + 40) / artefact.unit)
    done = cut(artefact, "emr", tmp_path / "least.safetensors", size=artefact.sizes("emr").least)
    merged = MergedModels.open(done.path)
    for name in merged.names:
        state = merged.state_dict(name)
        for key in ("embeddings.word.weight", "norm.weight"):
            assert torch.equal(state[key], base.read(key))


def test_equal_models_count_as_often_as_they_are(tmp_path: Path, make_models: Make) -> None:
    """Two models that are the same weigh twice in the mean, and share what is stored."""
    models, base = make_models(2)
    twice = [models[0], models[1], models[0]]
    artefact = build_artefact(twice, base, tmp_path / "a", [Averaging()], names=["a", "b", "c"])
    assert artefact.sizes("averaging").most < 2.1
    state = MergedModels.open(
        cut(artefact, "averaging", tmp_path / "one.safetensors", size=1).path
    ).state_dict("b")
    name = "encoder.layer.0.mlp.weight"
    expected = (2 * models[0].read(name) + models[1].read(name)) / 3
    torch.testing.assert_close(state[name], expected)


def test_merged_models_share_what_they_have_in_common(make_models: Make, tmp_path: Path) -> None:
    models, base = make_models(5)
    artefact = build_artefact(models, base, tmp_path / "a", [Averaging()])
    done = cut(artefact, "averaging", tmp_path / "two.safetensors", size=2)
    merged = MergedModels.open(done.path)
    storages: dict[int, int] = {}
    for name in merged.names:
        for tensor in merged.state_dict(name).values():
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    assert sum(storages.values()) == done.payload

    def make() -> torch.nn.Module:
        return Holder({name: tuple(entry.shape) for name, entry in base.entries.items()})

    modules = merged.modules(make)
    pointers = {
        value.untyped_storage().data_ptr()
        for module in modules.values()
        for value in module.state_dict().values()
    }
    assert pointers == set(storages)
    shapes = {n: tuple(e.shape) for n, e in base.entries.items() if n != "position_ids"}
    assert len(merged.modules(lambda: Holder(shapes))) == 5
    with pytest.raises(ConfigError, match="does not take the tensors"):
        merged.modules(lambda: torch.nn.Linear(2, 2))


class Holder(torch.nn.Module):
    """A module with parameters of these dotted names."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            at: torch.nn.Module = self
            *path, last = name.split(".")
            for part in path:
                if part not in at._modules:
                    at.add_module(part, torch.nn.Module())
                at = at.get_submodule(part)
            if name == "position_ids":
                at.register_buffer(last, torch.zeros(shape, dtype=torch.int64))
            else:
                at.register_parameter(last, torch.nn.Parameter(torch.zeros(shape)))


def test_a_tasks_model_is_written_without_the_sources(make_models: Make, tmp_path: Path) -> None:
    models, base = make_models(3, heads=True)
    artefact = build_artefact(models, base, tmp_path / "a", [Emr()], heads=["head"])
    originals = [whole(model) for model in models]
    for model in [*models, base]:
        (model.path / "model.safetensors").unlink()
    done = cut(Artefact.open(tmp_path / "a"), "emr", tmp_path / "m.safetensors", size=3)
    out = MergedModels.open(done.path).write("task2", tmp_path / "out", artefact.form(2))
    again = whole(ModelFolder.open(out))
    assert again.keys() == originals[2].keys()
    assert all(torch.equal(again[name], value) for name, value in originals[2].items())


def test_statistics_come_along(make_models: Make, tmp_path: Path) -> None:
    models, base = make_models(2)
    files = []
    for k, model in enumerate(models):
        weights = {n: torch.full(e.shape, 1.0 + 2 * k) for n, e in model.entries.items()}
        files.append(str(tmp_path / f"fisher{k}.safetensors"))
        save_file(weights, files[-1])
    fisher = Fisher(files=tuple(files))
    artefact = build_artefact(models, base, tmp_path / "a", {"fisher": fisher, "slerp": Slerp()})
    for file in files:
        Path(file).unlink()
    done = cut(artefact, "fisher", tmp_path / "one.safetensors", size=1)
    state = MergedModels.open(done.path).state_dict("task0")
    for name in ("norm.weight", "embeddings.word.weight"):
        expected = (models[0].read(name) + 3 * models[1].read(name)) / 4
        torch.testing.assert_close(state[name], expected)
    assert cut(artefact, "slerp", tmp_path / "slerp.safetensors", size=1).size == 1


def test_what_cannot_be_cut_or_built_is_named(make_models: Make, tmp_path: Path) -> None:
    models, base = make_models(3, scale=8)
    place, out = tmp_path / "a", tmp_path / "x.safetensors"
    with pytest.raises(ConfigError, match="is no artefact"):
        Artefact.open(place)
    with pytest.raises(ConfigError, match="too few"):
        build_artefact(models[:1], base, place, SOME)
    with pytest.raises(ConfigError, match="goes between two models"):
        build_artefact(models, base, place, [Slerp()])
    save_file({"other": torch.ones(2)}, tmp_path / "s.safetensors")
    stray = (str(tmp_path / "s.safetensors"),) * 3
    with pytest.raises(ConfigError, match="holds no statistic of a tensor"):
        build_artefact(models, base, place, [RegMean(files=stray)])
    assert not place.exists()
    artefact = build_artefact(models, base, place, SOME)
    with pytest.raises(ConfigError, match=r"the least is 2\.\d+ models") as caught:
        cut(artefact, "emr", out, size=1)
    assert float(caught.value.fix.split()[0]) >= artefact.sizes("emr").least
    with pytest.raises(ConfigError, match=r"the least is \d+ bytes"):
        cut(artefact, "averaging", out, budget=1000)
    with pytest.raises(ConfigError, match="one of averaging, ties"):
        cut(artefact, "pcb", out, size=2)
    with pytest.raises(ConfigError, match="is unknown"):
        cut(artefact, "averaging", out, size=2, order="upwards")
    with pytest.raises(ConfigError, match="and not both"):
        cut(artefact, "averaging", out)
    assert not out.exists()
    with pytest.raises(ConfigError, match="begun with other algorithms"):
        build_artefact(models, base, place, [Averaging()])
    data = bytearray((place / "artefact.safetensors").read_bytes())
    data[-1] ^= 1
    (place / "artefact.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError):
        Artefact.open(place)


def test_a_number_that_is_not_finite_leaves_nothing_behind(
    make_models: Make, tmp_path: Path
) -> None:
    models, base = make_models(3)
    tensors = whole(models[1])
    tensors["norm.weight"][1] = float("nan")
    save_file(tensors, models[1].path / "model.safetensors")
    broken = ModelFolder.open(models[1].path)
    with pytest.raises(ConfigError, match=r"norm\.weight holds a number that is not finite"):
        build_artefact([models[0], broken, models[2]], base, tmp_path / "a", SOME)
    assert not (tmp_path / "a").exists()


def test_coarse_numbers_are_warned_of(make_models: Make, tmp_path: Path) -> None:
    models, base = make_models(2, dtype=torch.bfloat16, scale=4)
    for model in models:
        tensors = {}
        for name, value in whole(base).items():
            changed = value.float() + 1e-3 * torch.randn(value.shape)
            tensors[name] = changed.to(value.dtype) if value.is_floating_point() else value
        save_file(tensors, model.path / "model.safetensors")
    models = [ModelFolder.open(model.path) for model in models]
    with pytest.warns(HansaWarning, match="BF16 has too few digits"):
        artefact = build_artefact(models, base, tmp_path / "a", [Averaging()])
    assert 0.05 < artefact.facts["unchanged"] < 1


def test_cosines_are_of_trimmed_vectors_for_ties(make_models: Make, tmp_path: Path) -> None:
    models, base = make_models(3)
    artefact = build_artefact(models, base, tmp_path / "a", SOME)
    taus = artefact.merging("averaging", 1).taus
    trimmed = artefact.merging("ties", 1).prepared
    np.testing.assert_allclose(artefact.gram("averaging", 1), taus @ taus.T, rtol=1e-4)
    np.testing.assert_allclose(artefact.gram("ties", 1), trimmed @ trimmed.T, rtol=1e-4, atol=1e-6)
    kept = sum(
        int((artefact.merging("ties", n).prepared[0] != 0).sum())
        for n in range(len(artefact.layouts))
    )
    assert kept == int(0.3 * sum(layout.numbers for layout in artefact.layouts))
