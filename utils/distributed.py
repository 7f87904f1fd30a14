"""Communication of several processes, or one; the only file that imports torch.distributed."""

import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.distributed.nn  # imported later it keeps the process group, whose threads abort the exit
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from utils.errors import UserError, warn

# PyTorch 2.15 splits the argument in two; the new ones do not exist in the oldest supported version.
warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)

COLLECTIVE_TIMEOUT = timedelta(days=1)  # an evaluation's processes wait for the slowest
LAUNCHER_ANSWERS = timedelta(minutes=1)  # timeout of torchrun's store, which exists before its processes start
FIRST_PROCESS_ANSWERS = timedelta(minutes=30)  # timeout without torchrun: processes may start late


@dataclass(frozen=True)
class World:
    """This process and the others that run the script together."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this is the main process, rank 0, which writes files and messages."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """Wrap a model to average gradients over the processes and, on CUDA, to synchronise BatchNorm."""
        if self.size == 1:
            return model
        if self.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
            return DistributedDataParallel(model, device_ids=[self.device.index], broadcast_buffers=False)
        return DistributedDataParallel(model, broadcast_buffers=False)

    def gather(self, part: Tensor) -> Tensor:
        """Concatenate the parts of all processes in rank order, [B, …] -> [size * B, …]; no gradient."""
        if self.size == 1:
            return part
        parts = [torch.empty_like(part) for _ in range(self.size)]
        dist.all_gather(parts, part.detach().contiguous())
        return torch.cat(parts)

    def share(self, costs: list[int]) -> list[int]:
        """Return this process's tasks, ascending; by decreasing cost, each goes to the least loaded process."""
        assigned: list[list[int]] = [[] for _ in range(self.size)]
        for task in sorted(range(len(costs)), key=lambda task: -costs[task]):
            min(assigned, key=lambda tasks: sum(costs[i] for i in tasks)).append(task)
        return sorted(assigned[self.rank])

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over all processes."""
        if self.size == 1:
            return values
        values = values.detach().clone()
        dist.all_reduce(values)
        return values / self.size

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """Make a UserError in any process end all processes; only the lowest rank with an error reports it."""
        user_error = None
        try:
            yield
        except UserError as error:
            user_error = error
        first = self._first(user_error is not None)
        if first is not None:
            raise SystemExit(2) if user_error is None or first != self.rank else user_error

    @contextmanager
    def led(self, context: AbstractContextManager) -> Iterator[None]:
        """Enter a context in the main process only; a UserError on entering it ends all processes."""
        with ExitStack() as stack:
            with self.agreed():
                if self.leads:
                    stack.enter_context(context)
            yield

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        return self._first(flag) is not None

    def _first(self, flag: bool) -> int | None:
        """Return the lowest rank whose flag is set; None if none is."""
        if self.size == 1:
            return 0 if flag else None
        rank = torch.tensor(self.rank if flag else self.size, device=self.device)
        dist.all_reduce(rank, op=dist.ReduceOp.MIN)
        return None if rank == self.size else int(rank)


@contextmanager
def join_world(device: torch.device) -> Iterator[World]:
    """Join the processes that torchrun or torch.distributed.launch started, or run as a single process.

    device: that of this process, see `local_rank`.
    """
    size = _world_size()
    if size == 1:
        yield World(0, 1, device)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    _init_process_group("nccl" if device.type == "cuda" else "gloo")
    together = False
    try:
        yield World(dist.get_rank(), size, device)
        together = True
    except (UserError, SystemExit):
        together = True
        raise
    finally:
        if together or device.type != "cuda":  # after a bug in one process, NCCL would wait for the others
            dist.destroy_process_group()


def local_rank() -> int | None:
    """Return the number of this process among several on this machine; None if it is the only process of the run."""
    return None if _world_size() == 1 else _number_in("LOCAL_RANK", default=0)


def works_alone(task: str) -> bool:
    """Return whether this process is to do a task for one process: of several, the first one, with a warning."""
    size, rank = _world_size(), _number_in("RANK", default=0)
    if size > 1 and rank == 0:
        warn(f"{task}: runs in one process, the others have nothing to do; start it without torchrun")
    return size == 1 or rank == 0


def _world_size() -> int:
    return _number_in("WORLD_SIZE", default=1, lowest=1)


def _number_in(variable: str, *, default: int, lowest: int = 0, highest: int = 2**31 - 1) -> int:
    """Return the number in an environment variable that a launcher sets; UserError if it is none."""
    text = os.environ.get(variable, str(default))
    if not (text.isascii() and text.isdecimal() and lowest <= int(text) <= highest):
        rule = f"must be a number from {lowest} to {highest}"
        raise UserError(f"{variable}: is {text!r}, but {rule}; unset it, or start with torchrun")
    return int(text)


def _init_process_group(backend: str) -> None:
    """Initialise the process group; UserError if the processes cannot connect.

    After a restart by torchrun (--max_restarts), a new prefix of the store is used: PyTorch keeps the store
    (pytorch/pytorch#135712), and the processes would wait for dead ones. On several nodes the restart counts may
    differ; there, set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1.
    """
    limit = LAUNCHER_ANSWERS if dist.is_torchelastic_launched() else FIRST_PROCESS_ANSWERS
    _number_in("RANK", default=0, highest=_world_size() - 1)
    _number_in("MASTER_PORT", default=0, highest=65535)
    try:
        store, rank, size = next(iter(rendezvous("env://", timeout=limit)))
    except dist.DistError as error:
        where = f"MASTER_ADDR {os.environ['MASTER_ADDR']}, MASTER_PORT {os.environ['MASTER_PORT']}"
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"{where}: {reason}; start all processes again, or choose another port") from error
    except ValueError as error:  # an environment variable is missing
        raise UserError(f"WORLD_SIZE: is {os.environ['WORLD_SIZE']}, but {error}; start with torchrun") from error
    store.set_timeout(COLLECTIVE_TIMEOUT)
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if os.environ.get("GROUP_WORLD_SIZE") == "1" else "0"
    store = dist.PrefixStore(f"restart {restarts}", store)  # type: ignore[attr-defined]  # a documented class
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=COLLECTIVE_TIMEOUT)
