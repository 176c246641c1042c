"""The REST catalog of pyiceberg with an end to its requests; imported only where one is opened."""

from functools import partial
from typing import Any

from pyiceberg.catalog.rest import RestCatalog

SECONDS = "eventferry.seconds"  # property: how long a request waits for a byte


class BoundedCatalog(RestCatalog):
    """Its own waits for ever: each attempt at a catalog that hangs would leave a thread behind, and a batch with it."""

    def _create_session(self) -> Any:
        session = super()._create_session()
        session.request = partial(session.request, timeout=float(self.properties[SECONDS]))  # type: ignore[method-assign]
        return session
