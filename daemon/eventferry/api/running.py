"""Runs the server until it is told to stop: sockets, signals, readiness."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from eventferry import notify
from eventferry.api.connections import Connection
from eventferry.config import Config
from eventferry.logs import get_logger

logger = get_logger()

# Longer than the usual proxy keeps an idle connection, so that it is the proxy that closes it.
KEEP_ALIVE_SECONDS = 75
# Of request line and headers together; a filter in a query string may be long.
HEAD_BYTES = 64 * 1024
# Connections at once; above that the server answers 503.
CONNECTIONS = 1000
# What answers under way get at the end; a longer download begins anew, by Range.
STOP_SECONDS = 20


class Server(uvicorn.Server):
    """Tells systemd when it listens, and ends in order at SIGTERM and SIGINT."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; then say so."""
        await super().startup(sockets)
        if self.started:
            bound = [each.getsockname()[:2] for server in self.servers for each in server.sockets]
            logger.info("server.started", listening=[f"{host}:{port}" for host, port in bound])
            notify.ready(f"listening on {', '.join(f'{host}:{port}' for host, port in bound)}")

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Uvicorn's own would die of the signal in the end: a clean stop is an exit with 0."""
        before = {each: signal.signal(each, self._stop) for each in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _stop(self, number: int, frame: object) -> None:
        notify.stopping("finishing the answers under way")
        self.should_exit = True


def serve_until_stopped(app: FastAPI, config: Config) -> str:
    """Listen as [api] says; why it could not, "" if it did."""
    server = Server(settings_of(app, config))
    try:
        server.run()
    except SystemExit as ended:  # how uvicorn says that it cannot listen; it has logged why
        return _fault_of(ended.__context__)
    logger.info("server.stopped")
    return ""


def _fault_of(error: BaseException | None) -> str:
    """Why listening failed, in a few words: asyncio's own repeat the address, and wrap more than one reason."""
    if not isinstance(error, OSError) or error.errno is None:
        return "the log says why"
    known = os.strerror(error.errno) if error.errno > 0 else error.strerror  # names that are not found count below 0
    return (known or str(error)).lower()


def settings_of(app: FastAPI, config: Config) -> uvicorn.Config:
    """How the application is served."""
    return uvicorn.Config(
        app,
        host=config.api.host,
        port=config.api.port,
        log_config=None,  # libraries are heard through logs.py, requests through the access log of ours
        access_log=False,
        server_header=False,
        http=Connection,
        ws="none",
        lifespan="off",
        proxy_headers=bool(config.api.trusted_proxies),
        forwarded_allow_ips=list(config.api.trusted_proxies),
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        h11_max_incomplete_event_size=HEAD_BYTES,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
