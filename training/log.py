"""The training log: a progress bar, printed lines, log.jsonl and TensorBoard."""

import json
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from utils.errors import warn
from utils.savepath import write_text, writing

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FILE = "log.jsonl"


class TrainingLog:
    """A progress bar, and values as printed lines, in SAVEPATH/log.jsonl (JSON lines) and in TensorBoard.

    On resume, entries that the interrupted run logged after its last checkpoint are dropped.
    """

    def __init__(self, savepath: Path, steps: int) -> None:
        """steps: number of steps taken so far."""
        self.path = savepath / FILE
        lines = self.path.read_text(errors="replace").splitlines() if self.path.exists() else []
        write_text(self.path, "".join(line + "\n" for line in lines if _step_of(line) in range(steps + 1)))
        self.tensorboard = _summary_writer(savepath / "tensorboard", steps)
        self.bar: tqdm | None = None  # created at the first step
        self.started, self.steps_before = time.perf_counter(), steps

    def advance(self, steps_left: int) -> None:
        """Advance the progress bar by one step."""
        if self.bar is None:
            self.bar = tqdm(initial=self.steps_before, unit="step")
        self.bar.total = self.bar.n + 1 + steps_left
        self.bar.update()

    def write(self, step: int, values: dict[str, float], *, batch: int, steps_left: int) -> None:
        """Log values after `step` steps of `batch` pairs each."""
        speed = (step - self.steps_before) / (time.perf_counter() - self.started)
        values = {**values, "pairs_per_second": speed * batch}
        with writing(self.path), self.path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if self.tensorboard is not None:
            for name, value in values.items():
                self.tensorboard.add_scalar(name, value, step)
        line = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        tqdm.write(f"step {step}  {line}  {timedelta(seconds=round(steps_left / speed))} left")

    def show(self, step: int, picture: np.ndarray) -> None:
        """Log the picture of a reconstruction, RGB uint8 [H, W, 3], in TensorBoard."""
        if self.tensorboard is not None:
            self.tensorboard.add_image("reconstruction", picture, step, dataformats="HWC")

    def close(self) -> None:
        """Close the progress bar and TensorBoard."""
        if self.bar is not None:
            self.bar.close()
        if self.tensorboard is not None:
            self.tensorboard.close()


def _step_of(line: str) -> object:
    """Return the step of a log line; None if the line is damaged."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return None


def _summary_writer(folder: Path, steps: int) -> "SummaryWriter | None":
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        warn(f"tensorboard is not installed: values are written to {FILE} only")
        return None
    return SummaryWriter(folder, purge_step=steps + 1)
