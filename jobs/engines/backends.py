"""Which class runs which engine. Ray and Spark are imported when they are asked for."""

from __future__ import annotations

from jobs.engines.engine import Engine, EngineSettings
from jobs.engines.local import LocalEngine
from jobs.engines.on_batch_array import BatchArrayEngine


def open_engine(settings: EngineSettings) -> Engine:
    """Raises SettingsError when the engine's extra is not installed, or nothing says which array child this is."""
    if settings.name == "batch_array":
        return BatchArrayEngine(settings)
    return LocalEngine(settings)
