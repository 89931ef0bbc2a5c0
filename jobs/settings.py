"""The settings of a run: one typed value, built in Python or from layered YAML. Never holds credentials."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, get_args

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from jobs.engines.engine import EngineSettings
from jobs.service.settings import ServeSettings
from pipelines.embed.settings import EmbedSettings
from pipelines.errors import SettingsError
from pipelines.garbage import GcSettings
from pipelines.limits import LimitsSettings
from pipelines.plan.settings import PartitionSettings
from pipelines.read.reader import SourceSettings
from pipelines.shipped import shipped
from pipelines.split.splitter import SplitSettings
from pipelines.split.template import metadata_names
from pipelines.store import StorageSettings
from pipelines.targets.target import IndexSettings
from pipelines.verify.settings import VerifySettings

BASE = shipped("conf", "base.yaml")
_MAX_LAYERS = 8
_OF_PYDANTIC = ("function-", "tuple[", "dict[")  # steps of a location that no file has


class CostSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    usd_per_hour: float = Field(1.0, ge=0, description="price of one worker's machine, for the estimate and the card")
    usd_per_million_tokens: float | None = Field(
        None, ge=0, description="what a remote embedder's service bills for a million tokens; null: left out"
    )
    tokens_per_second: float = Field(
        4000.0, gt=0, description="rate of one worker, for the estimate until a run of this corpus has measured one"
    )


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    corpus: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="name of the corpus and of the alias that goes live"
    )
    root: str = Field(
        pattern=r"^(s3|file|memory)://", description="where all state lives: s3://, file:/// or memory://"
    )
    source: SourceSettings
    storage: StorageSettings = StorageSettings()
    partition: PartitionSettings = PartitionSettings()
    split: SplitSettings = SplitSettings()
    embed: EmbedSettings = EmbedSettings()
    index: IndexSettings = IndexSettings()
    engine: EngineSettings = EngineSettings()
    limits: LimitsSettings = LimitsSettings()
    verify: VerifySettings = VerifySettings()
    gc: GcSettings = GcSettings()
    serve: ServeSettings = ServeSettings()
    cost: CostSettings = CostSettings()

    @model_validator(mode="after")
    def _template_uses_declared_fields(self) -> Settings:
        if unknown := sorted({*metadata_names(self.split.template)} - {*self.source.fields.metadata}):
            raise ValueError(f"split.template uses {', '.join(unknown)}, which source.fields.metadata does not declare")
        return self


@dataclass(frozen=True, slots=True)
class _Layer:
    name: str
    values: DictConfig


def load_settings(path: str | Path, overrides: Sequence[str] = ()) -> Settings:
    """Read a run description, the files it extends and ``key=value`` overrides, later ones winning.

    ``extends`` names another file, relative to the one that says so; without it the shipped base.yaml lies below.

    Raises:
        SettingsError: naming the key, the file that set it and the nearest valid name.
    """
    layers = [*_file_layers(Path(path)), *_override_layers(overrides)]
    merged = OmegaConf.create(reduce(_laid_over, (OmegaConf.to_container(layer.values) for layer in layers)))
    try:
        plain = OmegaConf.to_container(merged, resolve=True)
    except OmegaConfBaseException as error:
        raise SettingsError(_interpolation_message(error, layers)) from error
    try:
        return Settings.model_validate(plain)
    except ValidationError as error:
        lines = [_message(detail, layers) for detail in error.errors()]
        raise SettingsError("\n".join(lines)) from error


def _laid_over(below: Any, above: Any) -> Any:  # Any: plain YAML
    """Mappings key by key; anything else is replaced, also by something of another kind (OmegaConf would stop)."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return below | {name: _laid_over(below.get(name), value) for name, value in above.items()}


