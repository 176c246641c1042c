"""A configuration is either right as a whole or refused with every mistake at once."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventferry.config import ConfigMistakes, Redactor, load, load_text
from eventferry.errors import ConfigError

SOURCE = '[[sources]]\nname = "events"\nurl = "/srv"\n'
S3 = '[[sources]]\nname = "a"\nurl = "s3://b/p"\n'
GCS = '[[sources]]\nname = "a"\nurl = "gs://b/p"\n'
AZURE = '[[sources]]\nname = "a"\nurl = "azure://c/p"\n'
SINK = '[[sinks]]\nname = "out"\ntype = "console"\n'


def problems(text: str, **more: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, **{"environ": {}, "check_sinks": False} | more)
    return list(caught.value.problems)


def problem(text: str, **more: Any) -> str:
    [only] = problems(text, **more)
    return only


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (SOURCE + 'interval = "10"', 'config.toml:4: sources[0].interval: \'10\' is not a duration; write "30s",'),
        (SOURCE + "interval = 10", "config.toml:4: sources[0].interval: 10 has no unit; write"),
        (SOURCE + 'interval = "0s"', "sources[0].interval: must be longer than nothing"),
        (SOURCE + 'intervall = "1m"', 'config.toml:4: sources[0].intervall: unknown key; did you mean "interval"?'),
        ("sorces = 1", 'config.toml:1: sorces: unknown key; did you mean "sources"?'),
        ("[log]\nlevl = 1", 'config.toml:2: log.levl: unknown key; did you mean "level"?'),
        ('[log]\nlevel = "warn"', "log.level: 'warn' is not known; write \"debug\" or \"info\" or"),
        ('enabled = "yes"', "config.toml:1: enabled: 'yes' is neither true nor false"),
        (SOURCE + "max_files = 0", "max_files: 0 is too small; write 1 or more"),
        (SOURCE + "max_files = 100001", "max_files: 100001 is too large; write 100000 or less"),
        (SOURCE + 'max_files = "5"', "max_files: '5' is not a whole number"),
        (SOURCE + "max_files = true", "max_files: True is not a whole number"),
        (SOURCE + 'include = "**"', "include: '**' is not a list; write"),
        (SOURCE + 'include = ["/a"]', "include[0]: '/a' matches no key"),
        (SOURCE + "bad_share = 2", "bad_share: 2 is too large"),
        (SOURCE + 'max_line = "1M"', "max_line: '1M' is not a size; write"),
        (SOURCE + 'start = "yesterday"', "start: 'yesterday' is not a start; write \"earliest\""),
        (SOURCE + 'start = "2024-02-30"', "start: '2024-02-30' is not a start"),
        (SOURCE + 'timezone = "Europe/Berln"', "'Europe/Berln' is not a time zone; did you mean 'Europe/Berlin'?"),
        (SOURCE + 'cron = "61 * * * *"', "cron: '61' is not a cron minute; it goes from 0 to 59"),
        (SOURCE + 'cron = "0 6 * * *"\ninterval = "5m"', "config.toml:4: sources[0].cron: interval and cron exclude"),
        (SOURCE + 'key_pattern = "("', "is not a regular expression"),
        (SOURCE + 'key_pattern = "(?P<day>x)"', "names the unknown group 'day'; groups are date, tenant"),
        (SOURCE + 'time_field = ["a..b"]', "time_field[0]: 'a..b' has an empty key"),
        (SOURCE + 's3 = {region = "x"}', "sources[0].s3: goes with an s3:// url only, and the url is '/srv'"),
        ('[[sources]]\nname = "A B"\nurl = "/x"', "config.toml:2: sources[0].name: 'A B' is not a name; use a-z"),
        ('[[sources]]\nurl = "/x"', "config.toml:1: sources[0].name: is missing; give it one that stays"),
        ('[[sources]]\nname = "a"', "sources[0].url: is missing; write url ="),
        ('[[sources]]\nname = "a"\nurl = "events"', "'events' is a relative path"),
        ('[[sources]]\nname = "a"\nurl = "ftp://b/p"', "'ftp://b/p' is not a place that eventferry can read"),
        ('[[sources]]\nname = "a"\nurl = "gcs://b/p"', "'gcs://b/p' is written otherwise here; write gs://bucket"),
        ('[[sources]]\nname = "a"\nurl = "abfss://c@x/p"', "'abfss://…' is written otherwise here; write azure://"),
        ('[[sources]]\nname = "a"\nurl = "https://x.blob.core.windows.net/c"', "write azure://container/prefix"),
        (SOURCE + 'gcs = {user_project = "x"}', "sources[0].gcs: goes with a gs:// url only, and the url is '/srv'"),
        (SOURCE + 'azure = {client_id = "x"}', "sources[0].azure: goes with an azure:// url only, and the url is"),
        (AZURE + "azure = {account_key = 'k', sas_token = 't'}", "says twice who asks; give connection_string"),
        (AZURE + "azure = {account_url = 'https://a/?sig=abcdef'}", "put that into sas_token"),
        (AZURE + "azure = {account_url = 'account'}", "write \"https://ACCOUNT.blob.core.windows.net\""),
        (AZURE + "azure = {account = 'a'}", "sources[0].azure.account: unknown key; did you mean"),
        (GCS + "gcs = {anonymous = true, credentials_file = '/x'}", "says twice who asks; give credentials_file, or"),
        (GCS + "gcs = {credentials = '/x'}", "unknown key; did you mean \"credentials_file\"?"),
        (S3 + "s3 = {role_arn = 'reader'}", "'reader' is not the name of a role; write \"arn:aws:iam::"),
        (S3 + "s3 = {external_id = 'x'}", "s3.external_id: goes with role_arn only; write role_arn, or remove it"),
        (S3 + "s3 = {role_arn = 'arn:aws:iam::1:role/r', anonymous = true}", "nobody assumes a role anonymously"),
        (SOURCE + "reads = 0", "sources[0].reads: 0 is too small; write 1 or more"),
        ('[[sources]]\nname = "a"\nurl = "http://u:hidden@h/"', "'http://…' is not a place"),
        ('[[sources]]\nname = "a"\nurl = "s3://b"\ns3.access_key = "AKIA"', "s3.secret_key: is missing; access_key"),
        ('[[sources]]\nname = "a"\nurl = "s3://b"\ns3 = {profile = "p", anonymous = true}', "says twice who asks"),
        (SOURCE + SOURCE, "config.toml:5: sources[1].name: 'events' is the name of sources[0] already"),
        ('[sources]\nname = "a"', "sources: is one table where a list of tables is expected; write [[sources]]"),
        ("[[log]]", "log: is a list where one table is expected; write [log] in single brackets"),
        ("log = 5", "log: 5 is not a table; write [log]"),
        ("log = 1\nlog.level = 2", "config.toml:2:"),
        (SOURCE + SINK + 'sources = ["evnts"]', "sinks[0].sources[0]: there is no source 'evnts'; did you mean"),
        (SOURCE + SINK + 'start = {evens = "latest"}', "sinks[0].start.evens: there is no source 'evens'"),
        (SOURCE + SINK + 'start = {events = "last"}', "sinks[0].start.events: 'last' is not a start"),
        (SINK + 'filter = [{field = "a", is = 1}]', "config.toml:4: sinks[0].filter[0].is: is no operator"),
        (SINK + 'redact = {a = "hide"}', "sinks[0].redact.a: 'hide' is no action"),
        (SINK + 'retry = {first = "1h", max = "1m"}', "sinks[0].retry.first: is longer than retry.max"),
        (SINK + "[sinks.batch]\nmax_bytes = 5", "config.toml:5: sinks[0].batch.max_bytes: 5 has no unit"),
        (SINK + 'renamed_from = "out"', "sinks[0].renamed_from: 'out' is still the name of sinks[0]"),
        ('exports.directory = "exports"', 'write an absolute path such as "/srv/exports", or "s3://bucket/prefix"'),
        ('exports.directory = "s3://"', "'s3://' is not a place that exports can be put to"),
        ('exports.directory = "gs://b/p"', "exports.directory: 'gs://b/p' is not a place that exports can be put to"),
        ('exports.directory = "s3://b/a/../c"', "the prefix holds an empty step"),
        ('exports.directory = "s3://u:hidden@b/p"', "'s3://…' holds credentials; they belong to [exports.s3]"),
        ("exports.directory = 5", "exports.directory: 5 is not a place for exports; write an absolute path"),
        ('api.trusted_proxies = ["local"]', "api.trusted_proxies: 'local' is not the address or the network of"),
        ('api.trusted_proxies = ["::1", "10.1.0.1/16"]', "'10.1.0.1/16' is not the address or the network of a proxy"),
        ('api.trusted_proxies = ["*", "::1"]', 'write "127.0.0.1", "10.1.0.0/16" or, alone, "*"'),
        ('exports.s3.region = "x"', "exports.s3: goes with an s3:// directory only"),
        ('[exports]\ndirectory = "s3://b"\ns3.access_key = "AKIA"', "exports.s3.secret_key: is missing; access_key"),
        ('state_dir = "state"', "state_dir: 'state' is a relative path"),
        ('[ledger]\nurl = "postgresql://u:hidden@h/db"', "ledger.url: a ledger on 'postgresql' is not supported"),
        ('[ledger]\nurl = "sqlite:///x.db"', "names no absolute file; write \"sqlite:////var"),
        ('[alerts]\ndigest = "8"', "alerts.digest: '8' is not a time of day; write \"08:00\""),
        ('[alerts]\nping_url = "hidden"', "alerts.ping_url: its value, which is not shown because it is a secret"),
        ('[[alerts.channels]]\nurl = "x"', "alerts.channels[0].type: is missing"),
        ('[[alerts.channels]]\ntype = "slack"\n[[alerts.channels]]\ntype = "slack"', "'slack' is the name of chann"),
        ("a = ", "config.toml:1:5: is not TOML: A value is missing after = (line 1, column 5)"),
        ("a = hello", "config.toml:1:5: is not TOML: Invalid value (line 1, column 5)"),
        ("a = [hello]", "config.toml:1:6: is not TOML: Invalid value (line 1, column 6)"),
        ("a = 1\nx = [\n", "config.toml:2:6: is not TOML: The list that begins in line 2 is not closed"),
        ("x = [\n  1,\n[[sinks]]\n", "config.toml:3:3: is not TOML: The list that begins in line 1 is not closed"),
        ('x = [\n  1,\nname = "a"\n', "config.toml:3:1: is not TOML: The list that begins in line 1 is not closed"),
        ("a = 1\nb = [1,\n", "config.toml:2:8: is not TOML: "),
        ("a = 1\na = 2", "config.toml:2:6: is not TOML: Cannot overwrite a value"),
        ("a = " + "[" * 5000, "config.toml: is nested too deeply"),
        ("a = " + "9" * 5000, "config.toml: is not TOML"),
    ],
)  # fmt: skip
def test_each_mistake_is_a_sentence_with_place_value_and_remedy(text: str, sentence: str) -> None:
    """File, line, key, value, remedy; one mistake is told once, and no secret in it."""
    said = problem(text)
    assert sentence in said
    assert said.startswith("config.toml")
    assert "hidden" not in said


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    """One run of `check` is enough to mend a file."""
    text = (
        'enabled = 1\n[log]\nlevel = "x"\n' + SOURCE + "interval = 1\n" + SOURCE + SINK + 'sources = ["z"]\nstart = 5\n'
    )
    said = problems(text)
    lines = [int(each.split(":")[1]) for each in said]
    assert lines == [1, 3, 7, 9, 14, 15]


def test_options_of_a_sink_type_are_checked_by_the_type_and_placed() -> None:
    """A slip in a key of the sink's type, or of every sink, is told with its line and the key that was meant."""
    said = problems(SINK.replace("console", "file") + 'pth = "/x"\nconcurency = 2\n', check_sinks=True)
    assert any(each.startswith("config.toml:4: sinks[0].pth: unknown key; did you mean 'path'") for each in said)
    assert 'config.toml:5: sinks[0].concurency: unknown key; did you mean "concurrency"?' in said
    assert "config.toml:3: sinks[0].type: " in problem(SINK.replace("console", "fil"), check_sinks=True)


