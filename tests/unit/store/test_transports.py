"""Which libraries are imported when an object of a provider is opened."""

import subprocess
import sys

import pytest

_LIBRARIES = {"s3": "boto3", "gcs": "google.cloud.storage", "azure": "azure.storage.blob"}


@pytest.mark.parametrize("order", [("s3",), ("gcs",), ("azure",), ("s3", "gcs", "azure"), ("azure", "s3")])
def test_only_the_libraries_of_the_providers_in_use_are_imported(order):
    """In whatever order providers come, each can be read, and those that nobody asked for cost nothing."""
    script = f"""
import sys
from eventferry.store.transports import transport
modules = [transport(name) for name in {order!r}]
assert [module.__name__ for module in modules] == ["smart_open." + name for name in {order!r}]
assert not any(hasattr(module, "MISSING_DEPS") for module in modules)
print(sorted(name for name, library in {_LIBRARIES!r}.items() if library in sys.modules))
assert not [finder for finder in sys.meta_path if type(finder).__module__.startswith("eventferry")]
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{sorted(order)}\n"), done.stderr
