"""What the mysql sink makes of errors and events, without a server."""

import re

import pytest

from eventferry.sink import BatchRejected, BatchTooLarge, SinkMisconfigured, SinkUnavailable
from eventferry.sink.columns import Column
from eventferry_sinks.mysql.errors import HELD, LATER, LOST, REFUSED, meaning
from eventferry_sinks.mysql.statements import BLOCK, Encoder
from eventferry_sinks.mysql.table import Present

GRANT = "GRANT SELECT ON `a`.* TO 'b'@'%'"


def judged(number, said="words", *, committing=False):
    return meaning(number, said, who="db:3306", grant=GRANT, committing=committing)


@pytest.mark.parametrize("number", sorted(LOST))
def test_a_lost_connection_is_unknown_only_once_commit_was_sent(number):
    """Before COMMIT the server rolls back what it has; after it nobody knows."""
    before, after = judged(number), judged(number, committing=True)
    assert isinstance(before, SinkUnavailable) and before.untouched
    assert isinstance(after, SinkUnavailable) and not after.untouched


@pytest.mark.parametrize("number", sorted(LATER))
def test_what_passes_is_later_with_a_remedy(number):
    """The server answered that it could not: nothing was taken, unless that was its answer to COMMIT."""
    error = judged(number, "Words")
    assert isinstance(error, SinkUnavailable) and error.untouched
    assert re.fullmatch(rf"db:3306: Words \({number}\); .+", str(error))
    assert judged(number, committing=True).untouched == (number == 1213), "a deadlock alone is certain then"


@pytest.mark.parametrize("number", sorted(HELD))
def test_what_a_person_must_mend_holds(number):
    """Each names what to do; as the answer to COMMIT it is unknown like any other."""
    error = judged(number)
    assert isinstance(error, SinkMisconfigured) and "{" not in str(error)
    assert (GRANT in str(error)) == (number in (1044, 1142, 1143, 1227, 1370))
    after = judged(number, committing=True)
    assert isinstance(after, SinkUnavailable) and not after.untouched


@pytest.mark.parametrize("number", sorted(REFUSED))
def test_refused_content_is_named_without_its_words(number):
    """The server may quote an event; what is shown is the column."""
    said = "Incorrect value: 'secret for column `x`' for column `d`.`t`.`url` at row 7"
    error = judged(number, said)
    assert isinstance(error, BatchRejected)
    assert "'url'" in str(error) and str(number) in str(error) and "secret" not in str(error)


def test_sizes_halve_and_the_unheard_of_is_asked_again():
    """What is too large is said so; a number that nobody knows is later, without its words."""
    assert isinstance(judged(1153), BatchTooLarge)
    strange = judged(4242, "quotes an event")
    assert isinstance(strange, SinkUnavailable) and strange.untouched
    assert "4242" in str(strange) and "quotes" not in str(strange)
    assert not judged(4242, committing=True).untouched


def encoder(columns, max_packet=1 << 24, lacking=()):
    text = Present("longtext", "longtext", "utf8mb4", 2**32 - 1)
    known = {name: text for name in columns if name not in lacking}
    return Encoder(
        "events", {name: Column(path=(name,), type=kind) for name, kind in columns.items()}, known, max_packet
    )


def test_an_event_becomes_a_row_of_literals():
    """Quotes are doubled, backslashes stay, what is missing is NULL, times are to the microsecond."""
    columns = {"t": "text", "i": "integer", "n": "number", "b": "boolean", "at": "timestamp", "j": "json"}
    event = rb"""{"t":"it's \\ ","i":-1,"n":0.1,"b":true,"at":-1,"j":{"a":"'"}}"""
    (statement,) = encoder(columns).statements(event + b"\n{}\n", "f" * 32)
    assert statement == (
        b"INSERT INTO `events` (`t`, `i`, `n`, `b`, `at`, `j`, `event`, `batch_id`) VALUES "
        rb"""('it''s \ ',-1,0.1,1,'1969-12-31 23:59:59.999000','{"a":"''"}',"""
        rb"""'{"t":"it''s \\ ","i":-1,"n":0.1,"b":true,"at":-1,"j":{"a":"''"}}','""" + b"f" * 32 + b"'),"
        b"(NULL,NULL,NULL,NULL,NULL,NULL,'{}','" + b"f" * 32 + b"')"
    )


def test_statements_stay_within_a_packet_and_keep_the_order():
    """Whatever the sizes, each statement fits, none is empty, and together they are the batch."""
    lines = [b'{"n":%d,"x":"%b"}' % (n, b"y" * (n * 997 % 5000)) for n in range(700)]
    body = b"".join(line + b"\n" for line in lines)
    assert len(body) > 2 * BLOCK
    for packet in (8_000, 100_000, 1 << 24):
        made = list(encoder({}, packet).statements(body, "0" * 32))
        assert max(map(len, made)) <= packet
        assert [found for each in made for found in re.findall(rb"'(\{.*?\})'", each)] == lines
    assert list(encoder({}).statements(b"", "0" * 32)) == []


def test_an_event_that_no_packet_holds_is_refused():
    """With its size and the server's limit; the events before it may have been sent, but not committed."""
    with pytest.raises(BatchRejected, match=r"about 9,\d\d\d bytes .* max_allowed_packet is 8,000"):
        list(encoder({}, 8_000).statements(b'{}\n{"x":"' + b"y" * 9_000 + b'"}\n', "0" * 32))


def test_values_of_columns_that_the_table_lacks_are_counted():
    """They are left out of the statement; what is NULL anyway is not counted."""
    one = encoder({"a": "integer", "b": "text"}, lacking="b")
    (statement,) = one.statements(b'{"a":1,"b":"x"}\n{"a":"?","b":null}\n', "0" * 32)
    assert b"(`a`, `event`" in statement
    assert (one.left_out, one.misfits) == ({"b": 1}, {"a": 1})
