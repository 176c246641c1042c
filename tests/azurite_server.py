"""Starts Azurite, Microsoft's own emulator of Azure Blob Storage; `make .venv-azurite/installed` brings it."""

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers import find_program, missing, running

PLACE = Path(__file__).parent.parent / ".venv-azurite"
ACCOUNT = "devstoreaccount1"
# Every Azurite has this key; Microsoft publishes it for that.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_numbers = itertools.count()


@dataclass(frozen=True)
class AzuriteServer:
    """A running emulator."""

    endpoint: str

    def options(self, **more: object) -> tuple[tuple[str, object], ...]:
        """What a StoreSpec needs to reach it."""
        given = {"account_url": f"{self.endpoint}/{ACCOUNT}", "account_key": KEY, **more}
        return tuple(sorted((name, value) for name, value in given.items() if value is not None))

    def client(self) -> Any:
        """An azure.storage.blob.BlobServiceClient of the test's own."""
        from eventferry.clients.azure import AzureOptions, connect

        return connect(AzureOptions.of(self.options()))

    def make_container(self) -> str:
        """A new, empty container."""
        name = f"container-{next(_numbers)}"
        self.client().create_container(name)
        return name


@contextmanager
def azurite_server() -> Iterator[AzuriteServer]:
    """Azurite on a free port, its files in a folder of its own."""
    node = find_program("node", "install Node.js 20")
    program = PLACE / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    if not program.exists():
        missing(f"{program} is missing", "make .venv-azurite/installed")
    folder = tempfile.mkdtemp(prefix="azurite-")
    # This one knows the protocol up to a year ago, and takes what clients of today say of its version.
    command = [node, str(program), "--location", folder, "--blobHost", "127.0.0.1", "--blobPort", "0", "--silent"]
    try:
        with running(
            [*command, "--skipApiVersionCheck", "--disableTelemetry"],
            ready=r"successfully listens on (http://127\.0\.0\.1:\d+)",
        ) as endpoint:
            yield AzuriteServer(endpoint)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
