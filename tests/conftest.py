"""Puts the tests of the pull side into a lane of their own, so that each lane stays short."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
PULL_FOLDERS = ("integration/api", "integration/console", "integration/exports")
PULL_MODULES = ("test_api_", "test_console", "test_dialect_", "test_exact", "test_exports")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what drives the whole pull side; its units stay with the others."""
    for item in items:
        if not item.path.is_relative_to(HERE):
            continue
        place = item.path.relative_to(HERE)
        in_folder = place.parent.as_posix() in PULL_FOLDERS
        if in_folder or (place.parts[0] == "acceptance" and place.name.startswith(PULL_MODULES)):
            item.add_marker("pull")
