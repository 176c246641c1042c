"""The OpenAPI document against the server, with requests that schemathesis makes up from it: short, and repeatable."""

import json
import subprocess
import sys

import pytest
from tests.builders import events
from tests.served import served
from tests.servers import find_program

from eventferry.api.openapi import document

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_whatever_is_asked_the_answer_is_one_that_the_document_names(tmp_path):
    """No 5xx, no undocumented status, content type or shape, over every route, with a valid key."""
    program = find_program("schemathesis", "pip install schemathesis")
    with served(tmp_path, events=events(20), api={"rate": 1_000_000}, exports={"queued_per_key": 5}) as site:
        token = site.key(scopes=["events", "exports", "admin"])
        (tmp_path / "openapi.json").write_text(json.dumps(document()))
        command = [program, "run", str(tmp_path / "openapi.json"), "--url", site.url, "--checks", CHECKS]
        command += ["--header", f"Authorization: Bearer {token}", "--header", f"X-Api-Key: {token}"]
        command += ["--header", "X-Project-Id: default", "--phases", "coverage,fuzzing", "--workers", "1"]
        command += ["--max-examples", "4", "--seed", "1", "--generation-database", "none", "--no-color"]
        command += ["--warnings", "off", "--suppress-health-check", "all"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=170, cwd=tmp_path)
    said = "\n".join(line[:300] for line in done.stdout.splitlines()[-200:])  # requests in it are long
    assert done.returncode == 0, said + done.stderr[-2000:]


def test_the_document_can_be_had_without_ledger_and_configuration():
    """`eventferry openapi` prints what the server gives at /openapi.json with every dialect on."""
    program = [sys.executable, "-m", "eventferry", "openapi"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=True, cwd="/")
    assert json.loads(done.stdout) == document()


def test_the_server_gives_its_own_document(tmp_path):
    """Without the dialects that are switched off."""
    with served(tmp_path, api={"dialects": []}) as site:
        shown = site.get("/openapi.json").json()
    assert shown["openapi"].startswith("3.1")
    assert {path for path in shown["paths"] if not path.startswith("/v1/")} == {"/healthz", "/readyz"}
