"""Makes one client per set of options and process, however many threads ask for it at once."""

import threading
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

OptionsT = TypeVar("OptionsT")

_MOST = 16  # of each provider; options change with a reload, and the oldest go


def made_once(make: Callable[[OptionsT], Any]) -> Callable[[OptionsT], Any]:
    """`make`, whose results are kept. Who asks for the same waits for it, who asks for another does not."""
    made: dict[OptionsT, Any] = {}
    making: defaultdict[OptionsT, threading.Lock] = defaultdict(threading.Lock)
    guard = threading.Lock()

    @wraps(make)
    def get(options: OptionsT) -> Any:
        with guard:
            if options in made:
                return made[options]
            lock = making[options]
        with lock:
            with guard:
                if options in made:
                    return made[options]
            client = make(options)
            with guard:
                made[options] = client
                while len(made) > _MOST:
                    del made[next(iter(made))]
                making.pop(options, None)
            return client

    return get