def test_a_disabled_sink_needs_no_installed_type() -> None:
    """A sink that is switched off does not keep the rest from starting."""
    assert load_text(SINK.replace("console", "gone") + "enabled = false", environ={}).sinks[0].enabled is False


def test_channels_are_checked_by_the_maker_that_is_handed_in() -> None:
    """The alerts' own checks join the list of mistakes with their line."""

    def make(type: str, name: str, options: Any) -> None:
        assert options == {"url": "x"}
        raise ConfigError(f"alerts.channels.{name}.url: is not a URL", f"{type} is odd")

    said = problems('[[alerts.channels]]\nname = "c"\ntype = "slack"\nurl = "x"\n', make_channel=make)
    assert said == [
        "config.toml:3: alerts.channels[0].type: slack is odd",
        "config.toml:4: alerts.channels[0].url: is not a URL",
    ]


def test_a_type_that_raises_anything_is_a_mistake_without_secrets() -> None:
    """A plugin's exception is told, its text with known secrets blotted out."""

    def make(type: str, name: str, options: Any) -> None:
        raise RuntimeError(f"cannot use {options['token']}")

    text = '[[alerts.channels]]\ntype = "x"\ntoken = "s3cr3t-value"\n'
    assert problem(text, make_channel=make, redactor=Redactor()).endswith(
        "type 'x' raised RuntimeError: cannot use ***"
    )


