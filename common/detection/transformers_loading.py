"""Networks of the transformers library, filled from checkpoints in its own layout: safetensors with a config.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from common.detection.network import weight_files
from common.errors import EngineUnavailable, WeightsInvalid
from common.weights.options import SEEDED, EngineOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIXED = (".anchors", ".valid_mask", ".up", ".reg_scale", "position_ids")
"""Endings of entries that the modules compute themselves; random numbers in them mean nothing."""


def build(
    family: str,
    task: str,
    backbone: tuple[str, Mapping[str, Any]] | None,
    config: Mapping[str, Any],
    classes: int | None,
    name: str,
    options: EngineOptions,
) -> tuple[Any, torch.device, tuple[str, ...] | None]:
    """The network, its device, and the class names that the checkpoint's config.json gives (None without one).

    family, task: of transformers' classes. backbone, config, classes: the published size; a config.json beside the
    weights says more than they do. Raises `WeightsMissing`, `WeightsInvalid`, `EngineUnavailable`.
    """
    try:
        import transformers
    except ImportError as error:
        raise EngineUnavailable(f"{name} needs the package transformers: pip install transformers.") from error
    kind = getattr(transformers, f"{family}Config", None)
    model = getattr(transformers, f"{family}{task}", None)
    if kind is None or model is None:
        raise EngineUnavailable(f"{name} needs transformers 5.23 or newer; this is {transformers.__version__}.")
    names: tuple[str, ...] | None = None
    given = dict(config)
    if options.weights != SEEDED:
        path = weight_files(name, options)[0]
        options = EngineOptions(str(path), options.device, options.precision)
        beside = path.with_name("config.json")
        if beside.is_file():
            made, names = _read_config(kind, beside)
            return (*_filled(model, made, name, options), names)
    if backbone is not None:
        given["backbone_config"] = getattr(transformers, backbone[0])(**backbone[1])
    if classes is not None:
        given["num_labels"] = classes
    return (*_filled(model, kind(**given), name, options), names)


def _filled(kind: Any, config: Any, name: str, options: EngineOptions) -> tuple[Any, torch.device]:
    from common.weights.loading import load

    module = kind(config)
    # a lone number (a temperature) keeps the value that it begins with: a random one means nothing
    fixed = [entry for entry, value in module.state_dict().items() if entry.endswith(_FIXED) or value.ndim == 0]
    device = load(module, name, options, convert=lambda entries: _renamed(kind, config, entries), constants=fixed)
    return module, device


def _renamed(kind: Any, config: Any, entries: dict[str, Any]) -> dict[str, torch.Tensor]:
    """A published checkpoint under the names of this version's modules: transformers knows its own old names, and which
    tensors stand for several."""
    tensors = {key: value for key, value in entries.items() if isinstance(value, torch.Tensor)}
    with _quiet():
        module, told = kind.from_pretrained(
            None, config=config, state_dict=tensors, output_loading_info=True, ignore_mismatched_sizes=True
        )
    missing = sorted(told["missing_keys"])
    strange = sorted(map(str, [*told["unexpected_keys"], *(entry[0] for entry in told["mismatched_keys"])]))
    known = [key for key in missing if not key.endswith((*_FIXED, "num_batches_tracked"))]
    if known or strange or told["error_msgs"]:
        wrong = [
            f"{len(keys)} {what}: {', '.join(keys[:5])}"
            for what, keys in (("missing", known), ("not fitting", strange))
            if keys
        ]
        raise WeightsInvalid(f"The checkpoint is not one of {kind.__name__} in this size: {'; '.join(wrong)}.")
    return dict(module.state_dict())


def _read_config(kind: Any, path: Path) -> tuple[Any, tuple[str, ...] | None]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        wanted = kind.model_type
        if told.get("model_type") != wanted:
            raise WeightsInvalid(
                f"{path.name} beside the weights describes {told.get('model_type')!r}, not {wanted!r}."
            )
        config = kind.from_dict(told)
        labels = {int(key): str(value) for key, value in (told.get("id2label") or {}).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise WeightsInvalid(f"{path.name} beside the weights cannot be read: {error}") from error
    count = config.num_labels
    names = tuple(labels.get(n, f"class {n}") for n in range(count)) if labels else None
    return config, None if names is None else _distinct(names)


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Some label files use N/A for every number that means nothing."""
    return tuple(name if names.count(name) == 1 else f"{name} {number}" for number, name in enumerate(names))


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers tells of every checkpoint that it reads, with a bar of its own."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
