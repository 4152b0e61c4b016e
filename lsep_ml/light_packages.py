"""Packages without what they only mention: Lightning, torchvision and timm without torch's compiler, without plots, and
without torchmetrics' hundreds of metrics.

Loaded whole, that is half of what a job's imports take. Each part is loaded when something of it is used after all.
"""

import atexit
import gc
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

_HOMES = {"Metric": "metric", "MetricCollection": "collections", "__version__": "__about__"}
"""What is asked of torchmetrics, and the modules that it is in."""
_COMPILER, _PLOT = "torch._dynamo", "torchmetrics.utilities.plot"
_OF_IMAGES = ("torchvision", "timm")
_OF_OPTIMIZERS = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
"""The methods that torch keeps its compiler from, for which it loads it."""


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
                _forget(self.__name__, but_itself=True)
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


@contextmanager
def collected_later() -> Iterator[None]:
    """Hold off the garbage collector, which walks over all that is there again and again while modules load."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def loading_for_good() -> Iterator[None]:
    """Let a program load what it keeps to its end: the garbage collector walks over none of it, now or later.

    Only the first time in a process, which is before it makes anything that it will throw away.
    """
    if gc.get_freeze_count():
        yield
        return
    with collected_later():
        yield
        gc.freeze()
    atexit.register(gc.unfreeze)  # for bindings that miss at the end what nobody collected


class _LightFinder(MetaPathFinder):
    """Finds torchvision and timm, and what of them is loaded later, as anyone does, and has them loaded without what
    they only mention."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        later = name.partition(".")[0] in _OF_IMAGES and _COMPILER not in sys.modules
        spec = PathFinder.find_spec(name, path, target) if later or name in _OF_IMAGES else None
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = partial(_load_light, spec.loader.exec_module)  # type: ignore[method-assign]
        return spec


def _load_light(load: Callable[[ModuleType], None], package: ModuleType) -> None:
    try:
        with collected_later(), _standing_in():
            load(package)
    except (ImportError, AttributeError):  # of a version that asks for more
        load(package)


def keep_vision_light() -> None:
    """Have torchvision and timm, unless they are loaded already, load without torch's compiler and without W&B."""
    if not any(isinstance(finder, _LightFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _LightFinder())


def load_lightning() -> None:
    """Load Lightning, unless it is loaded already, without the modules that it only mentions."""
    if "lightning_fabric" in sys.modules:
        return
    import torch

    try:
        with _standing_in():
            import_module("pytorch_lightning")
    except (ImportError, AttributeError):  # of a version that asks for more
        for package in ("pytorch_lightning", "lightning_fabric"):
            _forget(package)
        return
    for name in _OF_OPTIMIZERS:
        method = getattr(getattr(torch.optim.Optimizer, name), "__wrapped__", None)
        if method is not None:
            method.__dynamo_disable = _unless_compiled(method)
    for optimizer in vars(torch.optim).values():
        step: Any = getattr(optimizer, "step", None)
        if getattr(getattr(step, "__code__", None), "co_name", "") == "_use_grad":
            optimizer.step = _plain_step(step)


class _StandIn(ModuleType):
    """Stands for a module while a package loads that only mentions it; what is asked of it later is the module's."""

    def __init__(self, name: str, *later: str, **names: Any) -> None:
        super().__init__(name)
        self.__dict__.update({function: _later(name, function) for function in later})
        self.__dict__.update(names, __spec__=ModuleSpec(name, None))

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(import_module(self.__name__), name)


@contextmanager
def _standing_in() -> Iterator[None]:
    """Put the names that packages take in the place of the modules they are in, unless these are loaded."""
    modules = [
        _StandIn(_COMPILER, OptimizedModule=_OptimizedModule, disable=_disable),
        _StandIn(f"{_COMPILER}.utils", "is_compile_supported"),
        _StandIn(_PLOT, "plot_single_or_multi_val", _AX_TYPE=Any, _PLOT_OUT_TYPE=Any),
        _StandIn("torch.utils.flop_counter", "FlopCounterMode"),
    ]
    if "wandb" not in sys.modules and find_spec("wandb") is not None:
        modules.append(_StandIn("wandb"))
    standing_in = [module for module in modules if module.__name__ not in sys.modules]
    sys.modules.update({module.__name__: module for module in standing_in})
    try:
        yield
    finally:
        for module in standing_in:
            if sys.modules.get(module.__name__) is module:
                del sys.modules[module.__name__]


def _compiler() -> Any:
    """Return torch's compiler, None before it is loaded."""
    compiler = sys.modules.get(_COMPILER)
    return None if isinstance(compiler, _StandIn) else compiler


class _Compiled(type):
    def __instancecheck__(cls, instance: object) -> bool:
        compiler = _compiler()
        return compiler is not None and isinstance(instance, compiler.OptimizedModule)


class _OptimizedModule(metaclass=_Compiled):
    """Stands for torch._dynamo.OptimizedModule: before the compiler is loaded there is no instance of it."""


def _disable(fn: Callable[..., Any] | None = None, recursive: bool = True, **options: Any) -> Any:
    """Do what torch._dynamo.disable does."""
    if fn is None:
        return partial(_disable, recursive=recursive, **options)
    return _unless_compiled(fn, recursive, **options)


def _unless_compiled(function: Callable[..., Any], *options: Any, **named: Any) -> Callable[..., Any]:
    """Have torch's compiler, once it is loaded, leave `function` alone."""
    left_alone: list[Callable[..., Any]] = []

    @wraps(function)
    def call(*given: Any, **keywords: Any) -> Any:
        compiler = _compiler()
        if compiler is None:
            return function(*given, **keywords)
        if not left_alone:
            left_alone.append(compiler.disable(function, *options, **named))
        return left_alone[0](*given, **keywords)

    return call


def _plain_step(step: Callable[..., Any]) -> Callable[..., Any]:
    """Have a step of an optimizer, which else tells torch's compiler where to break, tell it once it is loaded."""
    import torch

    plain = step.__wrapped__  # type: ignore[attr-defined]

    @wraps(step)
    def call(optimizer: Any, *given: Any, **options: Any) -> Any:
        if _compiler() is not None:
            return step(optimizer, *given, **options)
        with torch.set_grad_enabled(optimizer.defaults["differentiable"]):
            return plain(optimizer, *given, **options)

    return call


def _later(module: str, name: str) -> Callable[..., Any]:
    """Return a function that calls the one of this name in a module, which is loaded then."""

    def call(*given: Any, **options: Any) -> Any:
        return getattr(import_module(module), name)(*given, **options)

    call.__dict__["_dynamo_marked_constant"] = True  # for the compiler: as is_compile_supported
    return call


def _forget(package: str, but_itself: bool = False) -> None:
    """Have the modules of a package loaded anew by the next who asks."""
    for name in list(sys.modules):
        if name.startswith(f"{package}.") or (name == package and not but_itself):
            del sys.modules[name]
