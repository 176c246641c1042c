"""Says more exactly than the parser does what is wrong in the syntax of a TOML text."""

import re
import tomllib

# What stands in no list: a header, or a key with its value.
_ENTRY = re.compile(r"""\s*(?:\[+[\w."' -]+\]+|[\w."'-]+\s*=.*)\s*(?:#.*)?""")
_LOOK_BACK = 200  # lines: no list of a configuration is longer


def explain(text: str, line: int, column: int, said: str) -> str:
    """What the parser said of this place, or what it could not know: that a value is missing, or a list never ends."""
    if said != "Invalid value":
        return said
    lines = text.split("\n")
    here = lines[line - 1]
    before, after = here[: column - 1], here[column - 1 :].strip()
    if begun := _open_list(lines, line, is_entry=not after or _ENTRY.fullmatch(here) is not None):
        return f"The list that begins in line {begun} is not closed"
    if before.rstrip().endswith("=") and (not after or after.startswith("#")):
        return "A value is missing after ="
    return said


def _open_list(lines: list[str], line: int, *, is_entry: bool) -> int | None:
    """The line in which a list begins that the entry of this line, or the end of the text, stands in."""
    above = "\n".join(lines[: line - 1])
    at_end = not "".join(lines[line:]).strip()
    for read in (above, "\n".join(lines[:line])) if at_end else (above,):
        if is_entry and any(_is_toml(f"{read}\n0{end}") for end in ("]", "]]", "]]]")):
            for start in range(line, max(0, line - _LOOK_BACK), -1):
                if _is_toml("\n".join(lines[: start - 1])):
                    return start
    return None


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
