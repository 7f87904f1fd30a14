"""A stand-in for a GPU: tensors that report another device and are computed on the CPU.

    with StandIn() as device:
        step(frame.to(DEVICE))
    print(device.launches.total())

It counts what a GPU would be asked to do, and refuses what a GPU would refuse: an operation on tensors of two devices.
"""

import weakref
from collections import Counter
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("meta")  # PyTorch accepts it everywhere and would compute nothing on it
MOVES = {"aten::_to_copy", "aten::to", "aten::copy_"}  # may have tensors of two devices
ALLOCATIONS = {"aten::empty", "aten::new_empty", "aten::empty_strided", "aten::new_empty_strided", "aten::empty_like"}
WAITS = {  # for the size of their result, or for a value
    "aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal", "aten::nonzero", "aten::nonzero_numpy",
    "aten::masked_select", "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive", "aten::bincount",
}  # fmt: skip


class Away(Tensor):
    """A tensor on the stand-in; `here`: its values on the CPU."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> "Away":
        layout = here.size(), here.stride(), here.storage_offset()
        with torch.inference_mode(False):  # so that it may be a view of a tensor made before
            away = Tensor._make_wrapper_subclass(cls, *layout, dtype=here.dtype, device=DEVICE)
        away.here = here
        return away

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, arguments: tuple = (), settings: dict | None = None
    ) -> Any:
        raise RuntimeError(f"{function} is called outside of the stand-in's context")


class StandIn(TorchDispatchMode):
    """Computes every operation of its context, and counts those of the stand-in."""

    def __init__(self) -> None:
        super().__init__()
        self.launches: Counter[str] = Counter()  # operations that compute or copy, not views and allocations
        self.waits: Counter[str] = Counter()  # operations for which the host waits
        self.allocated = self.peak = 0  # bytes now, and at most; without the temporary ones inside of an operation
        self._tensors: Counter[int] = Counter()  # that share an address in memory

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def reset(self) -> None:
        """Start to count anew; the tensors that exist still take memory."""
        self.launches.clear()
        self.waits.clear()
        self.peak = self.allocated

    def __torch_dispatch__(self, function: Any, types: Any, arguments: tuple = (), settings: dict | None = None) -> Any:
        settings, name = settings or {}, function._schema.name
        leaves = tree_leaves((arguments, settings))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        from_away = any(isinstance(tensor, Away) for tensor in tensors)
        if from_away and name not in MOVES and any(tensor.ndim for tensor in tensors if not isinstance(tensor, Away)):
            raise RuntimeError(f"{name}: tensors of the device and of the CPU")
        target = next((leaf for leaf in leaves if isinstance(leaf, torch.device)), None)
        if name == "aten::copy_":
            target = arguments[0].device
        to_away = from_away if target is None else target == DEVICE
        self._count(function, from_away, to_away, arguments)
        here = tree_map_only(Away, lambda away: away.here, (arguments, settings))
        here_arguments, here_settings = tree_map_only(torch.device, lambda _: torch.device("cpu"), here)
        result = function(*here_arguments, **here_settings)
        if not to_away:
            return result
        written = _written(function, arguments, settings)
        return written if written is not None else tree_map_only(Tensor, self._away, result)

    def _count(self, function: Any, from_away: bool, to_away: bool, arguments: tuple) -> None:
        name = function._schema.name
        if not (from_away or to_away):
            return
        by_mask = name == "aten::index" and any(
            index is not None and index.dtype == torch.bool for index in arguments[1]
        )
        if name in WAITS or by_mask or not to_away:
            self.waits[name] += 1
        if not _is_view(function) and name not in ALLOCATIONS:
            self.launches[name] += 1

    def _away(self, here: Tensor) -> Away:
        """Wrap a result, and count its memory while a tensor uses it."""
        away, storage = Away(here), here.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        if not self._tensors[address]:
            self.allocated += size
            self.peak = max(self.peak, self.allocated)
        self._tensors[address] += 1
        weakref.finalize(away, self._release, address, size)
        return away

    def _release(self, address: int, size: int) -> None:
        self._tensors[address] -= 1
        if not self._tensors[address]:
            self.allocated -= size


def _is_view(function: Any) -> bool:
    return any(part.alias_info is not None and not part.alias_info.is_write for part in function._schema.returns)


def _written(function: Any, arguments: tuple, settings: dict) -> Any:
    """Return the argument that an operation writes to and returns; None if there is none."""
    returns = function._schema.returns
    if not returns or returns[0].alias_info is None or not returns[0].alias_info.is_write:
        return None
    written = []
    for i, argument in enumerate(function._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            written.append(settings[argument.name] if argument.name in settings else arguments[i])
    return written[0] if len(returns) == 1 else tuple(written)
