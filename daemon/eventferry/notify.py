"""Tells systemd how the service is doing (the sd_notify protocol); without systemd every call does nothing."""

import os
import socket

from eventferry import clock

# PID 1 may be busy re-executing; the scheduler's thread must not wait for it without end.
_SEND_TIMEOUT_S = 1.0


def ready(status: str = "") -> bool:
    """The service works: after its start, and again after every reload."""
    return _send("READY=1", *_status_fields(status))


def status(text: str) -> bool:
    """One line for `systemctl status`."""
    return _send(*_status_fields(text))


def reloading(status: str = "") -> bool:
    """A reload begins; `ready` must follow, also when it fails and the old configuration stays."""
    microseconds = int(clock.monotonic() * 1_000_000)  # Type=notify-reload refuses the message without it
    return _send("RELOADING=1", f"MONOTONIC_USEC={microseconds}", *_status_fields(status))


def stopping(status: str = "") -> bool:
    """The service is shutting down."""
    return _send("STOPPING=1", *_status_fields(status))


def watchdog() -> bool:
    """Proof of progress; call it only where progress was made, never from a timer."""
    return _send("WATCHDOG=1")


def extend_timeout(seconds: float) -> bool:
    """Ask for this much time, counted from now, for the start, reload or stop under way."""
    return _send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")


def watchdog_interval() -> float | None:
    """Seconds between two `watchdog` calls (half of what systemd allows), None where nobody watches."""
    limit = os.environ.get("WATCHDOG_USEC", "")
    watched = os.environ.get("WATCHDOG_PID", "")
    if not limit.isdecimal() or int(limit) == 0 or watched not in ("", str(os.getpid())):
        return None
    return int(limit) / 2_000_000


def _status_fields(text: str) -> list[str]:
    # A line break would start another field of the protocol.
    return [f"STATUS={' '.join(text.split())}"] if text else []


def _send(*fields: str) -> bool:
    """Whether the message left. A failure is no error: systemd's own time-outs notice what they miss."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not fields or address[:1] not in ("/", "@"):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.settimeout(_SEND_TIMEOUT_S)
        try:
            sender.connect(address)
            sender.send("\n".join(fields).encode())
        except OSError:
            return False
    return True
