"""The long-running process: scheduler jobs that wake the pipeline, signals, reload, readiness, watchdog."""

from eventferry.service.service import Service

__all__ = ["Service"]
