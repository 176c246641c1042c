"""Says whether the process lives, and whether it can work."""

from fastapi import APIRouter

from eventferry.api.parts import Parts


def router(parts: Parts) -> APIRouter:
    """The routes without a key: /healthz."""
    routes = APIRouter(tags=["health"])

    @routes.get("/healthz")
    def is_alive() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    return routes
