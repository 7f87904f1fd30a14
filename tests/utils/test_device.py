"""The device of each process, and peak memory."""

from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from utils.device import peak_memory, select_device
from utils.errors import UserError


@pytest.fixture
def two_gpus():
    """Only the devices' names matter: nothing is computed there."""
    with (
        patch("torch.cuda.is_available", return_value=True),
        patch("torch.cuda.device_count", return_value=2),
        patch("torch.zeros", return_value=torch.zeros(1)) as zeros,
    ):
        yield zeros


@pytest.mark.parametrize("name", [None, "cuda"])
def test_each_process_touches_its_own_gpu_only(name, two_gpus):
    assert select_device(name, local_rank=1) == torch.device("cuda", 1)
    assert [call.kwargs["device"] for call in two_gpus.call_args_list] == [torch.device("cuda", 1)]


@pytest.mark.usefixtures("two_gpus")
def test_a_single_process_may_choose():
    assert select_device("cuda:1") == torch.device("cuda", 1)
    assert select_device(None) == torch.device("cuda")


def test_processes_on_the_cpu_share_it():
    assert select_device("cpu", local_rank=1) == torch.device("cpu")


@pytest.mark.parametrize(("name", "rank", "told"), [("cuda:1", 1, "--device cuda:1"), ("cuda", 2, "LOCAL_RANK 2")])
def test_gpus_that_processes_cannot_have(name, rank, told, two_gpus):
    with pytest.raises(UserError, match=told):
        select_device(name, local_rank=rank)
    assert not two_gpus.called


def test_peak_memory_where_the_kernel_does_not_tell_it():
    with patch.object(Path, "read_text", return_value="Name:\tpython\nVmSize:\t1 kB\n"):
        assert peak_memory(torch.device("cpu")) > 2**20
