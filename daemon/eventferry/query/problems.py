"""What is wrong with a written query: problems with their places, gathered up to a limit."""

import difflib
import math
import reprlib
from collections.abc import Iterable, Sequence

Where = tuple[str | int, ...]
Problem = tuple[Where, str]

MAX_COMPARISONS = 1_000
MAX_DEPTH = 50
MAX_VALUES = 10_000  # of one list of values
MAX_PATTERNS = 20
MAX_KEYS = 50
MAX_PATH = 1_000  # characters

_MAX_PROBLEMS = 20  # who sends 10,000 mistakes is told the first few
_MAX_STEP = 100


class QueryError(ValueError):
    """What was written is no query. `problems` holds (place inside it, sentence) pairs."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple((tuple(map(_cut, where)), text) for where, text in problems)
        super().__init__("; ".join(f"{dotted(where)}: {text}" if where else text for where, text in self.problems))


class Findings:
    """What a parser finds out about one query: its problems, and how large it is."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._comparisons = 0
        self._patterns = 0

    def add(self, where: Where, text: str) -> None:
        """One problem more. Raises QueryError with all of them when there are many."""
        self.problems.append((where, text))
        if len(self.problems) == _MAX_PROBLEMS:
            raise QueryError(self.problems)

    def count_comparison(self, where: Where) -> None:
        """Raises QueryError, at once, beyond the limit."""
        self._comparisons += 1
        if self._comparisons > MAX_COMPARISONS:
            raise QueryError([(where, f"is one comparison too many: a filter holds at most {MAX_COMPARISONS:,}")])

    def count_pattern(self, where: Where) -> None:
        """Raises QueryError, at once, beyond the limit."""
        self._patterns += 1
        if self._patterns > MAX_PATTERNS:
            raise QueryError([(where, f"is one pattern too many: a filter holds at most {MAX_PATTERNS} with regex")])

    def check_depth(self, depth: int, where: Where) -> None:
        """Raises QueryError, at once, beyond the limit."""
        if depth > MAX_DEPTH:
            raise QueryError([(where, f"is nested too deeply: a filter is at most {MAX_DEPTH} levels deep")])

    def end(self) -> None:
        """Raises QueryError if there was any problem."""
        if self.problems:
            raise QueryError(self.problems)


def dotted(where: Where) -> str:
    """A place as people write it: `or[0].field`."""
    text = ""
    for step in where:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def shown(value: object) -> str:
    """A value for a message, cut short however large or deep it is."""
    return _repr.repr(value)


def meant(word: str, choices: Iterable[str]) -> str:
    """`; did you mean "eq"?` where one of the choices is close to the word, else ""."""
    close = difflib.get_close_matches(word[:40], list(choices), 1)
    return f'; did you mean "{close[0]}"?' if close else ""


def fault_of_text(text: str) -> str:
    """Why no event can hold this text; "" for most."""
    return "" if text.isascii() or not _has_surrogate(text) else f"{shown(text)} holds half a character"


def fault_of_number(value: float) -> str:
    """Why no event can hold this number; "" for most."""
    return "" if math.isfinite(value) else f"{value!r} is no JSON number"


def fault_of_path(keys: Sequence[str]) -> str:
    """What is wrong with the keys of a path; "" where nothing is."""
    if len(keys) > MAX_KEYS:
        return f"has {len(keys):,} keys; a path has at most {MAX_KEYS}"
    if sum(map(len, keys)) > MAX_PATH:
        return f"is too long; a path has at most {MAX_PATH:,} characters"
    return next((fault for key in keys if (fault := fault_of_text(key))), "")


def _cut(step: str | int) -> str | int:
    """A step of a place, which may be a key that somebody sent."""
    return step[:_MAX_STEP] + "…" if isinstance(step, str) and len(step) > _MAX_STEP else step


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


class _Repr(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 80
        self.maxlevel = 3

    def repr_int(self, value: int, level: int) -> str:
        """Never asks for more digits than the interpreter converts."""
        return super().repr_int(value, level) if abs(value) < 10**80 else "a number beyond 80 digits"


_repr = _Repr()
