"""torchmetrics without the hundreds of metrics that nobody here asks for.

Lightning needs two classes of it. The package loads all it has, with scipy.signal and image networks, which is a third
of what a job takes to start.
"""

import logging
import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

_HOMES = {"Metric": "metric", "MetricCollection": "collections", "__version__": "__about__"}
"""What is asked for, and the modules that it is in."""


class _Package(ModuleType):
    """Stands for torchmetrics until something else of it is asked for, and becomes it then."""

    def __getattr__(self, name: str) -> Any:
        if name in _HOMES:
            try:
                if name != "__version__":
                    import_module(
                        f"{self.__name__}.utilities"
                    )  # which the others expect to be loaded before them
                return getattr(import_module(f"{self.__name__}.{_HOMES[name]}"), name)
            except (ImportError, AttributeError):  # of a version that is built otherwise
                for module in [module for module in sys.modules if module.startswith(f"{self.__name__}.")]:
                    del sys.modules[module]
        elif name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__class__ = ModuleType  # type: ignore[assignment]
        assert self.__spec__ is not None
        assert self.__spec__.loader is not None
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def keep_torchmetrics_light() -> None:
    """Have torchmetrics, unless it is loaded already, load only what is asked for."""
    if "torchmetrics" in sys.modules:
        return
    spec = find_spec("torchmetrics")
    assert spec is not None
    package = module_from_spec(spec)
    package.__dict__["_logger"] = logging.getLogger("torchmetrics")
    package.__class__ = _Package
    sys.modules["torchmetrics"] = package
