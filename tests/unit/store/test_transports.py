"""Which libraries are imported when an object of a provider is opened."""

import subprocess
import sys

import pytest

LIBRARIES = {"s3": "boto3", "gcs": "google.cloud.storage", "azure": "azure.storage.blob"}


def run(script):
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("order", [("s3",), ("gcs",), ("azure",), ("s3", "gcs", "azure"), ("azure", "s3")])
def test_only_the_libraries_of_the_providers_in_use_are_imported(order):
    """In whatever order providers come, each can be read, and those that nobody asked for cost nothing."""
    imported = run(f"""
import sys
from eventferry.store.transports import transport
modules = [transport(name) for name in {order!r}]
assert [module.__name__ for module in modules] == ["smart_open." + name for name in {order!r}]
print(sorted(name for name, library in {LIBRARIES!r}.items() if library in sys.modules))
""")
    assert imported == f"{sorted(order)}\n"


def test_threads_that_ask_for_different_providers_at_once_all_get_theirs():
    """Two sinks that start together and read from different providers do not wait for each other for ever."""
    got = run(f"""
import threading
from eventferry.store.transports import transport
names, got = sorted({LIBRARIES!r}) * 2, []
barrier = threading.Barrier(len(names))
def ask(name):
    barrier.wait()
    got.append(transport(name).__name__)
threads = [threading.Thread(target=ask, args=(name,)) for name in names]
[thread.start() for thread in threads], [thread.join() for thread in threads]
print(sorted(got))
""")
    assert got == f"{sorted(f'smart_open.{name}' for name in LIBRARIES for _ in range(2))}\n"


@pytest.mark.parametrize("url", ["gs://bucket/key", "azure://container/key", "s3://bucket/key", "s3a://bucket/key"])
def test_smart_open_itself_still_knows_every_provider(url):
    """A third party's sink may open whatever smart_open can, after a source of another provider was read."""
    said = run(f"""
from eventferry.store.transports import transport
transport("azure" if {url!r}[0] != "a" else "s3")
import smart_open
print(smart_open.parse_uri({url!r}).key_id if "s3" in {url!r} else smart_open.parse_uri({url!r}).blob_id)
""")
    assert said == "key\n"


def test_where_smart_open_is_imported_already_its_modules_are_taken():
    """Whoever came first and imported all of it changes nothing."""
    run("""
import smart_open
from eventferry.store.transports import transport
assert transport("gcs").open
""")


def test_a_missing_library_is_said():
    """Rather than a name that is not defined."""
    said = run("""
import sys
sys.modules["boto3"] = None
from eventferry.store.transports import transport
try:
    transport("s3")
except ImportError as error:
    print(error)
""")
    assert said == "smart_open.s3 needs the client library of its provider\n"
