"""Fixtures that many tests use, and the option --strict-parity."""

import os
import platform
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from unittest.mock import patch

# The golden tensors were computed on a processor with AVX2. Convolutions that round otherwise move features by 1e-5,
# and the long-range search amplifies that beyond the golden tensors' tolerance. oneDNN reads this when it starts.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):  # share the processor's cores
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

import pytest
import torch

from evaluation import features
from tests.support.checkpoints import write_checkpoint
from tests.support.commands import Outcome
from tests.support.davis import evaluate, write_davis
from tests.support.threads import one_thread
from tests.support.videos import write_videos

# A shell's background jobs, and what they start, ignore Ctrl-C; some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--strict-parity", action="store_true", help="a parity test that is skipped has failed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    if report.skipped and item.get_closest_marker("parity") and item.config.getoption("--strict-parity"):
        report.outcome = "failed"
    return report


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real video, and of the golden tensors computed from it."""
    if "LIIR_SHARED" not in os.environ:
        pytest.skip("LIIR_SHARED does not name the folder of real video")
    return Path(os.environ["LIIR_SHARED"]).resolve(strict=True)


@pytest.fixture(scope="session")
def same_rounding() -> None:
    """For comparisons that amplify the rounding of convolutions."""
    if platform.machine() != "x86_64" or torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        pytest.skip("convolutions round like the golden tensors' on x86-64 with AVX2 only")


@pytest.fixture(params=["native", "sampler"])  # test_triton_kernels.py tests the third
def backend(request) -> str:
    """The implementation of correlation, search and attention."""
    if request.param == "sampler":
        pytest.importorskip("spatial_correlation_sampler", reason="run scripts/install_sampler.sh")
    return request.param


@pytest.fixture
def single_thread() -> Iterator[None]:
    """PyTorch on one thread."""
    with one_thread():
        yield


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A checkpoint for the miniature DAVIS folders of tests/support/davis.py."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "liir.pt")


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Short videos to train on, and their index."""
    return write_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def one_model() -> Iterator[None]:
    """Loads each checkpoint once, for tests that run the evaluation many times in one process."""
    with patch.object(features, "load_encoder", cache(features.load_encoder)):
        yield


@pytest.fixture
def savepath(tmp_path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def data(tmp_path) -> Path:
    """Two sequences of three frames, all with masks."""
    return write_davis(tmp_path / "davis", ("bear", "cow"))


@pytest.fixture
def command(checkpoint, data, savepath) -> Callable[..., Outcome]:
    """The evaluation of `data`, with more arguments."""
    return lambda *more: evaluate("--resume", checkpoint, "--datapath", data, "--savepath", savepath, *more)
