"""A third party's package brings a sink type and a callable, and both are used like ours."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fixtures" / "acme_bi"

PROGRAM = """
import json, sys
from eventferry.sink.kit import make_batch, sample_events
from eventferry.sink.registry import installed, make_sink
found = installed()["acme"]
imported = "acme_bi" in sys.modules
for type, options in (("acme", {"folder": sys.argv[1]}), ("acme_bi:process", {})):
    with make_sink(type, "third", options) as sink:
        sink.deliver(make_batch(sample_events(3)))
print(json.dumps([found.target, found.distribution, found.version, imported]))
"""


@pytest.fixture(scope="module")
def installation(tmp_path_factory):
    """The package, built and installed into a directory of its own."""
    base = tmp_path_factory.mktemp("acme")
    source, target = base / "source", base / "site"
    for path in PACKAGE.rglob("*"):  # a copy, so that building leaves nothing in the checkout
        if path.is_file() and "__pycache__" not in path.parts:
            copy = source / path.relative_to(PACKAGE)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    done = subprocess.run(
        [*pip, "--no-deps", "--no-build-isolation", "--target", target, source], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return target


def test_a_third_partys_package_is_listed_and_delivers(installation, tmp_path):
    """Installing a package is all: its type is listed without being imported, and type and function deliver."""
    folder, out = tmp_path / "folder", tmp_path / "out.ndjson"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, folder],
        env={**os.environ, "PYTHONPATH": str(installation), "ACME_OUT": str(out)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["acme_bi:AcmeSink", "acme-bi", "1.2.3", False]
    (delivered,) = folder.iterdir()
    assert [json.loads(line)["n"] for line in delivered.read_text().splitlines()] == [0, 1, 2]
    assert out.read_text() == delivered.read_text()


def test_a_third_party_proves_its_type_with_the_kit(installation):
    """Its contract test is a few lines against the installed package; every promise it can keep is kept."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", PACKAGE / "contract.py"],
        env={**os.environ, "PYTHONPATH": str(installation)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert int(passed[1]) >= 20, done.stdout


def test_a_third_partys_type_is_shown_with_what_it_declares(installation):
    """`eventferry sinks --json` tells its package, guarantee and counterpart beside ours."""
    done = subprocess.run(
        [sys.executable, "-m", "eventferry", "sinks", "--json"],
        env={**os.environ, "PYTHONPATH": str(installation)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    (found,) = [each for each in json.loads(done.stdout) if each["type"] == "acme"]
    assert (found["distribution"], found["version"], found["problem"]) == ("acme-bi", "1.2.3", None)
    assert (found["guarantee"], found["proved_against"]) == ("effectively once", "a folder")
