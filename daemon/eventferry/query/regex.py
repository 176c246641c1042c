"""Patterns of strangers, searched in linear time (RE2), with bounds on their length, memory and program."""

from collections.abc import Callable

MAX_LENGTH = 1_000
_MAX_MEMORY = 2 * 1024 * 1024
_MAX_PROGRAM = 3_000  # instructions; the worst pattern costs a few nanoseconds for each and each byte of text


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """Whether a text holds a match anywhere. Raises ValueError that names the pattern and what is wrong with it."""
    import re2  # here: native code that most filters do without

    shown = repr(pattern[:80])
    if len(pattern) > MAX_LENGTH:
        raise ValueError(f"{shown}… is too long; a pattern has at most {MAX_LENGTH:,} characters")
    options = re2.Options()
    options.max_mem, options.log_errors, options.never_capture = _MAX_MEMORY, False, True
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        raise ValueError(f"{shown} is no pattern (RE2 syntax): {_reason(error)}") from None
    except UnicodeEncodeError:
        raise ValueError(f"{shown} holds half a character") from None
    if compiled.programsize > _MAX_PROGRAM:
        raise ValueError(f"{shown} is too large; shorten it, or its repetitions")
    search = compiled.search

    def found(text: str) -> bool:
        try:
            return search(text.encode()) is not None  # bytes spare it the positions in characters
        except UnicodeEncodeError:
            return False  # half a character: no event that was read holds one

    return found


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else error
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
