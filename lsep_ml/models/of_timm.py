"""Backbones from timm, with the weights they were published with, a file's, or none, at the sizes that they take."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import PretrainedCfg
from torch import Tensor, nn

from lsep_ml.models.heads import HEADS, packed
from lsep_ml.models.names import WEIGHTS, PublishedFolder, pretrained_cfg, source_of
from lsep_ml.models.pooling import Layout, Pooling
from lsep_ml.models.published import hub_file, unreachable
from lsep_ml.models.weights import ScoreRows, load_weights

_NAMED = 3  # sizes in a message
_TRIED = 12  # at most, to find these


class TimmBackbone(nn.Module):
    """A timm model without its classifier; f'(x) is what the classifier would be given, or of another pooling.

    `score_rows` is the classifier that came with the weights, where its labels have names; else None.
    """

    def __init__(
        self,
        model: nn.Module,
        image_size: tuple[int, int, int],
        pool: str = "trained",
        score_rows: ScoreRows | None = None,
        head: str = "linear",
        head_lambda: float = 0.1,
    ) -> None:
        super().__init__()
        if head not in HEADS:
            raise ValueError(f"model.head={head}: {', '.join(HEADS)}")
        self.head, self.head_lambda = "linear", head_lambda  # places are given once the width is known
        self.model: Any = model
        self.score_rows = score_rows
        training = model.training
        self.pooling = None
        with torch.inference_mode():
            model.eval()
            if pool != "trained":
                # Of noise, so that what can be negative is.
                noise = torch.randn(2, *image_size, generator=torch.Generator().manual_seed(0), device="cpu")
                device = next(model.parameters()).device
                maps_of: Any = self.model.forward_features
                self.pooling = Pooling(pool, model, maps_of(noise.to(device)))
            # Some architectures have more than one candidate for the width, so it is measured.
            features = self(torch.zeros(1, *image_size))
            if features.ndim != 2:
                raise ValueError(
                    "model.pool=trained: this network has no pooling of its own; take model.pool=mean"
                )
            self.num_features: int = features.shape[1]
            if head != "linear":
                places_of: Any = self.model.forward_features
                self.layout = Layout(model, places_of(torch.zeros(1, *image_size)))
                self.head, self.token_width = head, self.layout.width
                self.row_width: int = self(torch.zeros(1, *image_size)).shape[1]
        model.train(training)

    def forward(self, images: Tensor) -> Tensor:
        if self.pooling is None and self.head == "linear":
            features: Tensor = self.model(images)
            return features
        before = self.model.forward_features(images)
        features = (
            self.model.forward_head(before) if self.pooling is None else self.pooling(self.model, before)
        )
        return features if self.head == "linear" else packed(features, self.layout.tokens(before))

    def places(self, images: Tensor) -> tuple[Tensor, Tensor] | None:
        """Compute f'(x) (N, D) and the places (N, C, H, W) before pooling; None of a network without any."""
        before = self.model.forward_features(images)
        try:
            found = Layout(self.model, before).grid(self.model, before)
        except ValueError:
            return None
        pooled = self.model.forward_head(before) if self.pooling is None else self.pooling(self.model, before)
        return None if found is None else (pooled, found)


def timm_backbone(
    name: str = "resnet50",
    weights: str | None = "imagenet",
    image_size: int | Sequence[int] | None = None,
    *,
    source: str | None = None,
    pool: str = "trained",
    head: str = "linear",
    head_lambda: float = 0.1,
    strict: bool = True,
    **options: Any,
) -> TimmBackbone:
    """Build any timm backbone by name (`timm.list_models()`), its classifier removed.

    Args:
        name: timm's name, e.g. "resnet50", "convnext_tiny.fb_in22k"; "hf-hub:owner/model" or "local-dir:PATH" for a
            folder with a config.json and weights, as timm saves them.
        weights: "imagenet" for the weights published under that name, a file in timm's names, or None.
        image_size: of the images it will be given, one int or (height, width); None: its own. A network of a fixed
            size is built for it, its position embeddings interpolated.
        source: where its weights are published, if elsewhere than under `name` (see `resolved_model`).
        pool: what f'(x) is made by: "trained", the network's own way, or one of `lsep_ml.models.pooling.POOLS`.
        head: which of `lsep_ml.models.heads.HEADS` its features are for; for others than "linear" the places of its
            map, or its patch tokens, stand behind f'(x) in each row (`packed`).
        head_lambda: of csra, the weight of its attention.
        strict: whether a file that does not fit whole is refused (`load_weights`).
        options: passed to `timm.create_model` (e.g. `in_chans`, `drop_path_rate`).

    Raises:
        ValueError: unknown name, a size that the network cannot take, a pooling that it cannot have, or a file with the
            weights of another network.
        FileNotFoundError: the weights are neither on disk nor to be had.
    """
    published = source_of(source or name)
    if published is not None:
        name = published.architecture
        options = {**published.options, **options}
    cfg = pretrained_cfg(name)
    own = (cfg if published is None else published.cfg).input_size
    size = own[1:] if image_size is None else _height_and_width(image_size)
    options = size_options(name, size, options)
    rows = None
    if published is None and weights == "imagenet":
        model = _with_published_weights(name, cfg, options)
    else:
        model = timm.create_model(name, pretrained=False, num_classes=0, **options)
        if weights is not None:
            rows = _load(model, weights, published, cfg, strict)
    return TimmBackbone(model, (options.get("in_chans", own[0]), *size), pool, rows, head, head_lambda)