def test_missing_secrets_are_mistakes_too() -> None:
    """They are told once each, with the name of what is missing."""
    said = problems('[[alerts.channels]]\ntype = "slack"\nurl = "${env:SLACK_URL}"\nlevel = "${env:LEVEL}"\n')
    assert len(said) == 2
    assert (
        "config.toml:3: alerts.channels[0].url: ${env:SLACK_URL}: the environment variable SLACK_URL is not set"
        in said[0]
    )


def test_secrets_are_hidden_everywhere(tmp_path: Path) -> None:
    """Neither show, nor repr, nor a difference, nor a log line that goes through the redactor names one."""
    (tmp_path / "key").write_text("from-a-file\n")
    text = f"""
instance = "${{env:PLAIN}}"
[alerts]
ping_url = "https://ping.example.com/literal-ping"
[[alerts.channels]]
type = "slack"
url = "https://hooks.example.com/literal-hook"
[[sources]]
name = "a"
url = "s3://${{env:PLAIN}}/x"
s3 = {{access_key = "literal-id", secret_key = "${{file:{tmp_path}/key}}"}}
[[sources]]
name = "b"
url = "azure://container/x"
azure.connection_string = "AccountName=account;AccountKey=literal-account;EndpointSuffix=x"
[[sources]]
name = "c"
url = "azure://container/x"
azure = {{account_url = "https://a.blob.core.windows.net", sas_token = "sig=literal-token"}}
[[sources]]
name = "d"
url = "gs://bucket/x"
gcs = {{credentials_file = "/etc/gcs.json"}}
[[sources]]
name = "e"
url = "s3://bucket/x"
s3 = {{role_arn = "arn:aws:iam::1:role/r", external_id = "literal-trust"}}
[[sinks]]
name = "lake"
type = "object_store"
url = "s3://bucket/x"
s3 = {{role_arn = "arn:aws:iam::1:role/r", external_id = "literal-trust-of-a-sink"}}
[[sinks]]
name = "k"
type = "http"
url = "https://x/${{env:TOKEN}}"
headers = {{X-Any = "literal-header"}}
external_id = "visitor.id"
redact = {{"user.token" = "hash"}}
redact_salt = "literal-salt"
"""
    redactor = Redactor()
    environ = {"PLAIN": "production", "TOKEN": "from-the-environment"}
    config = load_text(text, environ=environ, check_sinks=False, redactor=redactor)
    other = load_text(text.replace("literal-salt", "literal-pepper"), environ=environ, check_sinks=False)
    hidden = ["literal-", "from-a-file", "from-the-environment"]
    changes = config.diff(config, other)
    for shown in (config.show(), repr(config), str(changes)):
        assert not [each for each in hidden if each in shown]
    assert changes == ["sinks.k.redact_salt: changed"]
    assert 'credentials_file = "/etc/gcs.json"' in config.show()
    for value in (
        "literal-ping",
        "literal-hook",
        "literal-salt",
        "literal-header",
        "literal-account",
        "literal-token",
        "literal-trust",
        "literal-trust-of-a-sink",
        "from-a-file",
        "from-the-environment",
    ):
        full = {"literal-ping": "https://ping.example.com/literal-ping", "literal-hook": "/literal-hook"}.get(
            value, value
        )
        assert value not in redactor.redact(f"x {full} x")
    assert "production" in config.show()
    assert 'external_id = "visitor.id"' in config.show()  # anybody's option of that name; the one of a role is in s3
    assert redactor.redact("production hash") == "production hash"
    assert config.sources[0].store_spec()[1] == {"access_key": "literal-id", "secret_key": "from-a-file"}
    assert config.sinks[1].options["url"] == "https://x/from-the-environment"
    assert config.sinks[1].transform().salt == b"literal-salt"


