"""A source on Azurite, through the installed command to files."""

from pathlib import Path

import pytest
from tests.azurite_server import ACCOUNT, KEY, azurite_server
from tests.builders import events
from tests.far_source import delivered, once, pack

pytestmark = pytest.mark.servers

SOURCE = """
url = "azure://{container}/events"
settle = "0s"
[sources.azure]
account_url = "{endpoint}/{account}"
account_key = "${{env:STORE_SECRET}}"
"""


def test_events_of_a_container_arrive_once_and_new_ones_follow(tmp_path: Path) -> None:
    """Objects of a container are delivered; the next run takes only what came since; a wrong key loses nothing."""
    with azurite_server() as server:
        container = server.make_container()
        objects = server.client().get_container_client(container)
        for hour in range(4):
            objects.upload_blob(f"events/2026/01/02/0{hour}/b c+d%.gz", pack(events(250, 250 * hour)))
        objects.upload_blob("errors/2026/01/02/x.gz", b"not ours")
        source = SOURCE.format(container=container, endpoint=server.endpoint, account=ACCOUNT)

        first = once(tmp_path, source, STORE_SECRET=KEY)
        assert first.returncode == 0, first.stdout + first.stderr
        assert sorted(delivered(tmp_path)) == list(range(1000))

        wrong = "d3JvbmctMDgxNQ=="
        refused = once(tmp_path, source, STORE_SECRET=wrong)
        assert refused.returncode != 0
        assert "mend account_key or sas_token" in refused.stdout + refused.stderr
        assert wrong not in refused.stdout + refused.stderr

        objects.upload_blob("events/2026/01/02/04/c.gz", pack(events(5, 1000)))
        second = once(tmp_path, source, STORE_SECRET=KEY)
        assert second.returncode == 0, second.stdout + second.stderr
        assert sorted(delivered(tmp_path)) == list(range(1005))
