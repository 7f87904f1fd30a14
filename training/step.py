"""The state of a training and one optimiser step (docs/method.md §6)."""

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dataloaders.training_pairs import Video
from models.liir import LIIR, REGION_CHANNELS, PairFeatures
from models.losses import COLOUR_CHANNELS, compute_losses, drop_channel
from models.queue import NegativeQueue
from models.resnet import POSITION_GRID
from training.pretrained import load_pretrained
from training.schedule import cosine_factor, learning_rate_factor
from training.seed import DROPPED_CHANNEL, SHUFFLED_EMBEDDING, generator, torch_generator
from utils.checkpoint import load_weights
from utils.distributed import World
from utils.errors import UserError

REGION_GRID = 32  # cells on a side of the region features of a 256×256 frame
FREE_OF_ADAM = ("lr", "fused")  # settings that a saved state may have otherwise: the schedule's, the device's
SHUFFLED_PATCH = 16  # cells on a side of the patches that --pe_shuffle permutes


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters of a training, named as the options of `train.py`."""

    semantic: bool = False
    usemomen: bool = False
    compact: bool = False
    lr: float = 1e-4
    bsize: int = 12
    factor: int = 80
    enc_mo: float = 0.999
    freeze_bn: bool = False
    pe_shuffle: bool = False
    amp: bool = False
    seed: int = 0
    backend: str = "native"
    cosine: int = 0


@dataclass
class Progress:
    """The position in a training: its next step."""

    epoch: int = 0
    step: int = 0  # within the epoch, from 0
    steps: int = 0  # number taken in all epochs

    def end_epoch_if_complete(self, steps_per_epoch: int) -> None:
        """Start the next epoch if all steps of this one have been taken."""
        if self.step >= steps_per_epoch:
            self.epoch, self.step = self.epoch + 1, 0


class Training:
    """The network, its optimiser, the queue of negatives, and the progress of the training."""

    def __init__(
        self, recipe: Recipe, world: World, pretrained: Path | None = None, videos: Sequence[Video] = ()
    ) -> None:
        """pretrained: a checkpoint from which the weights are initialised; videos: of the index, in its order."""
        torch.manual_seed(recipe.seed)
        model = LIIR(semantic=recipe.semantic, momentum=recipe.usemomen)
        if pretrained is not None:
            with world.agreed():
                load_pretrained(model, pretrained)
        self.recipe = recipe
        self.world = world
        self.videos = videos
        layout = torch.channels_last if recipe.amp else torch.contiguous_format  # the latter agrees with the reference
        self.model = model.to(world.device).to(memory_format=layout)
        self.parallel = world.wrap(self.model)
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        fused = True if world.device.type == "cuda" else None  # one kernel instead of hundreds
        self.optimizer = torch.optim.Adam(trained, lr=recipe.lr, fused=fused)
        self.queue = None
        if recipe.usemomen:
            size = {"channels": REGION_CHANNELS, "height": REGION_GRID, "width": REGION_GRID}
            self.queue = NegativeQueue(recipe.bsize, recipe.factor, **size, device=world.device)
        self.progress = Progress()
        set_training_mode(self.model, freeze_bn=recipe.freeze_bn)

    def state_dict(self) -> dict:
        """Return the whole state, for an exact resume."""
        return {
            "state_dict": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "queue": {} if self.queue is None else self.queue.state_dict(),
            "position": asdict(self.progress),
            "recipe": asdict(self.recipe),
            "videos": [astuple(video) for video in self.videos],
        }

    def load_state_dict(self, state: dict, path: Path) -> None:
        """Restore the state; UserError if it does not fit this training. path: its file, for error messages."""
        loaders: dict[str, Callable[[Any], None]] = {
            "recipe": self._require_recipe,
            "optimizer": self._load_optimizer,
            "position": self._load_progress,
        }
        if self.queue is not None:
            loaders["queue"] = self.queue.load_state_dict
            if state.get("videos"):  # older files do not name them
                loaders["videos"] = self._renumber_queue
        for name, load in loaders.items():
            try:
                load(state[name])
            except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
                way_out = "or use --pretrain for its weights only" if name == "recipe" else "use an earlier checkpoint"
                raise UserError(f"checkpoint {path}: cannot be resumed, invalid {name}: {error}; {way_out}") from error
        load_weights(self.model, state["state_dict"], path)

    def _require_recipe(self, recipe: dict) -> None:
        old, new = asdict(Recipe()) | recipe, asdict(self.recipe)
        changes = [f"--{name} was {old.get(name)}, is {new[name]}" for name in new if old.get(name) != new[name]]
        if changes:
            raise ValueError(f"{', '.join(changes)}; resume with the same options")

    def _load_optimizer(self, state: dict) -> None:
        """Load Adam's state; ValueError if it is not finite or of another network, which Adam does not check."""
        self.optimizer.load_state_dict(copy.deepcopy(state))  # a copy, since the file is memory-mapped
        for parameter, moments in self.optimizer.state.items():
            shapes = {"step": (), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
            if bad := [name for name in shapes if moments[name].shape != shapes[name] or not _finite(moments[name])]:
                raise ValueError(f"{bad[0]} {list(moments[bad[0]].shape)} is not finite, or of another network")
        for group in self.optimizer.param_groups:
            for name, default in self.optimizer.defaults.items():
                if name not in FREE_OF_ADAM and group[name] != default:
                    raise ValueError(f"{name} was {group[name]!r}, is {default!r}")

    def _renumber_queue(self, earlier: list) -> None:
        """Let the queue name videos by their rows in this index; videos that it no longer has get -1."""
        assert self.queue is not None
        rows = {astuple(video): row for row, video in enumerate(self.videos)}
        self.queue.renumber(torch.tensor([rows.get(tuple(video), -1) for video in earlier], dtype=torch.int64))

    def _load_progress(self, state: dict) -> None:
        if state.keys() != asdict(Progress()).keys() or not all(type(n) is int and n >= 0 for n in state.values()):
            raise ValueError(f"{state} must be non-negative integers: epoch, step, steps")
        self.progress = Progress(**state)

    def step(self, reference: Tensor, target: Tensor, videos: Tensor, all_videos: Tensor) -> dict[str, Tensor]:
        """Take one optimiser step on this process's part of a global batch; return its losses (`compute_losses`).

        reference, target: Lab [B, 3, 256, 256]; videos: index rows [B]; all_videos: of the global batch [bsize].
        Raises FloatingPointError, with the weights unchanged, if the loss or its gradient is not finite.
        """
        recipe, position = self.recipe, (self.progress.epoch, self.progress.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        if self.queue is not None:
            self.model.update_key_head(recipe.enc_mo)
        channel = COLOUR_CHANNELS[generator(recipe.seed, DROPPED_CHANNEL, *position).integers(len(COLOUR_CHANNELS))]
        features = self._features(drop_channel(reference, channel), drop_channel(target, channel))
        losses = compute_losses(
            features,
            reference[:, channel, None],
            target[:, channel, None],
            compact=recipe.compact,
            negatives=None if self.queue is None else self.queue.negatives(videos, all_videos),
            backend=recipe.backend,
        )
        self._descend(losses["total"])
        if self.queue is not None:
            assert features.region_key is not None  # stage 2 has the region heads
            self.queue.push(self.world.gather(features.region_key), all_videos)
        self.progress.step += 1
        self.progress.steps += 1
        return {**losses, "channel": torch.tensor(channel)}

    def _learning_rate(self) -> float:
        recipe, steps = self.recipe, self.progress.steps
        if recipe.cosine:
            return recipe.lr * cosine_factor(steps, recipe.cosine)
        return recipe.lr * learning_rate_factor(steps * recipe.bsize, momentum=recipe.usemomen)

    def _descend(self, loss: Tensor) -> None:
        """Backpropagate and update; FloatingPointError in all processes, before the update, if any is not finite."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        gradients = [value.grad for value in self.model.parameters() if value.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.world.any(not bool(torch.isfinite(loss) & torch.isfinite(norm))):
            raise FloatingPointError("the loss or its gradient is not finite")
        self.optimizer.step()

    def _features(self, reference: Tensor, target: Tensor) -> PairFeatures:
        embedding = None
        if self.recipe.pe_shuffle:
            random = torch_generator(self.recipe.seed, SHUFFLED_EMBEDDING, self.progress.epoch, self.progress.step)
            embedding = shuffle_patches(self.model.feature_extraction.pos_embed1, random)
        with torch.autocast(self.world.device.type, torch.bfloat16) if self.recipe.amp else nullcontext():
            features = self.parallel(reference, target, embedding)
        return PairFeatures._make(None if maps is None else maps.float() for maps in features)


def _finite(values: Tensor) -> bool:
    return bool(torch.isfinite(values).all())


def set_training_mode(model: nn.Module, *, freeze_bn: bool) -> None:
    """Set training mode; frozen BatchNorm normalises by fixed running statistics, its weight and bias are trained.

    In the reference implementation `--freeze_bn` has no effect.
    """
    model.train()
    if freeze_bn:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def shuffle_patches(embedding: Tensor, random: torch.Generator) -> Tensor:
    """Return a position embedding [1, C, 128, 128] with its 16×16 patches in random order."""
    count = POSITION_GRID // SHUFFLED_PATCH
    patches = embedding.unflatten(3, (count, -1)).unflatten(2, (count, -1))  # [1, C, n, p, n, p]
    patches = patches.permute(0, 1, 2, 4, 3, 5).flatten(2, 3)
    order = torch.randperm(count * count, generator=random).to(embedding.device)
    shuffled = patches[:, :, order].unflatten(2, (count, count)).permute(0, 1, 2, 4, 3, 5)
    return shuffled.flatten(4, 5).flatten(2, 3)