def test_secrets_in_literal_urls_are_hidden() -> None:
    """Passwords and values of queries, in the options of everything, in the text, the data and the changes."""
    text = (
        '[alerts]\nping_url = "https://ping/x?k=QSECRET1"\n'
        '[[alerts.channels]]\ntype = "mail"\nserver = "smtp://robot:QSECRET2@mail/"\n'
        + SOURCE.replace("/srv", "s3://bucket/prefix?sig=QSECRET3")
        + '[[sinks]]\nname = "bi"\ntype = "http"\nurl = "https://x/events?api_key=QSECRET4&page=QSECRET5#top"\n'
        + 'mirrors = ["https://ann:QSECRET6@y/a", "https://QSECRET7@z/", "https://ann@x:QSECRET9@z/"]\n'
        + 'endpoint = "x/y?token=QSECRET8"\n'
        + 'filter = [{field = "url", eq = "https://shop/?page=1"}]\n'
    )
    redactor = Redactor()
    config = load_text(text, environ={}, check_sinks=False, redactor=redactor)
    for shown in (config.show(), str(config.to_toml_dict())):
        assert "QSECRET" not in shown
        assert "https://x/events?api_key=***&page=***#top" in shown
        assert "https://ann:***@y/a" in shown
        assert "https://shop/?page=1" in shown
    assert config.sinks[0].options["url"].endswith("api_key=QSECRET4&page=QSECRET5#top")
    assert redactor.redact("QSECRET2 QSECRET4 QSECRET6") == "*** *** ***"
    other = load_text(text.replace("QSECRET5", "other"), environ={}, check_sinks=False)
    assert config.diff(config, other) == ["sinks.bi.url: changed"]


