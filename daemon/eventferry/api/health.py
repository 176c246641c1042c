"""Says whether the process lives, and whether it can work."""

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, Field

from eventferry import clock
from eventferry.api.parts import Parts
from eventferry.errors import LedgerError
from eventferry.ledger.database import get_meta
from eventferry.logs import get_logger

# The daemon moves its heartbeat every ten seconds.
SILENT_MS = 60_000

logger = get_logger()


class Alive(BaseModel):
    """The process answers."""

    status: str = Field(description="ok")


class Ready(BaseModel):
    """Whether requests can be answered, and what is in the way."""

    status: str = Field(description="ok or failing")
    checks: dict[str, str] = Field(description="ledger and daemon: ok, or what is wrong")


def router(parts: Parts) -> APIRouter:
    """The routes that need no key."""
    routes = APIRouter()

    @routes.get("/healthz")
    async def is_alive() -> Alive:  # on no thread: those may all be at work
        """The process lives."""
        return Alive(status="ok")

    @routes.get("/readyz", responses={503: {"description": "It cannot work now.", "model": Ready}})
    def is_ready(response: Response) -> Ready:
        """The ledger can be read, has this version's schema, and the daemon is at work."""
        checks = {"ledger": "ok", "daemon": "ok"}
        try:
            parts.ledger.check()
            checks["daemon"] = daemon_state(parts)
        except LedgerError as error:
            logger.warning("ledger.unready", error=str(error))  # with its path, which is not for everybody
            checks = {"ledger": "cannot be used now; the log says why", "daemon": "unknown"}
        is_well = all(each == "ok" for each in checks.values())
        response.status_code = 200 if is_well else 503
        return Ready(status="ok" if is_well else "failing", checks=checks)

    if parts.config.api.console:

        @routes.get("/", include_in_schema=False)
        def go_to_console() -> RedirectResponse:
            return RedirectResponse("/console", 303)

    return routes


def daemon_state(parts: Parts) -> str:
    """ok, or what is wrong with the daemon, without which no export is made."""
    with parts.ledger.read() as tx:
        heartbeat, stopped = get_meta(tx, "heartbeat_ms"), get_meta(tx, "stopped_ms")
    if heartbeat is None:
        return "has never run on this ledger; start eventferry run"
    if stopped is not None and stopped >= heartbeat:
        return f"was stopped at {clock.from_ms(stopped):%Y-%m-%d %H:%M:%S} UTC; exports wait until it runs"
    if clock.now_ms() - heartbeat > SILENT_MS:
        return f"has not been heard of since {clock.from_ms(heartbeat):%Y-%m-%d %H:%M:%S} UTC; exports wait"
    return "ok"
