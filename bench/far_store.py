"""A store 50 ms away, read 16 objects at a time and one at a time: python bench/far_store.py [--rounds N] [--files N].

`rclone serve s3` over generated files of some 10 KB as stored, behind a proxy that keeps every byte back for 25 ms each
way. The product indexes all and delivers all to files, with one index process; judged is the median ratio of the whole
time, start-up left out. The largest PSS of the whole process tree is measured on the same store: S3's client is in
every process. Exit 1 where it exceeds 200 MB and a batch, or where 16 are not 5 times as fast as one.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from run import clear, peak_memory, python  # noqa: E402
from tests.servers import S3Server, s3_server  # noqa: E402

from eventferry_sinks.file.sink import FileSink  # noqa: E402

ONE_WAY = 0.025  # seconds
FASTER = 5.0
MEMORY_MB = 200 + FileSink.limits.max_bytes / 1e6


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes, each piece ONE_WAY later; as fast as it comes."""
    loop = asyncio.get_running_loop()
    while data := await reader.read(256 * 1024):
        loop.call_later(ONE_WAY, writer.write, data)
    loop.call_later(ONE_WAY, writer.close)


@contextmanager
def far(endpoint: str) -> Iterator[str]:
    """The server's address as seen from far away."""
    there = urlsplit(endpoint)
    loop = asyncio.new_event_loop()

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection(there.hostname, there.port)
        await asyncio.gather(carry(reader, forth), carry(back, writer), return_exceptions=True)

    server = loop.run_until_complete(asyncio.start_server(meet, "127.0.0.1", 0, backlog=128))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def source(folder: Path, server: S3Server, endpoint: str, reads: int) -> Path:
    """What a [[sources]] table says of it, in a file."""
    path = folder / f"source-{reads}.toml"
    path.write_text(
        f'url = "s3://events"\nreads = {reads}\n[sources.s3]\nendpoint = "{endpoint}"\n'
        f'access_key = "{server.access_key}"\nsecret_key = "{server.secret_key}"\n'
    )
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=400)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, work = Path(place), Path(place, "work")
        python("gen.py", folder / "store/events", "--profile", "tiny", "--mb", arguments.files * 0.075)
        files = len(list((folder / "store/events").rglob("*.gz")))
        with s3_server(folder / "store") as server, far(server.endpoint) as endpoint:
            ratios, seconds = [], []
            for _ in range(arguments.rounds):
                taken = []
                for reads in (16, 1):
                    clear(work)
                    table = source(folder, server, endpoint, reads)
                    taken.append(
                        json.loads(python("product.py", table, work, "--processes", 1, "--deliver")[1])["seconds"]
                    )
                seconds.append(taken[0])
                ratios.append(taken[1] / taken[0])
            clear(work)
            memory = peak_memory(source(folder, server, server.endpoint, 16), work, processes=1)
    ratio = statistics.median(ratios)
    print(f"{files} files: 16 at a time {statistics.median(seconds):.1f} s, {files / statistics.median(seconds):.0f}/s")
    print(f"16 at a time ÷ one at a time: {ratio:.1f} ({min(ratios):.1f}–{max(ratios):.1f}), promised {FASTER:g}")
    print(f"largest PSS of all processes: {memory:.0f} MB, promised at most {MEMORY_MB:.0f}")
    return 0 if ratio >= FASTER and memory <= MEMORY_MB else 1


if __name__ == "__main__":
    sys.exit(main())
