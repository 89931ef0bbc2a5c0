"""The engines that the contract suite holds. A new one joins by adding its factory here."""

from __future__ import annotations

from collections.abc import Callable

from jobs.engines.engine import Engine, EngineSettings
from jobs.engines.local import LocalEngine

EngineFactory = Callable[[EngineSettings], Engine]

# With worker processes: a worker can be killed without the driver.
ENGINES: dict[str, EngineFactory] = {"local": LocalEngine}
