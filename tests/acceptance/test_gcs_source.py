"""A source on an emulator of Google Cloud Storage, through the installed command to files."""

from pathlib import Path

from tests.builders import events
from tests.far_source import delivered, once, pack
from tests.gcs_server import gcs_server

SOURCE = """
url = "gs://{bucket}/events"
settle = "0s"
[sources.gcs]
endpoint = "{endpoint}"
anonymous = true
"""


def test_events_of_a_bucket_arrive_once_and_new_ones_follow(tmp_path: Path) -> None:
    """Objects of a bucket are delivered; the next run takes only what came since."""
    with gcs_server() as server:
        bucket = server.make_bucket()
        objects = server.client().bucket(bucket)
        for hour in range(4):
            objects.blob(f"events/2026/01/02/0{hour}/b c+d%.gz").upload_from_string(pack(events(250, 250 * hour)))
        objects.blob("errors/2026/01/02/x.gz").upload_from_string(b"not ours")
        source = SOURCE.format(bucket=bucket, endpoint=server.endpoint)

        first = once(tmp_path, source)
        assert first.returncode == 0, first.stdout + first.stderr
        assert sorted(delivered(tmp_path)) == list(range(1000))

        objects.blob("events/2026/01/02/04/c.gz").upload_from_string(pack(events(5, 1000)))
        second = once(tmp_path, source)
        assert second.returncode == 0, second.stdout + second.stderr
        assert sorted(delivered(tmp_path)) == list(range(1005))
