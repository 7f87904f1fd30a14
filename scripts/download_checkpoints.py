"""Download the released checkpoints, and on request the masks they predict, into checkpoints/.

An interrupted download is kept as NAME.part and continued by the same command; a complete file gets its final name.
"""

import shutil
import sys
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.request import Request, urlopen

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from tqdm import tqdm

from utils.checkpoint import sha256
from utils.errors import UserError, run_main
from utils.options import ArgumentParser

RELEASE = "https://github.com/shasha521/LIIR_pytorch/releases/download/1.0/"
CHECKPOINTS = ("APE_669.pt", "APE_compact_690.pt", "APE_intervideo_699.pt", "APE_compact_intervideo_722.pt")
FOLDER = Path(__file__).resolve().parents[1] / "checkpoints"
USER_AGENT = "LIIR-download-checkpoints/1.0"
TIMEOUT = 30.0  # seconds without a byte before the connection counts as lost


def main() -> None:
    """Download the named files and print the SHA-256 of each."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", default=list(CHECKPOINTS), help="checkpoints to download")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder to download into")
    parser.add_argument("--masks", action="store_true", help="also download each checkpoint's predicted masks (.zip)")
    parser.add_argument("--url", default=RELEASE, help="address of the folder that holds the files")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in CHECKPOINTS]:
        raise UserError(f"unknown checkpoint {', '.join(unknown)}; valid names are {', '.join(CHECKPOINTS)}")
    endings = (".pt", ".zip") if arguments.masks else (".pt",)
    for name in [Path(name).stem + ending for name in dict.fromkeys(arguments.names) for ending in endings]:
        target = arguments.output / name
        if target.is_file():
            print(f"{name}: already there, kept")
        else:
            download(arguments.url.rstrip("/") + "/" + name, target)
        print(f"{name}: SHA-256 {sha256(target)} (compared with nothing: compare or record it yourself)", flush=True)


def download(url: str, target: Path) -> None:
    """Download one file, continuing its part if there is one; UserError if it does not arrive whole."""
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        receive(url, part)
        part.replace(target)
    except (OSError, HTTPException, ValueError) as error:  # urllib raises ValueError for a malformed address
        advice = f"run the same command again to continue, or delete {part.name} to start anew"
        raise UserError(
            f"cannot download {url} to {target}: {error}; check --url, --output and the connection; {advice}"
        ) from error


def receive(url: str, part: Path) -> None:
    """Append to a part what it lacks, or write all of it if the server sends no ranges."""
    size = part.stat().st_size if part.exists() else 0
    with request(url, size) as response:
        start = size if response.status == 206 else 0
        total = start + int(response.headers["Content-Length"])
        progress = {"total": total, "initial": start, "desc": part.stem, "disable": None}
        with part.open("ab" if start else "wb") as file, tqdm.wrapattr(file, "write", **progress) as writer:
            shutil.copyfileobj(response, writer)
    if (size := part.stat().st_size) != total:
        raise HTTPException(f"only {size} of {total} bytes arrived")


def request(url: str, start: int) -> HTTPResponse:
    """The server's answer with the bytes of a file from `start` on; HTTPException if it is no file of stated length."""
    headers = {"User-Agent": USER_AGENT} | ({"Range": f"bytes={start}-"} if start else {})
    response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    kind = response.headers.get_content_type()
    if kind == "text/html" or "Content-Length" not in response.headers:
        response.close()
        raise HTTPException(f"the server answered with {kind}, not with a file of stated length")
    return response


if __name__ == "__main__":
    run_main(main)