def _file_layers(path: Path, depth: int = 0) -> list[_Layer]:
    if depth > _MAX_LAYERS:
        raise SettingsError(f"{path}: more than {_MAX_LAYERS} files extend each other; is there a circle?")
    loaded = _read(path)
    extends = loaded.pop("extends", None)
    if extends is not None:
        below = _file_layers(path.parent / str(extends), depth + 1)
    elif path.resolve() != Path(str(BASE)).resolve():
        below = [_Layer(str(BASE), _read(BASE))]
    else:
        below = []
    return [*below, _Layer(str(path), loaded)]


def _read(path: Path | Traversable) -> DictConfig:
    try:
        with path.open(encoding="utf-8") as file:
            loaded = OmegaConf.load(file)
    except FileNotFoundError as error:
        raise SettingsError(f"{path} does not exist; `ls conf` shows the shipped run descriptions") from error
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # yaml and omegaconf raise several unrelated classes here
        raise SettingsError(f"{path} is not YAML: {_first_line(error)}") from error
    if not isinstance(loaded, DictConfig):
        raise SettingsError(f"{path} must hold key: value pairs at its top level")
    return loaded


def _override_layers(overrides: Sequence[str]) -> Iterator[_Layer]:
    for text in overrides:
        key, equals, _ = text.partition("=")
        if not equals or not key.strip():
            raise SettingsError(f"--set {text!r}: write it as key=value, such as --set engine.workers=4")
        try:
            yield _Layer(f"--set {key}", OmegaConf.from_dotlist([text]))
        except Exception as error:  # as above
            raise SettingsError(f"--set {text!r}: {_first_line(error)}") from error


def _message(detail: ErrorDetails, layers: Sequence[_Layer]) -> str:
    location = [part for part in detail["loc"] if not (isinstance(part, str) and part.startswith(_OF_PYDANTIC))]
    key = ".".join(map(str, location))
    where = _origin(location, layers)
    if detail["type"] == "extra_forbidden":
        names = _names_at(location[:-1])
        near = difflib.get_close_matches(str(location[-1]), names, n=1, cutoff=0.5)
        advice = f"did you mean {near[0]!r}?" if near else f"valid names here: {', '.join(sorted(names))}"
        return f"{where}: unknown key {key!r}; {advice}"
    if detail["type"] == "missing":
        return f"{where}: key {key!r} is missing; conf/README.md lists every key"
    found = detail["input"]
    shown = "" if isinstance(found, dict | list) else f", found {str(found)[:80]!r}"
    return f"{where}: {key}: {detail['msg'].removeprefix('Value error, ')}{shown}"


def _origin(location: Sequence[int | str], layers: Sequence[_Layer]) -> str:
    """The last layer that sets this key, or else something above it."""
    for depth in range(len(location), 0, -1):
        for layer in reversed(layers):
            if _has(layer.values, location[:depth]):
                return layer.name
    return next(layer.name for layer in reversed(layers) if not layer.name.startswith("--set"))


def _has(values: DictConfig, location: Sequence[int | str]) -> bool:
    found: Any = OmegaConf.to_container(values, resolve=False)  # Any: walks down plain dicts and lists
    for part in location:
        try:
            found = found[part]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _names_at(location: Sequence[int | str]) -> list[str]:
    model: type[BaseModel] | None = Settings
    for part in location:
        field = model.model_fields.get(str(part)) if model else None
        model = model_in(field.annotation) if field else None
    return list(model.model_fields) if model else []


def model_in(annotation: Any) -> type[BaseModel] | None:  # Any: whatever stands as an annotation
    """The section that a key holds, also one that may be null; None for a plain value."""
    candidates = get_args(annotation) or (annotation,)
    return next((one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel)), None)


def _interpolation_message(error: OmegaConfBaseException, layers: Sequence[_Layer]) -> str:
    key = getattr(error, "full_key", None) or "?"
    text = _first_line(error)
    where = _origin(str(key).split("."), layers)
    if "Environment variable" in text:
        name = text.split("'")[1]
        return f"{where}: {key} needs the environment variable {name}, which is not set; `export {name}=…` first"
    return f"{where}: {key}: {text}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
