"""Exports end to end: `eventferry run` makes what was asked of the ledger beside it, and tells who wants to know."""

import csv
import gzip
import io
import json
import re
import signal
from urllib.parse import parse_qsl, urlsplit

import pytest
from tests.builders import events, wait_until
from tests.desks import ANA, ask, key, look
from tests.gates import gate
from tests.pulling import Installation, installed
from tests.receivers import http_receiver, mail_server
from tests.servers import s3_server

from eventferry.access.links import check_link
from eventferry.exports import requests
from eventferry.exports.model import Output, Selection
from eventferry.exports.refusals import Gone, NotFound, NotReady
from eventferry.exports.wanted import S3, Notify
from eventferry.ledger import exports
from eventferry.query import Compare, Op

A, B = events(1000), events(500, 1000)
FILES = {"2026/01/01/00/a.ndjson": A, "2026/01/01/01/b.ndjson": B}


def content(site: Installation, row) -> dict[str, bytes]:
    """The files as whoever has a link gets them."""
    found = {}
    for each in requests.files(site.desk, ANA, row.id):
        with requests.open_linked_file(site.desk, row.id, each.name).file as file:
            found[each.name] = file.read()
    return found


def test_exports_in_every_form_are_made_within_seconds(tmp_path):
    """Asked beside the running daemon, each is taken up within 2 s and has the right rows."""
    with installed(tmp_path, FILES, exports={"workers": 2}) as site:
        some = Selection(filter=Compare(("n",), Op.GTE, 900))
        forms = {
            "ndjson": ask(site.desk, output=Output("ndjson", "gzip"), selection=some),
            "csv": ask(site.desk, output=Output("csv"), selection=some),
            "json": ask(site.desk, output=Output("json"), selection=some),
            "parquet": ask(site.desk, output=Output("parquet"), selection=some),
        }
        rows = {name: site.until(row) for name, row in forms.items()}
        assert {row.state for row in rows.values()} == {"complete"}
        assert {row.events for row in rows.values()} == {600}
        first = min(rows.values(), key=lambda row: row.started_ms)
        assert first.started_ms - first.created_ms < 2000
        [ndjson], [table], [array] = (list(content(site, rows[name]).values()) for name in ("ndjson", "csv", "json"))
        expected = [json.loads(line) for line in (A + B).splitlines()][900:]
        assert [json.loads(line) for line in gzip.decompress(ndjson).splitlines()] == expected == json.loads(array)
        assert [int(each["n"]) for each in csv.DictReader(io.StringIO(table.decode()))] == list(range(900, 1500))
        [parquet] = content(site, rows["parquet"]).values()
        assert parquet[:4] == parquet[-4:] == b"PAR1"
        assert {path.name for path in site.desk.folder.iterdir()} == {row.id for row in rows.values()}
        site.stop()


def test_a_letter_and_a_webhook_say_that_an_export_is_ready(tmp_path):
    """The link in the letter opens the file, the webhook has the same figures."""
    with mail_server(tmp_path, "none") as mail, http_receiver() as hook:
        channel = {"type": "email", "host": "127.0.0.1", "port": mail.port, "security": "none",
                   "from": "Events <ferry@example.com>", "to": "ops@example.com"}  # fmt: skip
        top = {"alerts": {"channels": [channel]}, "exports": {"allow_endpoints": ["127.0.0.0/8"]}}
        with installed(tmp_path, FILES, **top) as site:
            notify = Notify(email=("ana@example.com",), webhook=hook.url)
            row = site.until(ask(site.desk, name="all of it", notify=notify, output=Output("csv")))
            wait_until(lambda: mail.letters, 20, "the letter")
            [posted] = hook.wait_for(1, 20)
            text = mail.letters[0].get_body(("plain",)).get_content()
            assert "Rows     1,500" in text
            link = urlsplit(re.search(r"http://\S+/files/\S+", text)[0])
            name = link.path.rpartition("/")[2]
            check_link(site.desk.keyring, row.id, name, link.query)
            assert dict(parse_qsl(link.query)).keys() == {"expires", "key", "signature"}
            assert requests.open_linked_file(site.desk, row.id, name).file.read() == content(site, row)[name]
            assert (posted.json()["id"], posted.json()["events"]) == (row.id, 1500)


def test_an_export_goes_to_the_requesters_own_store(tmp_path):
    """Under the name that was asked for; nothing stays here, and the credentials are gone. Wrong ones are a failure."""
    (tmp_path / "buckets" / "theirs").mkdir(parents=True)
    own = {"allow_endpoints": ["127.0.0.0/8"]}
    with s3_server(tmp_path / "buckets") as store, installed(tmp_path, FILES, exports=own) as site:
        place = S3("s3://theirs/in", store.access_key, store.secret_key, endpoint=store.endpoint,
                   object_name="{id}.json")  # fmt: skip
        row = site.until(ask(site.desk, destination=place))
        assert (row.state, row.reason) == ("complete", None)
        assert (tmp_path / "buckets/theirs/in" / f"{row.id}.json").read_bytes() == A + B
        assert [each.name for each in requests.files(site.desk, ANA, row.id)] == [f"{row.id}.json"]
        with pytest.raises(NotFound):
            requests.open_file(site.desk, ANA, row.id, f"{row.id}.json")
        parts = S3("s3://theirs/parts", store.access_key, store.secret_key, endpoint=store.endpoint)
        several = site.until(ask(site.desk, destination=parts, output=Output("ndjson", part_bytes=64 * 1024)))
        there = {path.name: path.read_bytes() for path in (tmp_path / "buckets/theirs/parts").iterdir()}
        listed = [each["name"] for each in json.loads(there.pop("manifest.json"))["files"]]
        assert (several.state, b"".join(there[name] for name in listed)) == ("complete", A + B)
        bad = S3("s3://theirs/in", store.access_key, "wrong", endpoint=store.endpoint)
        refused = site.until(ask(site.desk, destination=bad))
        assert refused.state == "failed"
        assert "secret key" in refused.reason or "credentials" in refused.reason
        for each in (row, refused):
            with site.desk.ledger.read() as tx:
                assert exports.credentials(tx, each.id) is None
        wait_until(lambda: not list(site.desk.folder.iterdir()), 10)
        assert "wrong" not in (tmp_path / "log.txt").read_text()


