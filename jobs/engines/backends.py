"""Which class runs which engine. Ray and Spark are imported when they are asked for."""

from __future__ import annotations

from jobs.engines.engine import Engine, EngineSettings
from jobs.engines.local import LocalEngine
from jobs.engines.on_batch_array import BatchArrayEngine
from jobs.engines.on_ray import RayEngine
from pipelines.errors import SettingsError


def open_engine(settings: EngineSettings) -> Engine:
    """Raises SettingsError when the engine's extra is not installed, or nothing says which array child this is."""
    if settings.name == "batch_array":
        return BatchArrayEngine(settings)
    if settings.name == "spark":
        return _spark(settings)
    if settings.name == "ray":
        return RayEngine(settings)
    return LocalEngine(settings)


def _spark(settings: EngineSettings) -> Engine:
    try:
        from jobs.engines.on_spark import SparkEngine
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"engine spark is not installed ({error}); `make setup` installs everything, `pip install 'pyspark>=4.3,<4.4'` this"
        ) from error
    return SparkEngine(settings)
