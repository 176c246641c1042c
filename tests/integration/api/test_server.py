"""The server as such: health, errors, headers, limits."""

from tests.builders import events
from tests.served import served


def test_a_started_server_says_that_it_lives(tmp_path):
    """/healthz needs no key."""
    with served(tmp_path, events=events(10)) as site:
        assert site.get("/healthz").json() == {"status": "ok"}
        answer = site.get("/v1/nothing")
        print(answer.headers, answer.text)
        assert answer.status_code == 404