def _load(
    model: nn.Module, weights: str, published: PublishedFolder | None, cfg: PretrainedCfg, strict: bool
) -> ScoreRows | None:
    """Load a file, or what a folder publishes."""
    if weights == "imagenet":
        assert published is not None
        own, file, names = published.cfg, published.weights(), published.cfg.label_names
    else:
        own, file, names = cfg, Path(weights), None
    found: Any = own.classifier or cfg.classifier or ()
    classifiers = (found,) if isinstance(found, str) else tuple(found)
    return load_weights(model, file, strict=strict, classifiers=classifiers, label_names=names)


def _with_published_weights(name: str, cfg: PretrainedCfg, options: Mapping[str, Any]) -> Any:
    """Return the model with the weights that timm publishes under a name, found on this machine or downloaded."""
    try:
        overlay = _file_on_disk(cfg)
        return timm.create_model(
            name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay, **options
        )
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"model.weights=imagenet: no weights for {name} here: {error}, give a file as model.weights=FILE, or start "
            "from scratch with model.weights=null"
        ) from error


def _file_on_disk(cfg: PretrainedCfg) -> dict[str, Any] | None:
    """Return what to tell timm of the file that it should read; None: it finds its own.

    Raises:
        FileNotFoundError: there is none and nobody to ask for it.
    """
    if cfg.hf_hub_id and not cfg.custom_load:
        names = (cfg.hf_hub_filename,) if cfg.hf_hub_filename else WEIGHTS
        return {"file": str(hub_file(cfg.hf_hub_id, names))}
    if isinstance(cfg.url, str) and cfg.url:
        file = Path(torch.hub.get_dir()) / "checkpoints" / cfg.url.rsplit("/", 1)[1]
        problem = None if file.is_file() else unreachable(cfg.url)
        if problem is not None:
            raise FileNotFoundError(
                f"{file.name} cannot be downloaded ({problem}). Fetch {cfg.url}, put it at {file}"
            )
    return None


def _height_and_width(size: int | Sequence[int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def resolved_model(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return a resolved `config.model` with timm's name and options in the place of a folder's name, which is then
    `source`.

    What is built later, from a bundle for instance, needs no folder. Others are returned as they are.

    Raises:
        ValueError, FileNotFoundError: as `source_of`.
    """
    found = source_of(str(model.get("name", "")))
    if found is None:
        return dict(model)
    return {**found.options, **model, "name": found.architecture, "source": found.name}


def size_options(name: str, size: tuple[int, int], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of `timm.create_model` under which the network takes images of this size.

    A network of a fixed size is built for it by `img_size`; others take what they are given.

    Raises:
        ValueError: it cannot take that size; names some that it can.
    """
    cfg = pretrained_cfg(name)
    if size == tuple(cfg.input_size[1:]) or "img_size" in options:
        return dict(options)
    sized = {**options, **({"img_size": size} if cfg.fixed_input_size else {})}
    problem = _size_problem(name, size, sized)
    if problem is None:
        return sized
    working = []
    for other in _other_sizes(size, (cfg.input_size[1], cfg.input_size[2])):
        again = {**sized, **({"img_size": other} if "img_size" in sized else {})}
        if _size_problem(name, other, again) is None:
            working.append(other)
        if len(working) == _NAMED:
            break
    known = ", ".join(str(side[0]) if side[0] == side[1] else str(list(side)) for side in working)
    raise ValueError(
        f"transform.crop={list(size)}: not a size for {name} ({problem}); sizes that work: {known}"
    )


def _size_problem(name: str, size: tuple[int, int], options: Mapping[str, Any]) -> str | None:
    """Why the network does not run on images of a size; None where it does."""
    try:
        with torch.device("meta"), torch.inference_mode():
            model = timm.create_model(name, pretrained=False, num_classes=0, **options).eval()
            model(torch.zeros(1, options.get("in_chans", 3), *size))
    except Exception as error:  # each architecture refuses in its own way
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    embedding: Any = getattr(model, "patch_embed", None)
    patches = getattr(embedding, "proj", None)
    if isinstance(patches, nn.Conv2d) and not getattr(embedding, "dynamic_img_pad", False):
        apart = patches.stride == patches.kernel_size and patches.padding == (0, 0)
        if apart and any(side % patch for side, patch in zip(size, patches.stride, strict=True)):
            return f"its patches of {patches.stride[0]} x {patches.stride[1]} would leave pixels out"
    return None


def _other_sizes(size: tuple[int, int], own: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Return the network's own size, then squares of usual patches and strides near the one asked for."""
    yield own
    near = {
        step * (side // step + more)
        for side in size
        for step in (14, 16, 32, own[0] // 7 or 1)
        for more in (0, 1)
    }
    candidates = sorted(near - {0, own[0]}, key=lambda side: (abs(side - max(size)), side))
    yield from ((side, side) for side in candidates[:_TRIED])
