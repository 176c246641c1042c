"""Tasks run where they should, and workers live exactly as long as their parent."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from eventferry.execution import make_executor

PARENT = """
import os, sys, time
from eventferry.execution import make_executor

if __name__ == "__main__":
    executor = make_executor(2)
    executor.submit(print, "a stray print", flush=True).result()
    for number, task in enumerate(("while True: pass", "import time; time.sleep(600)")):
        executor.submit(exec, f"open({sys.argv[1]!r} + '{number}', 'w').close(); exec({task!r})")
    while not (os.path.exists(sys.argv[1] + "0") and os.path.exists(sys.argv[1] + "1")):
        time.sleep(0.01)
    print(*executor._processes, flush=True)
    time.sleep(600)
"""


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def wait_until(is_so: Callable[[], bool], seconds: float = 20) -> bool:
    pause, deadline = threading.Event(), time.monotonic() + seconds
    while not (found := is_so()) and time.monotonic() < deadline:
        pause.wait(0.02)
    return found


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with make_executor(1) as executor:
        yield executor


def test_without_processes_a_task_runs_at_once_and_here() -> None:
    """The in-process executor has the result, or the error, when submit returns."""
    with make_executor(0) as executor:
        assert executor.submit(os.getpid).result(0) == os.getpid()
        assert isinstance(executor.submit(int, "x").exception(0), ValueError)
        assert list(executor.map(abs, [-1, 2])) == [1, 2]
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(os.getpid)


def test_a_task_runs_in_another_process(executor: Executor) -> None:
    """One process is one worker, and it is not this one."""
    worker = executor.submit(os.getpid).result(30)
    assert worker != os.getpid()
    assert executor.submit(os.getpid).result(30) == worker


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
def test_signals_meant_for_the_daemon_do_not_end_its_workers(executor: Executor, name: str) -> None:
    """A service manager or a terminal signals every process; the daemon alone decides what its workers do."""
    worker = executor.submit(os.getpid).result(30)
    subprocess.run([sys.executable, "-c", f"import os, signal; os.kill({worker}, signal.SIG{name})"], check=True)
    assert executor.submit(os.getpid).result(30) == worker


def test_a_broken_pool_cleans_up() -> None:
    """A worker killed at work breaks the pool, whose other workers then end: nothing hangs, nobody is left."""
    executor = make_executor(2)
    busy = [executor.submit(time.sleep, 600) for _ in range(2)]
    workers: list[int] = list(executor._processes)  # type: ignore[attr-defined]
    assert wait_until(busy[0].running)
    os.kill(workers[0], signal.SIGKILL)
    with pytest.raises(BrokenProcessPool):
        busy[0].result(30)
    executor.shutdown()
    assert wait_until(lambda: not any(map(is_alive, workers)))


def test_no_worker_survives_its_parent(tmp_path: Path) -> None:
    """kill -9 of the daemon ends its workers, busy or asleep, and what a worker printed is not on its output."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "busy")], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(workers) == 2
        assert all(map(is_alive, workers))
        parent.kill()
    assert wait_until(lambda: not any(map(is_alive, workers)))
