"""What routes work with: the server's own hold of the configuration, the ledger and the services over it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import Request

from eventferry import app
from eventferry.access.keyring import Keyring
from eventferry.access.rate import Failures, Rate
from eventferry.config import Config
from eventferry.exports.desk import Desk
from eventferry.exports.plan import readables
from eventferry.exports.sources import Readable
from eventferry.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Parts:
    """`desk` is where exports are asked for; `path` is the file that `config` was read from.

    `rate` counts the requests of each key, `failures` the refused keys of each address.
    """

    config: Config
    path: Path
    ledger: Ledger
    desk: Desk
    rate: Rate
    failures: Failures = field(default_factory=Failures)

    @property
    def keyring(self) -> Keyring:
        """What signs links and sessions."""
        return self.desk.keyring

    def sources(self) -> Mapping[int, Readable]:
        """What the log's segments are read through, by source id; anew, since the daemon may have met one since."""
        return readables(self.ledger, self.config.sources)


def parts_of(request: Request) -> Parts:
    """The parts of the server that answers this request."""
    parts: Parts = request.app.state.parts
    return parts


def build_parts(config: Config, path: Path) -> Parts:
    """The parts over the ledger as it is. Raises LedgerError."""
    ledger = app.open_existing_ledger(config)
    return Parts(config, path, ledger, app.build_desk(ledger, config), Rate(config.api.rate))
