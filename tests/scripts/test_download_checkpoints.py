"""scripts/download_checkpoints.py against a local server that can misbehave."""

import hashlib
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

from scripts import download_checkpoints
from tests.support.commands import Outcome, require_refusal, require_success, run_here

SCRIPT = Path(download_checkpoints.__file__)
NAME = "APE_669.pt"
BODY = random.Random(0).randbytes(300_000)
HALF = len(BODY) // 2


class Server(ThreadingHTTPServer):
    """Holds the files, the way to misbehave and a log of (Range, status)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.mode, self.log, self.go_on = {NAME: BODY}, "", [], Event()
        self.url = f"http://127.0.0.1:{self.server_port}/1.0/"


class Handler(BaseHTTPRequestHandler):
    """Answers GET with Range, unless the server's mode forbids."""

    def do_GET(self) -> None:
        body, mode = self.server.files.get(self.path.removeprefix("/1.0/")), self.server.mode
        span = self.headers.get("Range", "")
        start = int(span[len("bytes=") : -1]) if span and mode != "no range" else 0
        status = 404 if body is None else 416 if start >= len(body) else 206 if start else 200
        rest = body[start:] if status < 400 else b""
        self.server.log.append((span, status))
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if mode == "login page" else "application/octet-stream")
        if mode != "no length":
            self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[:HALF] if mode in ("short", "stall") else rest)
        if mode == "stall":
            self.server.go_on.wait(10)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.go_on.set()
        server.shutdown()


def download(server: Server, folder: Path, *arguments: str) -> Outcome:
    return run_here(download_checkpoints.main, SCRIPT, "--output", folder, "--url", server.url, *arguments)


def start_process(server: Server, folder: Path) -> subprocess.Popen:
    """The script as the user runs it, from a folder that is not the repository's."""
    command = [sys.executable, SCRIPT, NAME, "--output", folder, "--url", server.url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=SCRIPT.anchor)


def interrupt(server: Server, folder: Path) -> Path:
    """Download half of the file; its part."""
    server.mode = "short"
    part = folder / f"{NAME}.part"
    require_refusal(
        download(server, folder, NAME), f"only {HALF} of {len(BODY)} bytes arrived", "run the same command again"
    )
    assert part.read_bytes() == BODY[:HALF]
    assert [path.name for path in folder.iterdir()] == [part.name]
    server.mode, server.log = "", []
    return part


def assert_complete(folder: Path, body: bytes = BODY) -> None:
    assert (folder / NAME).read_bytes() == body
    assert [path.name for path in folder.iterdir()] == [NAME]


def test_download(server, tmp_path):
    process = start_process(server, tmp_path / "new" / "folder")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert f"{NAME}: SHA-256 {hashlib.sha256(BODY).hexdigest()} (compared with nothing" in out
    assert_complete(tmp_path / "new" / "folder")


@pytest.mark.parametrize("masks", [False, True])
def test_all_by_default_each_named_once(server, tmp_path, masks):
    endings = (".pt", ".zip") if masks else (".pt",)
    names = [Path(name).stem + ending for name in download_checkpoints.CHECKPOINTS for ending in endings]
    server.files = {name: name.encode() for name in names}
    out = require_success(download(server, tmp_path, *(["--masks"] if masks else []), "--url", server.url[:-1]))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == server.files
    assert len(server.log) == out.count("SHA-256") == len(names)


def test_interrupted_download_continues(server, tmp_path):
    interrupt(server, tmp_path)
    require_success(download(server, tmp_path, NAME))
    assert server.log == [(f"bytes={HALF}-", 206)]
    assert_complete(tmp_path)


def test_server_without_ranges_starts_again(server, tmp_path):
    interrupt(server, tmp_path)
    server.mode = "no range"
    require_success(download(server, tmp_path, NAME))
    assert server.log == [(f"bytes={HALF}-", 200)]
    assert_complete(tmp_path)


def test_part_longer_than_the_file_is_not_used(server, tmp_path):
    part = tmp_path / f"{NAME}.part"
    part.write_bytes(bytes(len(BODY) + 1))
    require_refusal(download(server, tmp_path, NAME), "416", f"delete {part.name}")
    part.unlink()
    require_success(download(server, tmp_path, NAME))
    assert_complete(tmp_path)


@pytest.mark.parametrize("mode", ["login page", "no length"])
def test_what_is_no_file_of_stated_length_is_refused(server, tmp_path, mode):
    part = interrupt(server, tmp_path)
    server.mode = mode
    require_refusal(download(server, tmp_path, NAME), "text/html" if mode == "login page" else "length")
    assert part.read_bytes() == BODY[:HALF]
    assert not (tmp_path / NAME).exists()


def test_stalled_download_times_out(server, tmp_path, monkeypatch):
    server.mode = "stall"
    monkeypatch.setattr(download_checkpoints, "TIMEOUT", 1.0)
    require_refusal(download(server, tmp_path, NAME), "timed out")
    assert BODY.startswith((tmp_path / f"{NAME}.part").read_bytes())
    assert not (tmp_path / NAME).exists()


def test_ctrl_c_keeps_the_part(server, tmp_path):
    server.mode, part = "stall", tmp_path / f"{NAME}.part"
    process = start_process(server, tmp_path)
    while process.poll() is None and not (part.exists() and part.stat().st_size):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert (process.communicate(timeout=120)[1], process.returncode) == ("interrupted\n", 130)
    assert part.stat().st_size and BODY.startswith(part.read_bytes())
    assert not (tmp_path / NAME).exists()


def test_missing_file_keeps_the_one_before(server, tmp_path):
    outcome = download(server, tmp_path, NAME, "APE_compact_690.pt")
    require_refusal(outcome, f"{server.url}APE_compact_690.pt", "HTTP Error 404")
    assert_complete(tmp_path)


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/", "http://127.0.0.1:port/", "nowhere", "http://[/"])
def test_unreachable_address(server, tmp_path, url):
    with socket.socket() as unheard:  # bound but not listening: connections are refused
        unheard.bind(("127.0.0.1", 0))
        url = url.format(port=unheard.getsockname()[1])
        require_refusal(download(server, tmp_path, NAME, "--url", url), f"{url.rstrip('/')}/{NAME}", "check --url")


def test_unknown_name(server, tmp_path):
    require_refusal(download(server, tmp_path, "APE_1.pt"), "APE_1.pt", *download_checkpoints.CHECKPOINTS)
    assert not server.log


def test_existing_file_is_kept(server, tmp_path):
    (tmp_path / NAME).write_bytes(b"mine")
    out = require_success(download(server, tmp_path, NAME))
    assert "kept" in out and hashlib.sha256(b"mine").hexdigest() in out
    assert not server.log
    assert_complete(tmp_path, b"mine")


@pytest.mark.parametrize("below", ["", "folder"])
def test_output_that_is_a_file(server, tmp_path, below):
    (tmp_path / "file").write_bytes(b"mine")
    require_refusal(download(server, tmp_path / "file" / below, NAME), tmp_path / "file", "--output")
    assert (tmp_path / "file").read_bytes() == b"mine"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_disk(server, tmp_path):
    (tmp_path / f"{NAME}.part").symlink_to("/dev/full")
    require_refusal(download(server, tmp_path, NAME), NAME, "No space left on device")
    assert not (tmp_path / NAME).exists()