def test_an_address_without_secrets_is_shown_as_it_is() -> None:
    """A port, a user of a database, an @ in a path and a pattern with a question mark hide nothing."""
    for plain in ("https://x:8080/a@b", "postgresql://ann@db/events", "sqlite:////var/x.db", "/srv/what?/x"):
        config = load_text(SOURCE + SINK + f'place = "{plain}"\n', environ={}, check_sinks=False)
        assert config.to_toml_dict()["sinks"][0]["place"] == plain
        assert config.to_toml_dict()["sources"][0]["key_pattern"] == config.sources[0].key_pattern


def test_an_option_that_is_not_accepted_is_told_in_a_sentence() -> None:
    """Value, what is wrong with it, and what would be right."""
    text = '[[sinks]]\nname = "out"\ntype = "file"\npath = "/x"\ncompression = "gz"\n'
    said = problem(text, check_sinks=True)
    assert said.endswith("sinks[0].compression: 'gz' is not accepted; expected 'none', 'gzip' or 'zstd'")


def test_defaults_and_forms_of_values() -> None:
    """A short file is enough; dates may be written as text or as TOML dates."""
    config = load_text(SOURCE + "start = 2024-01-31\n" + SINK + 'start = {events = "2024-02-01"}\n', environ={})
    source, sink = config.sources[0], config.sinks[0]
    assert source.start == dt.date(2024, 1, 31)
    assert source.says_start
    assert sink.start_of("events") == dt.date(2024, 2, 1)
    assert sink.start_of("other") == "earliest"
    assert sink.takes("events")
    assert sink.transform().is_identity
    assert source.interval == dt.timedelta(minutes=10)
    assert config.ledger_url == "sqlite:////var/lib/eventferry/ledger.db"
    assert config.source("events") is source
    assert config.sink("out") is sink
    assert config.execution.processes >= 1
    assert load_text("", environ={}).sources == ()
    assert load_text("[execution]\nprocesses = 0", environ={}).execution.processes == 0


