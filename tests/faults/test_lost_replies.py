"""Commit, then lose the reply, again and again: where once is promised, each event is there once."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from eventferry.errors import ConfigError
from eventferry.sink import Guarantee
from eventferry.sink.registry import installed, load_sink_type

pytestmark = pytest.mark.faults

CONTRACTS = Path(__file__).parents[1] / "contract"


def _is_once(name):
    try:
        return load_sink_type(name).guarantee is Guarantee.EFFECTIVELY_ONCE
    except ConfigError:  # other tests say so by name; here it would hide every other type
        return False


ONCE = [name for name in installed() if _is_once(name)]
# One class of the contract test each; further forms of a type (another server, another format) add time only.
CLASS = {"object_store": "TestSwift"}
PLUGINS = ["-p", "tests.faults.many_lost_replies", "-p", "no:xdist", "-p", "no:cacheprovider"]
# Types whose contract test needs a server that pip does not bring.
SERVERS = {"clickhouse", "mysql", "snowflake"}
# What stands in for Snowflake has an environment of its own, made by `make test-snowflake`.
PYTHON = {"snowflake": str(CONTRACTS.parents[1] / ".venv-snowflake" / "bin" / "python")}
TYPES = [pytest.param(name, marks=pytest.mark.servers if name in SERVERS else ()) for name in ONCE]


def _lack(reason):
    """What the promise needs is not there: no proof on a laptop, a failure in CI."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def _lose(name, times):
    """How the promise of the contract test went, `times` in a row against one place."""
    kind = CLASS.get(name, "Test" + name.title().replace("_", ""))
    test = f"{CONTRACTS / f'test_{name}.py'}::{kind}::test_a_lost_reply_keeps_the_guarantee"
    python = PYTHON.get(name, sys.executable)
    if not Path(python).exists():
        _lack(f"{name}: there is no {python}; run make test-snowflake first")
    done = subprocess.run(
        [python, "-m", "pytest", "-q", *PLUGINS, "-o", "timeout=3000", test],
        cwd=CONTRACTS.parents[1],
        env={**os.environ, "LOST_REPLIES": str(times)},
        capture_output=True,
        text=True,
    )
    if re.search(r"\b1 skipped", done.stdout):
        _lack(f"{name}: {done.stdout.splitlines()[-2]}")
    assert re.search(r"\b1 passed", done.stdout), done.stdout + done.stderr


@pytest.mark.parametrize("name", TYPES)
def test_some_lost_replies_repeat_nothing(name):
    """The effect is there, nobody was told, another instance sends the batch once more: count 1 each."""
    _lose(name, 15)


@pytest.mark.slow
@pytest.mark.parametrize("name", TYPES)
@pytest.mark.timeout(3600)
def test_a_thousand_lost_replies_repeat_nothing(name):
    """The same, a thousand times."""
    _lose(name, 1000)
