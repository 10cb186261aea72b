"""Digits seen in several ways: a small transformer is pre-trained, and fine-tuned to each.

The suite that merges are measured on without a download: 26,432 parameters, eight tasks that
differ in the image, a minute of one thread. A task's head is a linear probe of the pre-trained
features that is frozen before fine-tuning, as CLIP's text heads are (Ilharco et al. 2023): so the
backbone alone is merged, and the pre-trained model is already of some use.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from hansa.base.bundle import read_bundle, write_bundle, write_tensors
from hansa.base.component import register
from hansa.base.errors import CheckpointError, ConfigError
from hansa.base.files import write_json
from hansa.base.lazy import functional, safetensors_torch, torch, without_gradients
from hansa.base.spec import DataSpec
from hansa.base.streams import Streams
from hansa.combine.merge.merge_tasks import MergeTasks, Say, Split, TaskSuite
from hansa.data import Digits
from hansa.data.signature import Signature
from hansa.data.views import INPUT_VIEWS, VIEWS, Views
from hansa.models import Model, ViT, initial_model

if TYPE_CHECKING:
    from torch import Tensor, nn

_SPEC = DataSpec("image", (1, 8, 8), 10)
_HEAD = "classifier."
_PROBE_DECAY = 1e-5
_EVALUATED = 512  # images at a time


@register("digits_views")
class DigitsViews(MergeTasks):
    """Models made here: a transformer of 26,432 parameters, fine-tuned to views of digits."""

    views: Views = Field(
        INPUT_VIEWS,
        min_length=2,
        description=f"the tasks: {', '.join(VIEWS)}",
    )
    train: int = Field(1200, ge=50, le=1600, description="images that train")
    validation: int = Field(150, ge=20, description="images that tune what is tuned")
    pretrain_epochs: int = Field(8, ge=1, description="passes of pre-training on plain digits")
    epochs: int = Field(10, ge=1, description="passes of fine-tuning to a view")
    pretrain_lr: float = Field(2e-3, gt=0, description="Adam's rate in pre-training")
    lr: float = Field(1e-3, gt=0, description="Adam's rate in fine-tuning")
    batch_size: int = Field(64, ge=1, description="images a step")
    model: Model = Field(ViT(), description="a vit: the network's sizes")

    @field_validator("model")
    @classmethod
    def _transformer(cls, model: Model) -> Model:
        if not isinstance(model, ViT):
            problem = "has no features that a probe could be fitted to"
            raise ConfigError("model", type(model).name, problem, "vit, of any size")
        return model

    @property
    def validates(self) -> bool:
        """Some images are set apart."""
        return True

    def seen_as(self, task: str) -> str:
        """The task's view, where tasks differ in what they see."""
        return f"the view {task!r} of digits" if task in INPUT_VIEWS else ""

    def check(self) -> None:
        """Some images must be left to test with."""
        left = 1797 - self.train - self.validation
        if left < 50:
            fix = f"train: at most {1797 - 50 - self.validation}"
            raise ConfigError("train", self.train, f"leaves {left} images for the test", fix)

    def suite(self, seed: int, place: Path, say: Say) -> TaskSuite:
        """Pre-train, fit heads and fine-tune; what lies in the folder already is kept."""
        images = _Images(self, Streams(seed))
        network = initial_model(self.model, _SPEC, Streams(seed))
        heads: dict[str, Tensor] = {}
        base, models = place / "base", {view: place / view for view in self.views}
        if not (base / "model.safetensors").exists():
            say("pre-training on plain digits")
            x, y = images.split("train")
            moved = _shifted(x, self.pretrain_epochs, seed)
            order = Streams(seed).integer("pretrain")
            _train(network, moved, y, self.pretrain_lr, self.batch_size, order)
            self._write(base, network)
        _read(base, network)
        for number, view in enumerate(self.views):
            if not (models[view] / "model.safetensors").exists():
                say(f"fine-tuning to {view}")
                tuned = initial_model(self.model, _SPEC, Streams(seed))
                _read(base, tuned)
                x, y = VIEWS[view](*images.split("train"))
                weight, bias = _probe(_features(tuned, x), y)
                tuned.classifier = _linear(weight, bias).requires_grad_(False)
                passes, order = (
                    x.expand(self.epochs, *x.shape),
                    Streams(seed).integer("tune", number),
                )
                _train(tuned, passes, y, self.lr, self.batch_size, order)
                write_bundle(place / "heads" / view, {}, {"weight": weight, "bias": bias})
                self._write(models[view], tuned)  # last: it says that the view is done
            _, head = read_bundle(place / "heads" / view)
            heads |= {f"{view}.{key}": tensor for key, tensor in head.items()}
        judge = _Judge(network, heads, images)
        held = {view: len(images.split("test")[1]) for view in self.views}

        def with_head(view: str) -> nn.Module:
            """Of that view: what was merged is filled in later."""
            tuned = initial_model(self.model, _SPEC, Streams(seed))
            tuned.classifier = _linear(heads[f"{view}.weight"], heads[f"{view}.bias"])
            return tuned.eval()

        counts = {view: len(heads[f"{view}.bias"]) for view in self.views}
        return TaskSuite(
            base, models, judge, examples=held, network=with_head, signature=_signature(),
            classes={v: tuple(map(str, range(k))) for v, k in counts.items() if k < _SPEC.outputs},
        )  # fmt: skip

    def _write(self, folder: Path, network: nn.Module) -> None:
        """The backbone as a folder that ``transformers.ViTModel`` reads too."""
        assert isinstance(self.model, ViT)
        config = {
            "model_type": "vit", "architectures": ["ViTModel"], "dtype": "float32",
            "hidden_size": self.model.hidden, "num_hidden_layers": self.model.layers,
            "num_attention_heads": self.model.heads, "intermediate_size": self.model.mlp,
            "patch_size": self.model.patch, "image_size": 8, "num_channels": 1,
        }  # fmt: skip
        write_json(folder / "config.json", config)
        state = {k: v for k, v in network.state_dict().items() if not k.startswith(_HEAD)}
        write_tensors(folder / "model.safetensors", state)