def test_systemd_names_the_state_directory() -> None:
    """$STATE_DIRECTORY counts where the file is silent."""
    assert load_text("", environ={"STATE_DIRECTORY": "/a:/b"}).state_dir == Path("/a")
    assert load_text('state_dir = "/c"', environ={"STATE_DIRECTORY": "/a"}).state_dir == Path("/c")


def test_cron_replaces_the_interval() -> None:
    """The scheduler is given cron's meaning of weekdays, and what is shown can be loaded again."""
    config = load_text(SOURCE + 'cron = "0 6 * * 1"\n', environ={})
    assert config.sources[0].scheduler_cron == "0 6 * * mon"
    assert load_text(config.show(), environ={}) == config


def test_a_schedules_letters_go_to_addresses_that_exporting_takes() -> None:
    """What would fail every night is refused when it is written: each address by its place, and too many."""
    channel = '[[alerts.channels]]\ntype = "email"\nhost = "h"\nfrom = "a@b.c"\nto = ["a@b.c"]\n'
    schedule = channel + '[[exports.schedules]]\nname = "nightly"\ncron = "0 1 * * *"\nemail = '
    assert load_text(schedule + '["ana@example.org"]\n', environ={}).exports.schedules[0].email == ("ana@example.org",)
    with pytest.raises(ConfigError, match=r"exports\.schedules\[0\]\.email\[1\]: 'boss' is not an e-mail address"):
        load_text(schedule + '["ana@example.org", "boss"]\n', environ={})
    with pytest.raises(ConfigError, match="11 addresses are more than 10"):
        load_text(schedule + str([f"n{each}@example.org" for each in range(11)]) + "\n", environ={})


def test_what_is_shown_is_a_configuration() -> None:
    """`config show` of a file without secrets loads as the same configuration."""
    text = (
        'instance = "quotes \\" and \\u007f é"\n' + SOURCE + "bad_share = 0.25\ntime_field = 'a.b'\n" + SINK
        + 'filter = {or = [{field = "a", in = [1, "x", true, 1.5]}]}\nredact = {"a.b" = "hash"}\n'
        + 'start = {events = "latest"}\nheaders = {"x y" = 5}\n[sinks.batch]\nmax_bytes = "3MB"\n'
    )  # fmt: skip
    config = load_text(text, environ={}, check_sinks=False)
    again = load_text(config.show().replace("***", "5"), environ={}, check_sinks=False)
    assert again == config
    assert again.fingerprint() == config.fingerprint()
    assert again.sinks[0].fingerprint() == config.sinks[0].fingerprint()


