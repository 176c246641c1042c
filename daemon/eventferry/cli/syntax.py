"""Adds to a mistake in TOML what to write instead."""

import re

# What the parser says, and what people usually meant.
_REMEDIES = (
    ("The list .* is not closed", "a list ends with ]"),
    ("A value is missing", 'write one, "" for an empty text'),
    ("Invalid value", 'texts stand in double quotes ("…"), true and false are written small'),
    ("Expected '=' after a key", "write key = value, one on a line"),
    ("Expected newline or end of document", "one key = value on a line; texts stand in double quotes as a whole"),
    ("Cannot overwrite a value|Duplicate inline table key", "this key is written twice; remove one of them"),
    ("Cannot declare", "this table is written twice; sources and sinks are lists: [[sources]], [[sinks]]"),
    ("Cannot mutate|Cannot define", "this name is a value and a table at once; remove one of them"),
    (r"Expected '\]+' at the end of an? (table|array)", "a table is [name], an entry of a list is [[name]]"),
    ("Unclosed array", "commas stand between the entries of a list, and it ends with ]"),
    ("Unclosed inline table", "an inline table ends with } on the same line"),
    ("Illegal character|Unterminated string|Expected .* found", "a text ends with the quote that it begins with"),
    ("Unescaped|escape", "in double quotes a backslash is written twice, or take single quotes"),
    (
        "Invalid initial character|Invalid statement|Empty key",
        "write key = value, # before a comment, [name] for a table",
    ),
)
_OTHERWISE = "`eventferry config example` shows how everything is written"


def with_remedy(problem: str) -> str:
    """The problem, with a remedy where it is one of TOML's syntax that has none yet."""
    said = re.search(r": is not TOML: (.*)", problem, re.DOTALL)
    if said is None:
        return problem
    found = (remedy for pattern, remedy in _REMEDIES if re.search(pattern, said[1]))
    return f"{problem}: {next(found, _OTHERWISE)}"
