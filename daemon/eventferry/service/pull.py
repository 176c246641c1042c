"""The daemon's part of the pull side: jobs that make exports, tell of them, expire files, fire schedules."""

from collections.abc import Callable, Iterator, Mapping

from eventferry import app
from eventferry.config import Config
from eventferry.exports.clearing import Clearing
from eventferry.exports.notices import Teller
from eventferry.exports.plan import readables
from eventferry.exports.runner import Runner
from eventferry.exports.scan_cache import FOLDER, prune_scans
from eventferry.exports.schedules import fire_due
from eventferry.exports.sources import Readable
from eventferry.ledger import Ledger


class PullSide:
    """What the daemon does for the pull side; where that is switched off, old files still expire."""

    def __init__(self, config: Config, ledger: Ledger) -> None:
        self._config = config
        self._ledger = ledger
        self._desk = app.build_desk(ledger, config)
        self._runner = Runner(self._desk, self._sources, enabled=_is_on(config))
        self._teller = Teller(self._desk)
        self._clearing = Clearing(self._desk, self._runner.at_work)

    def use(self, config: Config) -> None:
        """Go by another configuration."""
        self._config, self._desk = config, app.build_desk(self._ledger, config)
        self._teller.use(self._desk)
        self._clearing.use(self._desk)
        self._runner.use(self._desk, enabled=_is_on(config))

    def jobs(self) -> Iterator[tuple[str, Callable[[], object], float]]:
        """Name, what to do, and every how many seconds."""
        yield "exports", self._runner.tick, 1.0
        yield "exports:notices", self._tell, 2.0
        yield "exports:schedules", self._fire, 5.0
        yield "exports:expiry", self._runner.expire, 10.0
        yield "exports:bucket", self._clearing.clear, 5.0
        yield "exports:scans", self._prune_scans, 3600.0

    def stop(self) -> None:
        """End the processes of exports at work; these begin anew at the next start."""
        self._runner.close()

    def _sources(self) -> Mapping[int, Readable]:
        return readables(self._ledger, self._config.sources)

    def _tell(self) -> None:
        if _is_on(self._config):
            self._teller.pump()

    def _prune_scans(self) -> None:
        prune_scans(self._desk.state_dir.joinpath(*FOLDER))

    def _fire(self) -> None:
        if _is_on(self._config):
            fire_due(self._desk)


def _is_on(config: Config) -> bool:
    return config.enabled and config.pull.enabled
