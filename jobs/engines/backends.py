"""Which class runs which engine. Ray and Spark are imported when they are asked for."""

from __future__ import annotations

from jobs.engines.engine import Engine, EngineSettings
from jobs.engines.local import LocalEngine


def open_engine(settings: EngineSettings) -> Engine:
    """Raises SettingsError when the engine's extra is not installed."""
    return LocalEngine(settings)
