"""What training changes, and one step of it (docs/method.md §6)."""

import copy
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from models.liir import LIIR, REGION_CHANNELS, PairFeatures
from models.losses import COLOUR_CHANNELS, compute_losses, drop_channel
from models.queue import NegativeQueue
from models.resnet import POSITION_GRID
from utils.checkpoint import load_weights, read_state_dict
from utils.distributed import World
from utils.errors import UserError
from utils.schedule import cosine_factor, learning_rate_factor
from utils.seed import DROPPED_CHANNEL, SHUFFLED_POSITION, generator, torch_generator

REGION_GRID = 32  # cells on a side of the region features of a 256×256 frame
SHUFFLED_PATCH = 16  # cells on a side of the patches of the position embedding that change places


@dataclass(frozen=True)
class Recipe:
    """How to train; the options of `train.py` of the same names say more."""

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
class Position:
    """Where training is: the next step to take."""

    epoch: int = 0
    step: int = 0  # within the epoch
    steps: int = 0  # taken in all


class Training:
    """The network, its optimiser, the queue of negatives, and where training is."""

    def __init__(self, recipe: Recipe, world: World, pretrained: Path | None = None) -> None:
        """pretrained: a checkpoint whose weights to start from."""
        torch.manual_seed(recipe.seed)
        model = LIIR(semantic=recipe.semantic, momentum=recipe.usemomen)
        if pretrained is not None:
            with world.agreed():
                load_pretrained(model, pretrained)
        self.recipe = recipe
        self.world = world
        layout = torch.channels_last if recipe.amp else torch.contiguous_format  # the latter rounds as the reference
        self.parallel = world.wrap(model.to(world.device, memory_format=layout))
        self.model: LIIR = self.parallel if world.size == 1 else self.parallel.module
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr=recipe.lr)
        self.queue = None
        if recipe.usemomen:
            size = {"channels": REGION_CHANNELS, "height": REGION_GRID, "width": REGION_GRID}
            self.queue = NegativeQueue(recipe.bsize, recipe.factor, **size, device=world.device)
        self.position = Position()
        set_training_mode(self.model, freeze_bn=recipe.freeze_bn)

    def state_dict(self) -> dict:
        """Everything that changes, for an exact resume."""
        return {
            "state_dict": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "queue": {} if self.queue is None else self.queue.state_dict(),
            "position": asdict(self.position),
            "recipe": asdict(self.recipe),
        }

    def load_state_dict(self, state: dict, path: Path) -> None:
        """The inverse of `state_dict`; path: where it was read from, for the errors."""
        loaders = {"recipe": self._require_recipe, "optimizer": self._load_optimizer, "position": self._load_position}
        if self.queue is not None:
            loaders["queue"] = self.queue.load_state_dict
        for name, load in loaders.items():
            try:
                load(state[name])
            except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
                way_out = "use --pretrain for its weights alone" if name == "recipe" else "use an earlier one"
                raise UserError(f"checkpoint {path}: cannot be resumed, its {name}: {error}; {way_out}") from error
        load_weights(self.model, state["state_dict"], path)

    def _require_recipe(self, recipe: dict) -> None:
        old, new = asdict(Recipe()) | recipe, asdict(self.recipe)
        changes = [f"--{name} was {old.get(name)}, is {new[name]}" for name in new if old.get(name) != new[name]]
        if changes:
            raise ValueError(f"{', '.join(changes)}; resume with its options")

    def _load_optimizer(self, state: dict) -> None:
        """Adam itself takes moments of any shape, and fails at the next step."""
        self.optimizer.load_state_dict(copy.deepcopy(state))  # the file is mapped: keep nothing of it
        for parameter, moments in self.optimizer.state.items():
            shapes = {"step": (), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
            if odd := [name for name in shapes if moments[name].shape != shapes[name] or _lost(moments[name])]:
                raise ValueError(f"{odd[0]} {list(moments[odd[0]].shape)} is not finite, or of another network")
        for group in self.optimizer.param_groups:
            for name, default in self.optimizer.defaults.items():
                if name != "lr" and group[name] != default:
                    raise ValueError(f"{name} was {group[name]!r}, is {default!r}")

    def _load_position(self, state: dict) -> None:
        if state.keys() != asdict(Position()).keys() or not all(type(n) is int and n >= 0 for n in state.values()):
            raise ValueError(f"{state} is not whole numbers of epochs and steps")
        self.position = Position(**state)

    def step(self, reference: Tensor, target: Tensor, videos: Tensor, all_videos: Tensor) -> dict[str, Tensor]:
        """One optimiser step on this process's part of a global batch; its losses (`compute_losses`).

        reference, target: Lab [B, 3, 256, 256]; videos: [B]; all_videos: those of all processes' parts, in order.
        """
        recipe, place = self.recipe, (self.position.epoch, self.position.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        if self.queue is not None:
            self.model.update_key_head(recipe.enc_mo)
        channel = COLOUR_CHANNELS[generator(recipe.seed, DROPPED_CHANNEL, *place).integers(len(COLOUR_CHANNELS))]
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
            self.queue.push(self.world.gather(features.region_key), all_videos)
        self.position.step += 1
        self.position.steps += 1
        return {**losses, "channel": torch.tensor(channel)}

    def _learning_rate(self) -> float:
        recipe, steps = self.recipe, self.position.steps
        if recipe.cosine:
            return recipe.lr * cosine_factor(steps, recipe.cosine)
        return recipe.lr * learning_rate_factor(steps * recipe.bsize, momentum=recipe.usemomen)

    def _descend(self, loss: Tensor) -> None:
        """Change the weights; FloatingPointError in all processes before any weight would be lost."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        gradients = [value.grad for value in self.model.parameters() if value.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.world.any(not bool(torch.isfinite(loss) & torch.isfinite(norm))):
            raise FloatingPointError("the loss or its gradient is not finite")
        self.optimizer.step()

    def _features(self, reference: Tensor, target: Tensor) -> PairFeatures:
        position = None
        if self.recipe.pe_shuffle:
            place = (self.position.epoch, self.position.step)
            random = torch_generator(self.recipe.seed, SHUFFLED_POSITION, *place)
            position = shuffle_patches(self.model.feature_extraction.pos_embed1, random)
        with torch.autocast(self.world.device.type, torch.bfloat16, enabled=self.recipe.amp):
            features = self.parallel(reference, target, position)
        return PairFeatures(*(None if maps is None else maps.float() for maps in features))


def _lost(values: Tensor) -> bool:
    return not bool(torch.isfinite(values).all())


def load_pretrained(model: LIIR, path: Path) -> None:
    """The weights of another training; heads that it had not keep their first values, the key head is a copy."""
    unused = ("colorizer.", "conv_semantic_k.")
    state = {name: value for name, value in read_state_dict(path).items() if not name.startswith(unused)}
    heads = {name: value for name, value in model.state_dict().items() if name.startswith("conv_semantic")}
    if not heads:
        state = {name: value for name, value in state.items() if not name.startswith("conv_semantic.")}
    load_weights(model, {**heads, **state}, path)
    if hasattr(model, "conv_semantic_k"):
        model.conv_semantic_k.load_state_dict(model.conv_semantic.state_dict())


def set_training_mode(model: nn.Module, *, freeze_bn: bool) -> None:
    """Training mode; frozen BatchNorm uses and keeps its running statistics, its weight and bias still train.

    Reference: `--freeze_bn` freezes nothing.
    """
    model.train()
    if freeze_bn:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def shuffle_patches(embedding: Tensor, random: torch.Generator) -> Tensor:
    """A position embedding [1, C, 128, 128] whose patches have changed places at random."""
    count = POSITION_GRID // SHUFFLED_PATCH
    patches = embedding.unflatten(3, (count, -1)).unflatten(2, (count, -1))  # [1, C, n, p, n, p]
    patches = patches.permute(0, 1, 2, 4, 3, 5).flatten(2, 3)
    order = torch.randperm(count * count, generator=random).to(embedding.device)
    shuffled = patches[:, :, order].unflatten(2, (count, count)).permute(0, 1, 2, 4, 3, 5)
    return shuffled.flatten(4, 5).flatten(2, 3)
