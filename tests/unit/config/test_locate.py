"""Keys are found on the line where they stand."""

import tomllib

from hypothesis import given, settings
from hypothesis import strategies as st

from eventferry.config.locate import Locator

TEXT = '''# comment
state_dir = "/x"
[ledger]
"retention" = "1d"  # not = this
log.level = "x"
[[sources]]
name = "a"
include = [
  "b = c",  # [d]
  "[[sources]]",
]
[sources.s3]
region = "r"
[[sources]]
note = """
name = "no"
[sinks]
\\""" """
'literal' = 5
s3 = {region = "x", "y z" = {a = 1}}
[alerts]
digest = ""
[[alerts.channels]]
type = \'\'\'
[x]\'\'\'
[[alerts.channels]]
type = "t"
'''


def test_keys_of_tables_and_arrays_of_tables_are_found() -> None:
    """Multi-line texts and arrays hide nothing and pretend nothing."""
    tomllib.loads(TEXT)
    locate = Locator(TEXT).line
    assert locate(("state_dir",)) == 2
    assert locate(("ledger", "retention")) == 4
    assert locate(("ledger", "log", "level")) == 5
    assert locate(("sources", 0, "name")) == 7
    assert locate(("sources", 0, "include", 1)) == 8
    assert locate(("sources", 0, "s3", "region")) == 13
    assert locate(("sources", 1)) == 14
    assert locate(("sources", 1, "literal")) == 19
    assert locate(("sources", 1, "s3", "region")) == 20
    assert locate(("alerts", "channels", 0, "type")) == 24
    assert locate(("alerts", "channels", 1, "type")) == 27
    assert locate(("sources", 1, "name")) == 14
    assert locate(("nowhere",)) is None
    assert locate(()) is None


@settings(deadline=None)
@given(st.text(alphabet="ab[]{}=.\"'\\#\n ", max_size=60))
def test_no_text_confuses_it_into_failing(text: str) -> None:
    """A place is a help, never a second failure."""
    Locator(text).line(("a", 0, "b"))
