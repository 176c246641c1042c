"""Starts OpenStack Swift with its S3 interface: a real object store that honours conditional requests."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers import find_program, free_ports

START_SECONDS = 40.0
USER, SECRET = "test:tester", "testing"
_BACKENDS = ("account", "container", "object")

_BACKEND = """
[DEFAULT]
log_level = ERROR
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
devices = {data}
mount_check = false
swift_dir = {etc}
user = {user}
disable_fallocate = true
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""

# Without the memcache of a real installation: looking for one that is not there costs more than it would save.
_PROXY = """
[DEFAULT]
log_level = ERROR
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {etc}
user = {user}
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck listing_formats bulk s3api tempauth slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
s3_acl = false
check_bucket_owner = false
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {secret} .admin
"""

_SWIFT = """
[swift-hash]
swift_hash_path_suffix = a
swift_hash_path_prefix = b
[storage-policy:0]
name = gold
policy_type = replication
default = yes
"""

_RINGS = """
import sys
from swift.common.ring import RingBuilder
for kind, port in zip(sys.argv[2::2], sys.argv[3::2]):
    builder = RingBuilder(4, 1, 1)
    builder.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "sda1", "weight": 1.0})
    builder.rebalance()
    builder.get_ring().save(f"{sys.argv[1]}/{kind}.ring.gz")
"""


@dataclass(frozen=True)
class SwiftServer:
    """A running Swift; its buckets are made by whoever needs one."""

    endpoint: str
    access_key: str = USER
    secret_key: str = SECRET

    def options(self, **more: object) -> tuple[tuple[str, object], ...]:
        """What a StoreSpec needs to reach it."""
        options = {"endpoint": self.endpoint, "access_key": self.access_key, "secret_key": self.secret_key, **more}
        return tuple(sorted(options.items()))

    def client(self) -> object:
        """A boto3 client of the test's own."""
        from eventferry.clients.s3 import S3Options, connect

        return connect(S3Options.of(self.options()))


@contextmanager
def swift_server() -> Iterator[SwiftServer]:
    """Four processes, up in a few seconds, on a memory file system where there is one."""
    programs = {
        kind: find_program(f"swift-{kind}-server", "pip install 'eventferry[dev]'") for kind in (*_BACKENDS, "proxy")
    }
    with ExitStack() as stack:
        root = Path(tempfile.mkdtemp(prefix="swift-", dir=_fast_place()))
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        ports = dict(zip((*_BACKENDS, "proxy"), free_ports(4), strict=True))
        _configure(root, ports)
        started = []
        for kind, program in programs.items():
            log = stack.enter_context((root / f"{kind}.log").open("w+b"))
            command = [sys.executable, "-W", "ignore", program, str(root / f"{kind}.conf")]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            stack.callback(_end, process)
            started.append((process, root / f"{kind}.log"))
        endpoint = f"http://127.0.0.1:{ports['proxy']}"
        _await(endpoint, list(ports.values()), started)
        yield SwiftServer(endpoint)


def _configure(root: Path, ports: dict[str, int]) -> None:
    etc, data = root / "etc", root / "data"
    (data / "sda1").mkdir(parents=True)
    etc.mkdir()
    (etc / "swift.conf").write_text(_SWIFT)
    for kind in _BACKENDS:
        text = _BACKEND.format(kind=kind, port=ports[kind], data=data, etc=etc, user=getpass.getuser())
        (root / f"{kind}.conf").write_text(text)
    proxy = _PROXY.format(port=ports["proxy"], etc=etc, user=getpass.getuser(), secret=SECRET)
    (root / "proxy.conf").write_text(proxy)
    rings = [each for kind in _BACKENDS for each in (kind, str(ports[kind]))]
    subprocess.run([sys.executable, "-W", "ignore", "-c", _RINGS, str(etc), *rings], check=True, capture_output=True)


def _fast_place() -> str | None:
    """Swift keeps metadata in extended attributes, which /dev/shm has and syncs nowhere."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _await(endpoint: str, ports: list[int], started: list[tuple["subprocess.Popen[bytes]", Path]]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        for process, log in started:
            if process.poll() is not None:
                said = log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{process.args!r} ended with {process.returncode}: {said}")
        try:
            for port in ports:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            with urllib.request.urlopen(f"{endpoint}/healthcheck", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"Swift was not ready within {START_SECONDS} s")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
