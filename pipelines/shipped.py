"""Files shipped beside the code: in a folder, or inside the archive that the code runs from. Knows not what is in them."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any


def shipped(*names: str) -> Traversable:
    """The file or folder of this name, such as ``shipped("conf", "base.yaml")``."""
    code: Any = files("pipelines")  # a Path or zipfile.Path: both have a parent, which their protocol leaves out
    place: Traversable = code.parent.joinpath(*names)
    return place
