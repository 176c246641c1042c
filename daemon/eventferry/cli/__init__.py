"""The command line: what people type, and what they read."""


def main() -> None:
    """The console script. Imports late: worker processes import this module, and need none of it."""
    from eventferry.cli.program import program

    program()
