"""The folder layout of each benchmark, and advice if it is incomplete or misplaced."""

import os
from dataclasses import dataclass
from pathlib import Path

from dataloaders.names import visible
from utils.errors import UserError

NEARBY = 2  # levels above and below a folder in which to look for misplaced data
ARCHIVES = (".zip", ".tar", ".gz", ".rar")


@dataclass(frozen=True)
class Layout:
    """The layout of a benchmark's folder; {name} in a path is replaced by an option of the evaluation."""

    source: str  # download page
    needed: tuple[str, ...]  # paths below the folder


LAYOUTS = {
    "davis": Layout(
        "https://davischallenge.org (TrainVal, images and annotations, 480p)",
        ("JPEGImages/480p", "Annotations/480p", "ImageSets/{year}"),
    ),
    "youtube-vos": Layout(
        "https://youtube-vos.org (valid.zip; valid_all_frames.zip for --all_frames)",
        ("{subset}/meta.json", "{subset}/JPEGImages", "{subset}/Annotations"),
    ),
    "vip": Layout(
        "https://sysu-hcp.net/lip (VIP: Images, Annotations, lists)",
        ("lists/val_videos.txt", "Images", "Annotations/Category_ids"),
    ),
    "jhmdb": Layout(
        "http://jhmdb.is.tue.mpg.de (joint_positions, Rename_Images, splits)",
        ("splits", "joint_positions", "Rename_Images"),
    ),
    "badja": Layout(
        "https://github.com/benjiebob/BADJA, its joints scaled to DAVIS's 480p frames", ("joints_480p.json",)
    ),
}


def require_layout(name: str, root: Path, **parts: object) -> None:
    """Raise UserError, with advice, unless the folder contains the files that the benchmark needs."""
    layout = LAYOUTS[name]
    needed = [path.format(**parts) for path in layout.needed]
    if not os.path.isdir(root):
        raise UserError(
            f"--datapath {root}: no such folder; {name} needs {', '.join(needed)} there, from {layout.source}"
        )
    missing = [path for path in needed if not (root / path).exists()]
    if missing:
        other = _other_option(root, layout, parts)
        raise UserError(f"{root / missing[0]}: is missing; {other or _advice(root, needed, missing, layout)}")


def _other_option(root: Path, layout: Layout, parts: dict[str, object]) -> str:
    """Name the option with which the folder is complete; empty if there is none."""
    for option, value in parts.items():
        (template, *_) = (path for path in layout.needed if f"{{{option}}}" in path)
        parent = root / template.partition("{")[0]
        for entry in sorted(visible(parent)) if parent.is_dir() else []:
            fits = entry.name.isdecimal() or not isinstance(value, int)
            if fits and all((root / path.format(**{**parts, option: entry.name})).exists() for path in layout.needed):
                return f"{parent} contains {entry.name}: pass --{option} {entry.name}"
    return ""


def _advice(root: Path, needed: list[str], missing: list[str], layout: Layout) -> str:
    for folder in (*root.resolve().parents[:NEARBY], *_folders_below(root, NEARBY)):
        if all((folder / path).exists() for path in needed):
            return f"{folder} has it: pass --datapath {folder}"
    top = missing[0].partition("/")[0]
    if len(missing) == len(needed) and root.name == top:
        return f"pass the folder above, --datapath {root.parent}"
    packed = [entry.name for entry in sorted(visible(root)) if entry.suffix in ARCHIVES]
    if packed:
        return f"unpack {packed[0]} there"
    parent = Path(missing[0]).parent
    if (root / parent).is_dir() and parent != Path():
        entries = ", ".join(sorted(entry.name for entry in visible(root / parent))[:4]) or "nothing"
        return f"{root / parent} contains {entries}; download the right part from {layout.source}"
    return f"download it from {layout.source}"


def _folders_below(root: Path, levels: int) -> list[Path]:
    try:
        folders = [entry for entry in sorted(visible(root)) if entry.is_dir()] if levels else []
    except (OSError, UserError):  # no permission
        return []
    return folders + [deeper for folder in folders for deeper in _folders_below(folder, levels - 1)]
