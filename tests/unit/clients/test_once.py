"""Clients are made once per set of options, also where many threads begin at the same time."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from eventferry.clients.once import made_once


def test_threads_that_ask_at_once_share_one_client() -> None:
    """Making a client costs a tenth of a second and perhaps a request for a role: sixteen threads pay it once."""
    begun, asked = threading.Barrier(16), []

    def make(options: str) -> object:
        asked.append(options)
        return object()

    get = made_once(make)

    def ask(number: int) -> object:
        begun.wait(10)
        return get("same")

    with ThreadPoolExecutor(16) as threads:
        clients = set(threads.map(ask, range(16)))
    assert len(clients) == 1
    assert asked == ["same"]
    assert get("other") not in clients


def test_what_failed_is_tried_again() -> None:
    """A client that could not be made is not remembered."""
    answers = iter([RuntimeError("no role"), "client"])

    def make(options: str) -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    get = made_once(make)
    with pytest.raises(RuntimeError, match="no role"):
        get("x")
    assert get("x") == get("x") == "client"


def test_clients_of_former_options_go() -> None:
    """A process that lives through many reloads does not keep all of their clients."""
    get = made_once(lambda options: object())
    first = get(0)
    for number in range(1, 17):
        get(number)
    assert get(0) is not first
