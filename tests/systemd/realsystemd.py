"""A real systemd for tests: booted in a second, on an overlay of this machine's root, gone without a trace."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
VENV = "/opt/eventferry/venv"
_BOOT = Path(__file__).with_name("boot.sh")
_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
_CGROUP_PREFIX = "eventferry-test."
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "TERM": "dumb"}
_QUIET = {"SYSTEMD_PAGER": "cat", "SYSTEMD_COLORS": "0", "SYSTEMD_URLIFY": "0"}
T = TypeVar("T")


def missing() -> str | None:
    """Why a real systemd cannot be booted here; None when nothing obvious stands against it."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "it needs Linux and root"
    if not Path("/lib/systemd/systemd").exists():
        return "systemd is not installed"
    absent = [tool for tool in ("unshare", "nsenter", "setpriv", "pivot_root") if shutil.which(tool) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "the kernel has no overlayfs"
    cgroups = _cgroup_root()
    if cgroups is None or not os.access(cgroups, os.W_OK):
        return "no writable cgroup2 hierarchy"
    return None


def require() -> None:
    """Skip the calling test on a machine that cannot do this; fail it where CI promises a machine that can."""
    reason = missing()
    if reason is None:
        return
    if os.environ.get("CI"):
        pytest.fail(f"a real systemd must run in CI, but {reason}")
    pytest.skip(f"no real systemd: {reason}")


def wait_for(probe: Callable[[], T], what: str, seconds: float = 30) -> T:
    """The first true answer of `probe`; AssertionError naming `what` when the deadline passes."""
    deadline = time.monotonic() + seconds
    while not (answer := probe()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)
    return answer


class RealSystemd:
    """One booted systemd. `with RealSystemd() as machine: machine.run("systemctl", "status")`.

    Loopback is the host's, so receivers that a test starts on 127.0.0.1 are reachable from inside. The tested
    checkout and its Python are found inside under /opt/eventferry, wherever they lie outside, readable by
    everybody: `ProtectHome=yes` hides a checkout below /root, and this does not.
    """

    def __init__(self, binds: Mapping[str | Path, str] | None = None) -> None:
        self._binds = {**_product_binds(), **{str(source): target for source, target in (binds or {}).items()}}
        self._cleanup = contextlib.ExitStack()
        self._pid = 0

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            work = Path(tempfile.mkdtemp(prefix="eventferry-systemd-"))
            undo.callback(shutil.rmtree, work, ignore_errors=True)
            cgroup = undo.enter_context(_fresh_cgroup())
            launcher = undo.enter_context(_launched(cgroup, work, self._binds))
            self._boot(launcher, work / "boot.log")
            self._install_python()
            self._cleanup = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    def run(
        self, *command: str, check: bool = True, timeout: float = 60, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as root; stdout and stderr are captured text."""
        target = ["-t", str(self._pid), "--pid", "--mount", "--uts", "--ipc", "--cgroup", "--root", "--wd=/"]
        settings = [f"{name}={value}" for name, value in (_ENVIRONMENT | _QUIET).items()]
        done = subprocess.run(
            ["nsenter", *target, "env", "-i", *settings, *command],
            capture_output=True,
            text=True,
            timeout=timeout,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)} exited {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def path(self, inside: str) -> Path:
        """Where the host sees the file or directory that is called `inside` in there."""
        return Path(f"/proc/{self._pid}/root") / inside.lstrip("/")

    def write(self, inside: str, text: str, mode: int = 0o644, owner: str | None = None) -> Path:
        """Write a file in there, with its directories; `owner` as chown takes it (`root:eventferry`)."""
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        if owner:
            self.run("chown", owner, inside)
        return path

    def show(self, unit: str, name: str) -> str:
        """One property of a unit, as `systemctl show` prints it."""
        return self.run("systemctl", "show", "--value", "--property", name, unit).stdout.strip()

    def main_pid(self, unit: str) -> int:
        """The unit's main process as numbered inside; 0 when it has none."""
        return int(self.show(unit, "MainPID"))

    def journal(self, unit: str) -> str:
        """What the unit and systemd about it wrote to the journal, one line per message."""
        self.run("journalctl", "--sync")
        return self.run("journalctl", "--unit", unit, "--output", "cat", "--no-pager", "--quiet", "--all").stdout

    def journal_entries(self, unit: str) -> list[dict[str, Any]]:
        """The same with all fields (PRIORITY, _PID, …)."""
        self.run("journalctl", "--sync")
        lines = self.run("journalctl", "--unit", unit, "--output", "json", "--no-pager", "--quiet", "--all").stdout
        return [json.loads(line) for line in lines.splitlines()]

    def drop_in(self, unit: str, name: str, text: str) -> None:
        """Add or replace a drop-in of a unit and load it."""
        self.write(f"/etc/systemd/system/{unit}.d/{name}.conf", text)
        self.run("systemctl", "daemon-reload")

    def _boot(self, launcher: subprocess.Popen[bytes], log: Path) -> None:
        def booted() -> bool:
            if launcher.poll() is not None:
                raise AssertionError(f"systemd did not boot: {log.read_text(errors='replace')}")
            children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
            self._pid = int(children[0]) if children else 0
            return bool(self._pid) and self.path("/run/systemd/private").is_socket()

        wait_for(booted, "systemd answers")
        state = self.run("systemctl", "is-system-running", "--wait", check=False)
        if state.stdout.strip() != "running":
            failed = self.run("systemctl", "--failed", "--no-legend", check=False).stdout
            raise AssertionError(f"systemd is {state.stdout.strip()!r}: {state.stderr}{failed}")

    def _install_python(self) -> None:
        """A virtual environment at the documented place, made of the running Python, its packages and this checkout."""
        home = "/usr/bin" if _is_system_python() else "/opt/eventferry/python/bin"
        site = f"{VENV}/lib/{_PYTHON}/site-packages"
        self.write(f"{VENV}/pyvenv.cfg", f"home = {home}\ninclude-system-site-packages = false\n")
        # Not the packages themselves but their directory: the editable install's .pth names the checkout's own place.
        paths = ["/opt/eventferry/src/daemon", "/opt/eventferry/src/sinks", "/opt/eventferry/packages"]
        self.write(f"{site}/eventferry-test.pth", "\n".join(paths) + "\n")
        self.path(f"{VENV}/bin").mkdir()
        for name in ("python", "python3", _PYTHON):
            self.path(f"{VENV}/bin/{name}").symlink_to(f"{home}/{_PYTHON}")
        # As pip writes it: guarded, because a spawned worker imports it again.
        entry = f"#!{VENV}/bin/python\nimport sys\n\nfrom eventferry.cli import main\n\n"
        entry += 'if __name__ == "__main__":\n    sys.exit(main())\n'
        self.write(f"{VENV}/bin/eventferry", entry, mode=0o755)
        if sysconfig.get_config_var("Py_ENABLE_SHARED") and not _is_system_python():
            self.write("/etc/ld.so.conf.d/eventferry-test.conf", "/opt/eventferry/python/lib\n")
            self.run("ldconfig")


def _is_system_python() -> bool:
    return Path(sys.base_prefix).resolve() == Path("/usr")


def _product_binds() -> dict[str, str]:
    binds = {
        sysconfig.get_path("purelib"): "/opt/eventferry/packages",
        str(CHECKOUT / "daemon"): "/opt/eventferry/src/daemon",
        str(CHECKOUT / "sinks"): "/opt/eventferry/src/sinks",
        str(CHECKOUT / "systemd"): "/opt/eventferry/src/systemd",
    }
    return binds if _is_system_python() else {sys.base_prefix: "/opt/eventferry/python", **binds}


def _cgroup_root() -> Path | None:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    return None


@contextlib.contextmanager
def _fresh_cgroup() -> Iterator[Path]:
    root = _cgroup_root()
    assert root is not None
    for stale in root.glob(f"{_CGROUP_PREFIX}*"):  # left by a test process that was itself killed
        owner = stale.name.removeprefix(_CGROUP_PREFIX).split(".")[0]
        if not Path(f"/proc/{owner}").exists():
            _remove_cgroup(stale)
    cgroup = root / f"{_CGROUP_PREFIX}{os.getpid()}.{time.monotonic_ns()}"
    cgroup.mkdir()
    try:
        yield cgroup
    finally:
        wait_for(lambda: _remove_cgroup(cgroup), f"{cgroup} is empty", 10)


def _remove_cgroup(cgroup: Path) -> bool:
    """Whether the tree is gone; it stays as long as a killed process has not been reaped."""
    for directory in sorted(cgroup.glob("**/"), reverse=True):
        with contextlib.suppress(OSError):
            directory.rmdir()
    return not cgroup.exists()


@contextlib.contextmanager
def _launched(cgroup: Path, work: Path, binds: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    pairs = [part for pair in binds.items() for part in pair]
    with (work / "boot.log").open("wb") as log:
        launcher = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "bash", str(_BOOT), str(cgroup), str(work), *pairs],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield launcher
    finally:
        launcher.kill()  # unshare --kill-child: PID 1 inside dies with it, and with PID 1 everything
        launcher.wait(10)