def test_files_expire_and_links_with_them(tmp_path):
    """A minute after their time at the latest; the row says expired."""
    with installed(tmp_path, FILES, exports={"retention": "1s"}) as site:
        row = site.until(ask(site.desk), "complete")
        [file] = requests.files(site.desk, ANA, row.id)
        assert site.until(row, "expired", seconds=90).expires_ms == row.finished_ms + 1000
        with pytest.raises(Gone):
            requests.open_linked_file(site.desk, row.id, file.name)
        wait_until(lambda: not list(site.desk.folder.iterdir()), 10)


def test_a_running_export_is_cancelled_within_two_seconds_and_a_deleted_one_leaves_nothing(tmp_path):
    """The daemon goes on with the next one."""
    with installed(tmp_path, {f"2026/01/01/00/{n}.ndjson": events(40_000, n) for n in range(6)}) as site:
        rows = [ask(site.desk, key(str(number)), output=Output("csv")) for number in range(2)]
        for row, end in zip(rows, (requests.cancel, requests.delete), strict=True):
            site.until(row, "running", *exports.UNDER_WAY[1:])
            end(site.desk, ANA, row.id)
            assert site.until(row, seconds=3).state == "cancelled"
        done = site.until(ask(site.desk))
        assert (done.state, done.events) == ("complete", 240_000)
        wait_until(lambda: {path.name for path in site.desk.folder.iterdir()} == {done.id}, 15)


def test_a_restart_in_the_middle_goes_on_and_a_stop_waits_for_nobody(tmp_path):
    """After kill -9 and after a clean stop the export ends complete, with the same bytes."""
    with installed(tmp_path, {f"2026/01/01/00/{n}.ndjson": events(40_000, n) for n in range(6)}) as site:
        row = ask(site.desk)
        site.until(row, "running")
        site.kill()
        assert look(site.desk, row).state == "running"
        site.start()
        site.until(row, "queued", "running", "complete")
        site.stop()
        site.start()
        done = site.until(row)
        assert (done.state, done.events) == ("complete", 240_000)
        again = site.until(ask(site.desk))
        assert content(site, done) == content(site, again)


def test_the_pull_side_is_switched_on_and_off_by_a_reload(tmp_path):
    """Switched off nothing is made; what waits is made when it is on again."""
    with installed(tmp_path, FILES) as site:
        for on in (False, True):
            site.write(pull={"enabled": on})
            site.daemon.send_signal(signal.SIGHUP)
            wait_until(lambda n=on + 1: (tmp_path / "log.txt").read_text().count('"event": "config.loaded"') == n)
            if not on:
                row = ask(site.desk)
        done = site.until(row)
        assert (done.state, done.kills, done.interruptions) == ("complete", 0, 0)


def test_an_export_for_the_operators_bucket_survives_a_kill_in_the_middle(tmp_path):
    """Some of it was there: nobody could have it; the next start puts all of it there, and then it is complete."""
    (tmp_path / "buckets" / "kept").mkdir(parents=True)
    with s3_server(tmp_path / "buckets") as store, gate(store.endpoint) as way:
        s3 = {"endpoint": way.endpoint, "access_key": store.access_key, "secret_key": store.secret_key}
        with installed(tmp_path, FILES, exports={"directory": "s3://kept/exports", "s3": s3}) as site:
            row = ask(site.desk, output=Output("ndjson", part_bytes=16 * 1024))
            folder = tmp_path / "buckets/kept/exports" / row.id
            wait_until(lambda: list(folder.glob("part-*")), 30, "the first object")
            way.hold()
            assert look(site.desk, row).state == "running"
            with pytest.raises(NotReady):
                requests.open_linked_file(site.desk, row.id, "part-00001.ndjson")
            assert not (folder / "manifest.json").exists()
            site.kill()
            way.open()
            site.start()
            done = site.until(row, seconds=90)
            assert (done.state, done.interruptions, done.place) == ("complete", 1, "s3://kept/exports")
            found = content(site, done)
            assert b"".join(found.values()) == A + B
            assert {path.name for path in folder.iterdir()} == {*found, "manifest.json"}
            wait_until(lambda: not list(site.desk.folder.iterdir()), 10)
            requests.delete(site.desk, ANA, done.id)
            wait_until(lambda: not list(folder.glob("*")), 30, "the removal from the bucket")
            assert "SECRETTEST" not in (tmp_path / "log.txt").read_text()
