"""scripts/download_checkpoints.py against a local server that misbehaves on request."""

import hashlib
import io
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from unittest.mock import patch

import pytest

from scripts import download_checkpoints
from utils.errors import run

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "download_checkpoints.py"
NAME = "APE_669.pt"
BODY = random.Random(0).randbytes(300_000)
HALF = len(BODY) // 2
DATE = {"Last-Modified": "Wed, 01 Feb 2023 10:00:00 GMT"}
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with no time: closing resets the connection


class Server(ThreadingHTTPServer):
    """Holds the files, the way to misbehave and the log of answers: [method, Range, status, bytes sent]."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.mode, self.log, self.go_on = {NAME: BODY}, "", [], Event()
        self.version = {"ETag": '"one"'}
        self.url = f"http://127.0.0.1:{self.server_port}/1.0/"


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD with Range and If-Range, unless the server's mode forbids."""

    def do_GET(self) -> None:
        body, mode = self.server.files.get(self.path.removeprefix("/1.0/")), self.server.mode
        span = self.headers.get("Range", "")
        start = int(span[len("bytes=") : -1]) if span and mode != "no range" else 0
        if mode != "no if-range" and self.headers.get("If-Range") not in self.server.version.values():
            start = 0
        status = 404 if body is None else 416 if start >= len(body) else 206 if start else 200
        rest = body[start:] if status < 400 else b""
        sent = b"" if self.command == "HEAD" else rest[:HALF] if mode in ("short", "reset", "stall") else rest
        self.server.log.append([self.command, span, status, len(sent)])  # first: the client may be gone before the end
        self.send_response(status)
        for field in self.fields(status, start, rest, body):
            self.send_header(*field)
        self.end_headers()
        self.send_body(sent, mode)

    do_HEAD = do_GET  # noqa: N815

    def fields(self, status: int, start: int, rest: bytes, body: bytes | None) -> Iterator[tuple[str, str]]:
        yield "Content-Type", "text/html" if self.server.mode == "login page" else "application/octet-stream"
        if self.server.mode != "no length":
            yield "Content-Length", str(len(rest))
        if status == 206:
            yield "Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}"
        yield from self.server.version.items()

    def send_body(self, body: bytes, mode: str) -> None:
        self.wfile.write(body)
        if mode == "stall":
            self.server.go_on.wait(10)
        if mode == "reset":
            time.sleep(0.2)  # time for the client to read, which a reset cuts off
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self.connection.close()

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.go_on.set()
        server.shutdown()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def command(server: Server, folder: Path, *arguments: str) -> list[str]:
    return ["--output", str(folder), "--url", server.url, *arguments]


def start(arguments: list[str]) -> subprocess.Popen:
    """Start the real script, from a folder that is not the repository's."""
    line = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=SCRIPT.anchor)


def execute(arguments: list[str], real: bool) -> tuple[int, str, str]:
    """Run the script, for real or in this process, which is faster; return its exit code and what it printed."""
    if real:
        process = start(arguments)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err
    code, out, err = 0, io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), patch.object(sys, "argv", [str(SCRIPT), *arguments]):
        try:
            run(download_checkpoints.main)
        except SystemExit as stop:
            code = stop.code
    return code, out.getvalue(), err.getvalue()


def succeed(arguments: list[str], real: bool = False) -> str:
    code, out, err = execute(arguments, real)
    assert (code, err) == (0, "")
    return out


def fail(arguments: list[str], real: bool = False) -> str:
    code, _, err = execute(arguments, real)
    assert code == 2, err
    assert err.startswith("error: ") and err.count("\n") == 1 and err.endswith("\n")
    return err


def interrupt(server: Server, folder: Path, mode: str = "short", real: bool = False) -> Path:
    server.mode = mode
    error = fail(command(server, folder, NAME), real)
    part = folder / f"{NAME}.part"
    size = part.stat().st_size
    assert f"only {size} of {len(BODY)} bytes arrived" in error and "run the same command again to continue" in error
    assert part.read_bytes() == BODY[:size] and not (folder / NAME).exists()
    assert size == HALF or mode == "reset"  # a reset may discard what the client has not read yet
    server.mode = ""
    server.log.clear()
    return part


