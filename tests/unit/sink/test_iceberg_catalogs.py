"""Which catalog of Iceberg the sink takes: the one that its own options tell of, whatever else pyiceberg finds."""

import pytest

from eventferry.sink import SinkMisconfigured
from eventferry.sink.kit import make_batch, sample_events
from eventferry.sink.registry import make_sink


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Settings of pyiceberg's own, in a file and in the environment, as it reads them when it is imported."""
    from pyiceberg import catalog
    from pyiceberg.utils.config import Config

    (tmp_path / ".pyiceberg.yaml").write_text("catalog:\n  default:\n    warehouse: file:///nowhere/of-the-file\n")
    monkeypatch.setenv("PYICEBERG_HOME", str(tmp_path))
    for name, value in {"TYPE": "sql", "URI": f"sqlite:///{tmp_path}/other.db", "TOKEN": "of-the-environment"}.items():
        monkeypatch.setenv(f"PYICEBERG_CATALOG__DEFAULT__{name}", value)
    monkeypatch.setattr(catalog, "_ENV_CONFIG", Config())
    return tmp_path


def _sink(**catalog):
    return make_sink("iceberg", "lake", {"catalog": catalog, "table": "analytics.events", "create": True})


def test_settings_of_pyiceberg_itself_are_not_mixed_in(elsewhere):
    """Neither its file nor its environment adds a property to a catalog, be it one with a type or without."""
    for more in ({}, {"type": "sql"}):
        uri, warehouse = f"sqlite:///{elsewhere}/own.db", f"file://{elsewhere}/own"
        with _sink(uri=uri, warehouse=warehouse, **more) as sink:
            sink.deliver(make_batch(sample_events(1)))
            assert sink._catalog.properties.get("token") is None
            assert sink._catalog.properties["warehouse"] == warehouse
    assert not (elsewhere / "other.db").exists()


def test_a_rest_catalog_is_not_turned_into_another_by_them(elsewhere):
    """The type of the environment is that of somebody else's catalog."""
    from tests.contract.receiver import nobody

    from eventferry.sink import SinkUnavailable

    with nobody() as url, pytest.raises(SinkUnavailable, match="cannot be reached"):
        _sink(uri=url).open()


@pytest.mark.parametrize("type", ["rest", "sql", "hive", None])
def test_a_catalog_without_an_address_takes_none_from_elsewhere(elsewhere, type):
    """A person is told to write it, not to set a variable."""
    with pytest.raises(SinkMisconfigured, match="`catalog` has no uri; set where the catalog is"):
        _sink(warehouse="file:///x", **({"type": type} if type else {})).open()


def test_a_class_of_ones_own_gets_what_is_written(elsewhere):
    """`py-catalog-impl` names a catalog that pyiceberg does not know, and nothing else is mixed in."""
    with _sink(**{"py-catalog-impl": "pyiceberg.catalog.memory.InMemoryCatalog", "warehouse": "file:///x"}) as sink:
        assert sink._catalog.properties["warehouse"] == "file:///x"


@pytest.mark.parametrize(
    ("catalog", "says"),
    [
        ({"py-catalog-impl": "nowhere.Catalog"}, "py-catalog-impl 'nowhere.Catalog', which cannot be imported"),
        ({"py-catalog-impl": "Catalog"}, "expected module.Class of a package"),
        ({"py-catalog-impl": "pyiceberg.catalog.memory.InMemoryCatalog", "type": "sql"}, "expected one of them"),
        ({"uri": "foo://host/x?password=SECRET"}, "`catalog` has a uri of no known kind; set type: rest, "),
    ],
)
def test_a_catalog_that_cannot_be_is_said_with_its_remedy(catalog, says):
    """And without what its address holds."""
    with pytest.raises(SinkMisconfigured) as raised:
        _sink(**catalog).open()
    assert says in str(raised.value)
    assert "SECRET" not in str(raised.value)
