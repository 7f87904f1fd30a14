"""Short videos to train on, as folders of frames."""

from pathlib import Path

import cv2
import numpy as np


def write_videos(root: Path) -> Path:
    """Five videos of a bright square that moves over noise, and their index."""
    random = np.random.default_rng(0)
    rows = []
    for v in range(5):
        (root / f"v{v}").mkdir(parents=True)
        background = cv2.resize(random.integers(0, 255, (8, 10, 3), np.uint8), (100, 80))
        for i in range(12):
            frame = background.copy()
            frame[20:40, 5 * i : 5 * i + 20] = random.integers(0, 255, 3)
            cv2.imwrite(str(root / f"v{v}" / f"{i:05d}.jpg"), frame)
        rows.append(f"v{v},0,12\n")
    (root / "videos.csv").write_text("".join(rows))
    return root


def write_odd_videos(root: Path) -> Path:
    """Two videos of random frames of odd size, one of which lacks some numbers."""
    random = np.random.default_rng(0)
    for name, numbers in (("a", range(8)), ("b", [0, 1, 3, 4, 5, 6, 9])):
        (root / name).mkdir(parents=True)
        for i in numbers:
            cv2.imwrite(str(root / name / f"{i:05d}.jpg"), random.integers(0, 255, (30, 50, 3), np.uint8))
    return root