def test_differences_are_sentences_by_name() -> None:
    """A reload says what it changes: order does not matter, a rename is no removal."""
    old = load_text(SOURCE + SINK + SINK.replace("out", "gone"), environ={})
    new = load_text(
        SINK.replace("out", "renamed") + 'renamed_from = "out"\nconcurrency = 1\n[sinks.retry]\nfirst = "2s"\n'
        + SINK.replace("out", "warehouse") + SOURCE + 'interval = "5m"\nmarker = "_SUCCESS"\ninclude = ["*.gz"]\n'
        + '[log]\nlevel = "debug"\n',
        environ={},
    )  # fmt: skip
    assert sorted(old.diff(old, new)) == [
        "log.level: info → debug",
        "sinks.gone: removed",
        "sinks.renamed.retry.first: 1s → 2s",
        "sinks.renamed: renamed from out",
        "sinks.warehouse: added",
        'sources.events.include: ["**"] → ["*.gz"]',
        "sources.events.interval: 10m → 5m",
        "sources.events.marker: not set → _SUCCESS",
    ]
    assert old.diff(old, old) == []


def test_a_place_can_be_named_by_others() -> None:
    """Checks outside the configuration begin their sentences as it does."""
    config = load_text(SOURCE, "/etc/x.toml", environ={})
    assert config.place("sources", 0, "url") == "/etc/x.toml:3: sources[0].url"


def test_files_that_are_no_configuration_are_refused(tmp_path: Path) -> None:
    """Missing, unreadable, binary and huge files are one sentence each; a byte order mark is no fault."""
    path = tmp_path / "config.toml"
    with pytest.raises(ConfigError, match="there is no such file; `eventferry init` writes one"):
        load(path)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)
    path.write_bytes(b"a = 1\n\xff = 2")
    with pytest.raises(ConfigError, match=r"config.toml:2: is not UTF-8 text"):
        load(path)
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        load(path)
    path.write_bytes(b"\xef\xbb\xbfinstance = 'bom'\r\n")
    assert load(path, environ={}).instance == "bom"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("${env:X}"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["name", "url", "type", "start", "filter", "redact", "batch", "s3", "events", "field", "channels", "retry"]
    ), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def as_text(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {as_text(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_text, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(each if each.isalnum() or each in "${:}" else "_" for each in value) + '"'
    return "0" if value is None else str(value)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["sources", "sinks", "alerts", "log", "ledger", "instance"]), values))
def test_no_file_makes_it_fail_otherwise(data: dict[str, Any]) -> None:
    """Whatever TOML holds, the answer is a configuration or sentences."""
    text = "".join(f"{key} = {as_text(value)}\n" for key, value in data.items())
    try:
        load_text(text, environ={}, check_sinks=False, redactor=Redactor())
    except ConfigMistakes as error:
        assert error.problems
    except ConfigError as error:
        assert "is not TOML" in str(error)


@pytest.mark.parametrize("proxies", [(), ("*",), ("127.0.0.1", "10.1.0.0/16", "fd00::/8")])
def test_proxies_are_addresses_networks_or_whoever_connects(proxies: tuple[str, ...]) -> None:
    """As the server understands them; none at all means that no proxy is believed."""
    text = f"[api]\ntrusted_proxies = {list(proxies)}\n"
    assert load_text(text, environ={}).api.trusted_proxies == proxies


def test_exports_may_go_to_a_bucket_and_its_secrets_are_hidden() -> None:
    """The working folder is in the state directory then; what is shown reads back as the same place."""
    text = 'state_dir = "/v"\n[exports]\ndirectory = "s3://bucket/pre/fix/"\n[exports.s3]\nregion = "r-1"\n'
    text += 'access_key = "literal-id"\nsecret_key = "literal-secret"\n'
    config = load_text(text, environ={})
    assert config.exports.folder(config.state_dir) == Path("/v/exports")
    keys = {"region": "r-1", "access_key": "literal-id", "secret_key": "literal-secret"}
    assert config.exports.bucket_spec() == ("s3://bucket/pre/fix", keys)
    for shown in (config.show(), repr(config)):
        assert "literal-" not in shown
    again = load_text(config.show(), environ={})
    assert again.exports.bucket_spec()[0] == "s3://bucket/pre/fix"
    other = load_text(text.replace("literal-secret", "another-secret"), environ={})
    assert config.diff(config, other) == ["exports.s3.secret_key: changed"]
    local = load_text('[exports]\ndirectory = "/srv/exports"', environ={})
    assert (local.exports.folder(Path("/v")), local.exports.bucket_spec()) == (Path("/srv/exports"), None)
