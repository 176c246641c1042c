"""Where tasks run: spawned processes that end with their parent, or right here."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def make_executor(processes: int) -> Executor:
    """An executor for tasks that are plain functions from a small picklable spec to a small picklable result.

    0 runs each task at once in the calling thread: for tests, and where so little is to do that a process costs more.
    Workers are spawned, not forked: a forked one would inherit the ledger's lock and keep it after a kill -9.
    """
    if processes == 0:
        return InlineExecutor()
    return ProcessPoolExecutor(
        processes, mp_context=multiprocessing.get_context("spawn"), initializer=_prepare_worker, initargs=(os.getpid(),)
    )


def end_executor(executor: Executor, timeout: float = 5.0) -> None:
    """End the workers, those at work too, and wait at most `timeout` seconds for it."""
    processes: dict[int, multiprocessing.Process] = getattr(executor, "_processes", None) or {}
    for process in list(processes.values()):
        process.terminate()
    # shutdown itself can wait for ever where a worker hangs in the kernel.
    ending = threading.Thread(target=executor.shutdown, kwargs={"wait": True, "cancel_futures": True}, daemon=True)
    ending.start()
    ending.join(timeout)


class InlineExecutor(Executor):
    """Runs each task inside `submit`; the same interface without processes."""

    def __init__(self) -> None:
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        if self._closed:
            raise RuntimeError("cannot submit a task after shutdown")
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._closed = True


def _prepare_worker(parent: int) -> None:
    """Leave the end of a worker to its parent: signals meant for the daemon pass it by, the parent's death ends it.

    Nothing here changes priority or affinity: the unit's system call filter forbids that.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # before threads start: they inherit it
    threading.Thread(target=_end_with, args=(parent,), name="parent-watch", daemon=True).start()
    threading.Thread(target=_obey, args=(parent,), name="signal-watch", daemon=True).start()
    _silence_stdout()


def _end_with(parent: int) -> None:
    process = multiprocessing.parent_process()
    if process is not None and os.getppid() == parent:
        multiprocessing.connection.wait([process.sentinel])
    os._exit(0)


def _obey(parent: int) -> None:
    """End at a SIGTERM of the parent (the pool sends it to clean up); service managers send one to every process."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(128 + signal.SIGTERM)


def _silence_stdout() -> None:
    """The daemon's standard output may carry events or JSON for a program: a stray print must not get in between."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