def assert_complete(folder: Path, body: bytes = BODY) -> None:
    assert (folder / NAME).read_bytes() == body
    assert [path.name for path in folder.iterdir()] == [NAME]


def test_fresh_download(server, tmp_path):
    out = succeed(command(server, tmp_path / "new" / "folder", NAME), real=True)
    assert_complete(tmp_path / "new" / "folder")
    assert f"{NAME}: SHA-256 {hashlib.sha256(BODY).hexdigest()} (compared with nothing" in out


def test_all_four_by_default_each_named_once(server, tmp_path):
    server.files = {name: name.encode() for name in download_checkpoints.CHECKPOINTS}
    succeed(command(server, tmp_path))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == server.files
    assert len(server.log) == 4


def test_masks(server, tmp_path):
    server.files["APE_669.zip"] = b"masks"
    out = succeed(command(server, tmp_path, NAME, NAME, "--masks"), real=True)
    assert {path.name for path in tmp_path.iterdir()} == {NAME, "APE_669.zip"}
    assert (tmp_path / "APE_669.zip").read_bytes() == b"masks"
    assert out.count("SHA-256") == 2


@pytest.mark.parametrize("mode", ["short", "reset"])
@pytest.mark.parametrize("version", [{"ETag": '"one"'}, DATE, {"ETag": 'W/"weak"', **DATE}])
def test_interrupted_download_continues(server, tmp_path, mode, version):
    server.version = version
    real = "W/" not in str(version)
    size = interrupt(server, tmp_path, mode, real).stat().st_size
    assert f"continues at byte {size}" in succeed(command(server, tmp_path, NAME), real)
    assert server.log == [["GET", f"bytes={size}-", 206, len(BODY) - size]]
    assert_complete(tmp_path)


def test_server_that_ignores_range_starts_again(server, tmp_path):
    interrupt(server, tmp_path)
    server.mode = "no range"
    assert "starts again" in succeed(command(server, tmp_path, NAME))
    assert server.log == [["GET", f"bytes={HALF}-", 200, len(BODY)]]
    assert_complete(tmp_path)


@pytest.mark.parametrize("version", [{}, {"ETag": 'W/"weak"'}])
def test_part_of_an_unknown_version_is_not_continued(server, tmp_path, version):
    server.version = version
    interrupt(server, tmp_path)
    succeed(command(server, tmp_path, NAME))
    assert server.log == [["GET", "", 200, len(BODY)]]
    assert_complete(tmp_path)


@pytest.mark.parametrize("mode", ["", "no if-range"])
@pytest.mark.parametrize("size", [len(BODY), HALF + 10, HALF, HALF - 10])
def test_changed_file_is_not_spliced(server, tmp_path, mode, size):
    interrupt(server, tmp_path)
    changed = bytes(255 - byte for byte in BODY[:size])
    server.files[NAME], server.version, server.mode = changed, {"ETag": '"two"'}, mode
    succeed(command(server, tmp_path, NAME))
    assert_complete(tmp_path, changed)


def test_part_of_another_address_is_not_continued(server, tmp_path):
    part = interrupt(server, tmp_path)
    source = part.with_name(part.name + ".source")
    source.write_text(source.read_text().replace("127.0.0.1", "elsewhere"))
    succeed(command(server, tmp_path, NAME))
    assert server.log == [["GET", "", 200, len(BODY)]]
    assert_complete(tmp_path)


@pytest.mark.parametrize("extra", [len(BODY) - HALF, len(BODY)])
def test_part_as_long_as_the_file_or_longer_starts_again(server, tmp_path, extra):
    part = interrupt(server, tmp_path)
    part.write_bytes(BODY[:HALF] + bytes(extra))
    succeed(command(server, tmp_path, NAME))
    assert [entry[2] for entry in server.log] == [416, 200]
    assert_complete(tmp_path)


def test_no_stated_length_is_accepted_and_said(server, tmp_path):
    server.mode = "no length"
    assert "the server states no length" in succeed(command(server, tmp_path, NAME))
    assert_complete(tmp_path)


