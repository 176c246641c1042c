"""What systemd receives from eventferry.notify, read from a real datagram socket."""

import os
import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventferry import clock, notify

CALLS: dict[str, Callable[[], bool]] = {
    "ready": notify.ready,
    "status": lambda: notify.status("polling"),
    "reloading": notify.reloading,
    "stopping": notify.stopping,
    "watchdog": notify.watchdog,
    "extend_timeout": lambda: notify.extend_timeout(1),
}


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The manager's end of NOTIFY_SOCKET, as a file and in the abstract name space."""
    abstract = request.param == "abstract"
    name = f"eventferry-test-{uuid.uuid4().hex}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + name if abstract else name)
        receiver.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name if abstract else name)
        yield receiver


def received(manager: socket.socket) -> dict[str, str]:
    """The fields of the next message."""
    return dict(line.split("=", 1) for line in manager.recv(4096).decode().split("\n"))


def test_ready_and_status_arrive_in_one_message(manager: socket.socket) -> None:
    """Readiness and the text beside it reach systemd together."""
    assert notify.ready("polling 3 sources")
    assert received(manager) == {"READY": "1", "STATUS": "polling 3 sources"}


def test_status_cannot_smuggle_another_field(manager: socket.socket) -> None:
    """A line break inside a status stays inside the status."""
    notify.status("sink held:\nSTOPPING=1")
    assert received(manager) == {"STATUS": "sink held: STOPPING=1"}


def test_reloading_carries_the_monotonic_instant(manager: socket.socket) -> None:
    """A reload names its instant, without which Type=notify-reload would ignore it."""
    before = clock.monotonic()
    notify.reloading()
    fields = received(manager)
    assert fields["RELOADING"] == "1"
    assert before - 0.001 <= int(fields["MONOTONIC_USEC"]) / 1_000_000 <= clock.monotonic()


def test_the_other_messages_are_the_protocols(manager: socket.socket) -> None:
    """Stopping, watchdog and more time are said in the protocol's words."""
    notify.stopping("draining")
    notify.watchdog()
    notify.extend_timeout(1.5)
    assert [received(manager) for _ in range(3)] == [
        {"STOPPING": "1", "STATUS": "draining"},
        {"WATCHDOG": "1"},
        {"EXTEND_TIMEOUT_USEC": "1500000"},
    ]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
@pytest.mark.parametrize("address", [None, "", "/nowhere/to/be/found", "@nobody-listens-here", "vsock:2:1"])
def test_without_a_listener_nothing_happens(
    call: Callable[[], bool], address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside systemd, or when its socket is gone, every call returns False and raises nothing."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert call() is False


def test_a_manager_that_does_not_read_blocks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When systemd's queue is full the call gives up instead of stopping the scheduler."""
    monkeypatch.setattr(notify, "_SEND_TIMEOUT_S", 0.05)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "full"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "full"))
        assert False in (notify.watchdog() for _ in range(2_000))


@pytest.mark.parametrize(
    ("limit", "watched", "interval"),
    [
        ("120000000", None, 60.0),
        ("120000000", "me", 60.0),
        ("120000000", "1", None),
        (None, None, None),
        ("0", None, None),
        ("soon", None, None),
    ],
)
def test_watchdog_interval_is_half_the_limit_of_this_process(
    limit: str | None, watched: str | None, interval: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watchdog is fed twice per limit, and only by the process that systemd watches."""
    values = {"WATCHDOG_USEC": limit, "WATCHDOG_PID": str(os.getpid()) if watched == "me" else watched}
    for name, value in values.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert notify.watchdog_interval() == interval
