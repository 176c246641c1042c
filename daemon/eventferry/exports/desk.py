"""What the service over exports works with, put together by app.py."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eventferry.config.pull import ExportsConfig
from eventferry.exports.bucket import Bucket
from eventferry.ledger import Ledger

if TYPE_CHECKING:
    from eventferry.access.keyring import Keyring
    from eventferry.alerts.channels.smtp import SmtpOptions


@dataclass(frozen=True, slots=True)
class Desk:
    """Where exports are asked for; the daemon and the server have one each over the same ledger.

    `base_url` begins every link. `mail` is how letters leave; None where no e-mail channel is configured. `console` is
    the address of the pages about exports, without a slash at the end; None where there are none.
    """

    ledger: Ledger
    settings: ExportsConfig
    state_dir: Path
    base_url: str
    keyring: "Keyring"
    mail: "SmtpOptions | None" = None
    instance: str = "eventferry"
    console: str | None = None

    @property
    def folder(self) -> Path:
        """Where exports are made, one folder each, named by their id; where finished ones lie unless in `bucket`."""
        return self.settings.folder(self.state_dir)

    @property
    def bucket(self) -> Bucket | None:
        """Where finished exports go; None where they stay in `folder`."""
        spec = self.settings.bucket_spec()
        return None if spec is None else Bucket.of(*spec)

    def page_of(self, export_id: str) -> str | None:
        """The export's page in the console; None where there is none."""
        return None if self.console is None else f"{self.console}/{export_id}"
