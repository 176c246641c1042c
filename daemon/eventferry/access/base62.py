"""Numbers as digits and letters, which pass through headers, URLs and shells as they are."""

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def to_base62(number: int, length: int) -> str:
    """`number` (0 or more, below 62 ** length) in exactly `length` characters."""
    made = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        made.append(_DIGITS[digit])
    return "".join(reversed(made))
