"""Download the released checkpoints, and on request the masks they predict, into checkpoints/.

An interrupted download waits in NAME.part and continues when the same command is run again; only a complete
file gets its final name. NAME.part.source remembers which version of which file the part belongs to.
"""

import hashlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the script is run as a file, from any folder

from tqdm import tqdm

from utils.errors import UserError, run
from utils.options import ArgumentParser

RELEASE = "https://github.com/shasha521/LIIR_pytorch/releases/download/1.0/"
CHECKPOINTS = ("APE_669.pt", "APE_compact_690.pt", "APE_intervideo_699.pt", "APE_compact_intervideo_722.pt")
FOLDER = Path(__file__).resolve().parents[1] / "checkpoints"
USER_AGENT = "LIIR-download-checkpoints/1.0"
TIMEOUT = 30.0  # seconds without a byte before the connection counts as lost
CHUNK = 1 << 20  # bytes
CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
NETWORK_FAILURES = (OSError, HTTPException, ValueError)  # urllib raises ValueError on a malformed address
CHECK_DISK = "check its permissions and the free space, or choose another folder with --output"
CHECK_NETWORK = "check the address and the connection; what has arrived is kept"
RUN_AGAIN = "run the same command again to continue"


def main() -> None:
    """Fetch the named files one after the other and print the SHA-256 of each."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", default=list(CHECKPOINTS), help="checkpoints to fetch")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder to download into")
    parser.add_argument("--masks", action="store_true", help="also fetch each checkpoint's predicted masks (.zip)")
    parser.add_argument("--url", default=RELEASE, help="address of the folder that holds the files")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in CHECKPOINTS]:
        raise UserError(f"unknown checkpoint {', '.join(unknown)}; valid names are {', '.join(CHECKPOINTS)}")
    endings = (".pt", ".zip") if options.masks else (".pt",)
    for name in [Path(name).stem + ending for name in dict.fromkeys(options.names) for ending in endings]:
        url, target = options.url.rstrip("/") + "/" + name, options.output / name
        with explained(f"cannot read or write {target}", CHECK_DISK, OSError):
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_file():
                check_kept(url, target)
            else:
                fetch(url, target)
            with target.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            print(f"{name}: SHA-256 {digest} (compared with nothing: compare or record it yourself)", flush=True)


@contextmanager
def explained(what: str, way_out: str, kinds: type[Exception] | tuple[type[Exception], ...]) -> Iterator[None]:
    """Turn the given kinds of exception into a `UserError` that says what failed, why and the way out."""
    try:
        yield
    except kinds as error:
        raise UserError(f"{what}: {error}; {way_out}") from error


def check_kept(url: str, target: Path) -> None:
    """Compare the length of a file that is already there with the length that the server states."""
    size = target.stat().st_size
    try:
        with ask(url, {}, "HEAD") as response:
            total, why = stated(response)[1], "the server states no length"
    except NETWORK_FAILURES as error:
        total, why = None, f"{url}: {error}"
    if total not in (None, size):
        raise UserError(f"{target} has {size} bytes but {url} states {total}; delete the file to download it anew")
    verdict = f"unverified ({why})" if total is None else f"its {size} bytes are the length that the server states"
    print(f"{target.name}: already there, kept, {verdict}")


def fetch(url: str, target: Path) -> None:
    """Download one file through its part, which only becomes the file when it is complete."""
    part, source = (target.with_name(target.name + ending) for ending in (".part", ".part.source"))
    size = part.stat().st_size if part.is_file() else 0
    known = source.read_text("latin-1") if source.is_file() else ""
    with explained(f"cannot download {url}", f"{CHECK_NETWORK}, {RUN_AGAIN}", NETWORK_FAILURES):
        response, have = ask_for_rest(url, size, known)
    _, total, version = stated(response)
    if size:
        print(f"{target.name}: " + (f"continues at byte {have}" if have else "cannot be continued, starts again"))
    with response, part.open("ab" if have else "wb") as file:
        if not have:  # only now is the part empty: noted earlier, the version would be that of other bytes
            source.write_text(f"{url}\n{version}", "latin-1")
        for chunk in chunks(url, response, have, total):
            file.write(chunk)
    part.replace(target)
    source.unlink(missing_ok=True)
    if total is None:
        print(f"{target.name}: accepted as it arrived, the server states no length to check it against")


def ask_for_rest(url: str, size: int, known: str) -> tuple[HTTPResponse, int]:
    """Ask for what a part of `size` bytes lacks; return the answer and the number of bytes that it continues."""
    validator = known.split("\n")[1] if known.startswith(url + "\n") else ""
    if size and validator:
        try:
            response = ask(url, {"Range": f"bytes={size}-", "If-Range": validator})
            start, _, version = stated(response)
            # From 0: the file has changed, or the server ignores Range. The version: some servers ignore If-Range.
            if start == 0 or (start == size and f"{url}\n{version}" == known):
                return response, start
            response.close()
        except HTTPError as error:
            if error.code != 416:  # 416: the part is as long as the file, or longer
                raise
    return ask(url, {}), 0


def ask(url: str, headers: dict[str, str], method: str = "GET") -> HTTPResponse:
    """Send one request and return the answer, its body unread."""
    response = urlopen(Request(url, headers={"User-Agent": USER_AGENT, **headers}, method=method), timeout=TIMEOUT)
    kind = response.headers.get_content_type()
    if response.status not in (200, 206 if headers else 200) or kind == "text/html":  # a login page is no checkpoint
        response.close()
        raise HTTPException(f"the server answered {response.status} with {kind}")
    return response


def stated(response: HTTPResponse) -> tuple[int, int | None, str]:
    """Return what the server states: where in the file the body begins, the file's length and its version."""
    length, etag = response.headers.get("Content-Length", ""), response.headers.get("ETag", "")
    start, total = 0, int(length) if length.isdecimal() else None
    if response.status == 206:
        span = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        start, total = (int(span[1]), int(span[2])) if span else (-1, None)
    # Only a strong ETag or a date may stand in If-Range.
    validator = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
    return start, total, f"{' '.join(validator.split())}\n{total}"


def chunks(url: str, response: HTTPResponse, have: int, total: int | None) -> Iterator[bytes]:
    """Yield the body as it arrives, under a progress bar, and insist on the stated length."""
    with tqdm(total=total, initial=have, desc=url.rpartition("/")[2], unit="B", unit_scale=True, disable=None) as bar:
        while total is None or have < total:
            with explained(f"{url}: only {have} of {total or '?'} bytes arrived", RUN_AGAIN, NETWORK_FAILURES):
                chunk = response.read1(CHUNK if total is None else min(CHUNK, total - have))
                if not chunk and total is not None:
                    raise HTTPException("the connection was closed early")
            if not chunk:
                break
            yield chunk
            have += len(chunk)
            bar.update(len(chunk))


if __name__ == "__main__":
    run(main)