def _signature() -> Signature:
    """Digits as they are stored, ink from 0 to 16, to [-1, 1]."""
    scale, shift = torch.tensor(1 / 8), torch.tensor(-1.0)
    return Signature(_SPEC, tuple(map(str, range(10))), scale=scale, shift=shift, peak=16.0)


class _Images:
    """The digits in three parts that a seed draws, in [-1, 1]."""

    def __init__(self, tasks: DigitsViews, streams: Streams) -> None:
        raw = Digits().read()
        pixels = [torch.from_numpy(part.inputs).float() for part in (raw.train, raw.test)]
        classes = [torch.from_numpy(part.targets) for part in (raw.train, raw.test)]
        x, y = torch.cat(pixels).permute(0, 3, 1, 2) / 8 - 1, torch.cat(classes)
        order = torch.from_numpy(streams.numpy("split").permutation(len(y)))
        ends = (tasks.train, tasks.train + tasks.validation)
        parts = torch.tensor_split(order, ends)
        named = zip(("train", "validation", "test"), parts, strict=True)
        self._parts = {name: (x[rows].contiguous(), y[rows]) for name, rows in named}

    def split(self, name: str) -> tuple[Tensor, Tensor]:
        """(images [m, 1, 8, 8], classes [m])."""
        return self._parts[name]


class _Judge:
    """Says how many images a backbone and its task's head name rightly."""

    def __init__(self, network: nn.Module, heads: Mapping[str, Tensor], images: _Images) -> None:
        self._network, self._heads, self._images = network.eval(), heads, images

    @without_gradients
    def __call__(self, task: str, state: Mapping[str, Tensor], split: Split) -> float:
        x, y = VIEWS[task](*self._images.split(split))
        _load(self._network, state, task)
        features = _features(self._network, x)
        logits = functional.linear(
            features, self._heads[f"{task}.weight"], self._heads[f"{task}.bias"]
        )
        return float((logits.argmax(-1) == y).double().mean())


def _read(folder: Path, network: nn.Module) -> None:
    file = folder / "model.safetensors"
    _load(network, safetensors_torch.load_file(file), str(file))


def _load(network: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    missing, strange = network.load_state_dict(dict(state), strict=False)
    if strange or any(not name.startswith(_HEAD) for name in missing):
        raise CheckpointError(f"{what}: does not hold the tensors of the network's backbone")


@without_gradients
def _features(network: Any, x: Tensor) -> Tensor:
    return torch.cat([network.features(some) for some in x.split(_EVALUATED)])


def _shifted(x: Tensor, epochs: int, seed: int) -> Tensor:
    """Images moved by up to a pixel each way, anew in each pass: [epochs, m, 1, 8, 8]."""
    draw = torch.Generator().manual_seed(Streams(seed).integer("shifts"))
    wide = functional.pad(x, (1, 1, 1, 1), value=-1.0)
    moved = torch.stack([wide[..., i : i + 8, j : j + 8] for i in range(3) for j in range(3)])
    which = torch.randint(9, (epochs, len(x)), generator=draw)
    return moved[which, torch.arange(len(x))]


def _train(network: nn.Module, x: Tensor, y: Tensor, lr: float, batch: int, seed: int) -> None:
    """Adam on the cross-entropy; ``x`` [epochs, m, ...] is what each pass sees."""
    draw = torch.Generator().manual_seed(seed)
    free = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(free, lr=lr)
    network.train()
    for images in x:
        for rows in torch.randperm(len(y), generator=draw).split(batch):
            optimizer.zero_grad()
            functional.cross_entropy(network(images[rows]), y[rows]).backward()
            optimizer.step()


def _probe(features: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """A softmax regression on features: (weight [K, d], bias [K])."""
    classes = int(y.max()) + 1
    weight = torch.zeros(classes, features.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value = functional.cross_entropy(functional.linear(features, weight, bias), y)
        value = value + _PROBE_DECAY * weight.square().sum()
        value.backward()
        return value

    solver.step(loss)
    return weight.detach(), bias.detach()


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer
