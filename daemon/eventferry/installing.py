"""Says which command installs what is missing into the environment that eventferry runs in."""

import shlex
import sys
from pathlib import Path


def command(requirement: str) -> str:
    """The command that installs `requirement`, such as `eventferry[s3]`: by the pip beside this very Python."""
    return f"{shlex.quote(str(Path(sys.prefix, 'bin', 'pip')))} install '{requirement}'"
