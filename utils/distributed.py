"""Several processes, or one: the only file that touches torch.distributed."""

import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.distributed.nn  # at import it keeps the process group there is, whose threads would abort the exit
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from utils.errors import UserError

# PyTorch 2.15 splits the argument in two; its successors are unknown to the oldest PyTorch that is allowed.
warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)

PATIENCE = timedelta(days=1)  # with one another: an evaluation's processes meet again when the slowest is done
LAUNCHER_ANSWERS = timedelta(minutes=1)  # torchrun's store is there before its processes are, unless it has died
FIRST_PROCESS_ANSWERS = timedelta(minutes=30)  # where processes were started by hand or by the cluster


@dataclass(frozen=True)
class World:
    """This process among all that run the script together."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with gradients averaged over processes, and on several CUDA ones BatchNorm synchronised."""
        if self.size == 1:
            return model
        if self.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
            return DistributedDataParallel(model, device_ids=[self.device.index], broadcast_buffers=False)
        return DistributedDataParallel(model, broadcast_buffers=False)

    def gather(self, part: Tensor) -> Tensor:
        """The parts of all processes in order, [B, …] -> [size * B, …]; no gradient."""
        if self.size == 1:
            return part
        parts = [torch.empty_like(part) for _ in range(self.size)]
        dist.all_gather(parts, part.detach().contiguous())
        return torch.cat(parts)

    def share(self, costs: list[int]) -> list[int]:
        """This process's share of so many tasks, ascending: the dearest is dealt first, to who has least so far."""
        dealt: list[list[int]] = [[] for _ in range(self.size)]
        for task in sorted(range(len(costs)), key=lambda task: -costs[task]):
            min(dealt, key=lambda tasks: sum(costs[one] for one in tasks)).append(task)
        return sorted(dealt[self.rank])

    def mean(self, values: Tensor) -> Tensor:
        """The mean over processes."""
        if self.size == 1:
            return values
        values = values.detach().clone()
        dist.all_reduce(values)
        return values / self.size

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """A user's error in some process, or in all, ends them all, and one of them tells it."""
        refusal = None
        try:
            yield
        except UserError as error:
            refusal = error
        first = self._first(refusal is not None)
        if first is not None:
            raise SystemExit(2) if refusal is None or first != self.rank else refusal

    @contextmanager
    def led(self, context: AbstractContextManager) -> Iterator[None]:
        """A context that the leading process alone enters; a user's error in entering it ends all processes."""
        with ExitStack() as stack:
            with self.agreed():
                if self.leads:
                    stack.enter_context(context)
            yield

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        return self._first(flag) is not None

    def _first(self, flag: bool) -> int | None:
        """The lowest rank that says so; None if none does."""
        if self.size == 1:
            return 0 if flag else None
        rank = torch.tensor(self.rank if flag else self.size, device=self.device)
        dist.all_reduce(rank, op=dist.ReduceOp.MIN)
        return None if rank == self.size else int(rank)


@contextmanager
def join_world(device: torch.device, local_rank: int | None = None) -> Iterator[World]:
    """Join the processes that torchrun or torch.distributed.launch started; alone if there are none.

    local_rank: as old launchers pass it; today's set it in the environment.
    """
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        yield World(0, 1, device)
        return
    if device.type == "cuda":
        index = int(os.environ.get("LOCAL_RANK", local_rank or 0))
        if index >= torch.cuda.device_count():
            raise UserError(f"{size} processes need a GPU each; there are {torch.cuda.device_count()}: start as many")
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
    _meet("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), size, device)
    finally:
        dist.destroy_process_group()


def _meet(backend: str) -> None:
    """The process group of all; UserError if they do not meet.

    Those that torchrun has restarted (--max_restarts) meet in a place of their own: PyTorch keeps its store over
    restarts (pytorch/pytorch#135712), and they would wait for others that have died. On several nodes the counts may
    differ; there, TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 helps.
    """
    limit = LAUNCHER_ANSWERS if dist.is_torchelastic_launched() else FIRST_PROCESS_ANSWERS
    try:
        store, rank, size = next(iter(rendezvous("env://", timeout=limit)))
    except dist.DistError as error:
        where = f"MASTER_ADDR {os.environ['MASTER_ADDR']}, MASTER_PORT {os.environ['MASTER_PORT']}"
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"{where}: {reason}; start all processes again, or choose another port") from error
    except ValueError as error:  # a variable is missing, or is no number
        raise UserError(f"WORLD_SIZE: is {os.environ['WORLD_SIZE']}, but {error}; start by torchrun") from error
    store.set_timeout(PATIENCE)
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if os.environ.get("GROUP_WORLD_SIZE") == "1" else "0"
    store = dist.PrefixStore(f"restart {restarts}", store)  # type: ignore[attr-defined]  # it is documented
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
