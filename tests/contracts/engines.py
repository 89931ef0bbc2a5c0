"""The engines that the contract suite holds. A new one joins by adding its factory here."""

from __future__ import annotations

from collections.abc import Callable

from jobs.engines.engine import BatchArraySettings, Engine, EngineSettings
from jobs.engines.local import LocalEngine
from jobs.engines.on_batch_array import BatchArrayEngine
from jobs.engines.on_ray import RayEngine

EngineFactory = Callable[[EngineSettings], Engine]


def _only_child(settings: EngineSettings) -> Engine:
    return BatchArrayEngine(settings.model_copy(update={"batch_array": BatchArraySettings(index=0, of=1)}), {})


def _spark(settings: EngineSettings) -> Engine:
    from jobs.engines.on_spark import SparkEngine

    return SparkEngine(settings)


# With worker processes: a worker can be killed without the driver.
ENGINES: dict[str, EngineFactory] = {
    "local": LocalEngine,
    "batch_array": _only_child,
    "ray": RayEngine,
    "spark": _spark,
}