def test_stalled_download_times_out(server, tmp_path, monkeypatch):
    server.mode = "stall"
    monkeypatch.setattr(download_checkpoints, "TIMEOUT", 1.0)
    error = fail(command(server, tmp_path, NAME))
    assert f"only {HALF} of {len(BODY)} bytes arrived: timed out" in error
    assert (tmp_path / f"{NAME}.part").read_bytes() == BODY[:HALF]


def test_ctrl_c_keeps_the_part(server, tmp_path):
    server.mode, part = "stall", tmp_path / f"{NAME}.part"
    process = start(command(server, tmp_path, NAME))
    while process.poll() is None and not (part.exists() and part.stat().st_size):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert (process.communicate(timeout=120)[1], process.returncode) == ("interrupted\n", 130)
    assert BODY.startswith(part.read_bytes()) and not (tmp_path / NAME).exists()


def test_missing_file_keeps_the_one_before(server, tmp_path):
    error = fail(command(server, tmp_path, NAME, "APE_compact_690.pt"), real=True)
    assert f"{server.url}APE_compact_690.pt: HTTP Error 404" in error
    assert_complete(tmp_path)


def test_login_page_is_no_checkpoint(server, tmp_path):
    part = interrupt(server, tmp_path)
    server.mode = "login page"
    assert "text/html" in fail(command(server, tmp_path, NAME))
    assert part.read_bytes() == BODY[:HALF]


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/", "http://127.0.0.1:port/", "nowhere", "http://[/"])
def test_unreachable_address(tmp_path, url):
    with socket.socket() as unheard:  # bound but not listening: connections are refused
        unheard.bind(("127.0.0.1", 0))
        url = url.format(port=unheard.getsockname()[1])
        error = fail([NAME, "--output", str(tmp_path), "--url", url], real=True)
    assert f"{url.rstrip('/')}/{NAME}" in error and "check the address and the connection" in error


def test_unknown_name(server, tmp_path):
    error = fail(command(server, tmp_path, "APE_1.pt"), real=True)
    assert "APE_1.pt" in error and all(name in error for name in download_checkpoints.CHECKPOINTS)
    assert not server.log


def test_existing_file_is_kept(server, tmp_path):
    (tmp_path / NAME).write_bytes(bytes(len(BODY)))
    out = succeed(command(server, tmp_path, NAME), real=True)
    assert f"kept, its {len(BODY)} bytes" in out and hashlib.sha256(bytes(len(BODY))).hexdigest() in out
    assert [entry[0] for entry in server.log] == ["HEAD"]
    assert_complete(tmp_path, bytes(len(BODY)))


def test_existing_file_of_another_length_is_a_mistake(server, tmp_path):
    (tmp_path / NAME).write_bytes(b"short")
    error = fail(command(server, tmp_path, NAME))
    assert re.search(rf"{NAME} has 5 bytes but .* states {len(BODY)}; delete the file", error)
    assert_complete(tmp_path, b"short")


@pytest.mark.parametrize("mode", ["gone", "no length", "login page"])
def test_existing_file_that_cannot_be_verified_is_kept(server, tmp_path, mode):
    (tmp_path / NAME).write_bytes(b"mine")
    server.mode, server.files = mode, {} if mode == "gone" else server.files
    assert "kept, unverified" in succeed(command(server, tmp_path, NAME))
    assert_complete(tmp_path, b"mine")


@pytest.mark.parametrize("below", ["", "folder"])
def test_output_that_is_a_file(server, tmp_path, below):
    (tmp_path / "file").write_bytes(b"mine")
    error = fail(command(server, tmp_path / "file" / below, NAME), real=True)
    assert str(tmp_path / "file") in error and "--output" in error
    assert (tmp_path / "file").read_bytes() == b"mine"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_disk(server, tmp_path):
    (tmp_path / f"{NAME}.part").symlink_to("/dev/full")
    assert re.search(rf"{NAME}: .*No space left on device; check", fail(command(server, tmp_path, NAME)))
    assert not (tmp_path / NAME).exists()


def test_help_names_the_defaults():
    out = succeed(["--help"], real=True)
    assert download_checkpoints.RELEASE in "".join(out.split()) and "usage:" in out
