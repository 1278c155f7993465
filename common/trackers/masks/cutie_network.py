"""The network of Cutie (Cheng et al., CVPR 2024, https://arxiv.org/abs/2310.12982) from the package rf-cutie, without its
helpers: those fetch files from the network, want a GPU and set up a global configuration.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.errors import EngineUnavailable

_BUILDING = threading.Lock()
_STEMS = {"mask_encoder.conv1.weight": 5, "pixel_fuser.sensory_compress.weight": 258}
"""Input channels of the multi-object network where single-object files have one less."""


def configuration(shape: Mapping[str, Any] | None = None) -> Any:
    """The package's own configuration of the base network as an OmegaConf tree under "model", with the entries of `shape`
    over it (None = as published). Raises `EngineUnavailable` when the package is not Cutie or not there.
    """
    try:
        import cutie.model
        from omegaconf import OmegaConf
    except ImportError as error:
        raise EngineUnavailable("Cutie needs the package rf-cutie: pip install rf-cutie==1.0.1") from error
    # Another package of PyPI is called cutie as well.
    base = Path(cutie.model.__file__ or "").parents[1] / "config" / "model" / "base.yaml"
    if not base.is_file():
        raise EngineUnavailable("The package cutie here is not the tracker: pip install rf-cutie==1.0.1")
    model = OmegaConf.merge(OmegaConf.load(base), OmegaConf.create(dict(shape or {})))
    return OmegaConf.create({"model": model})


def build(shape: Mapping[str, Any] | None = None) -> nn.Module:
    """The network with weights of no meaning. Fetches nothing."""
    config = configuration(shape)
    from cutie.model.cutie import CUTIE

    # Its own choice of a deprecated name, once per call: nobody can act on it.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"cutie\.")
    with _BUILDING, _without_downloads():
        network: nn.Module = CUTIE(config)
    return network.eval()


@contextmanager
def _without_downloads() -> Iterator[None]:
    """Inside, the package builds its residual networks without fetching ImageNet's weights, which the checkpoint
    overwrites anyway. Not for two threads at a time.
    """
    from cutie.model.utils import resnet

    kept = resnet.resnet18, resnet.resnet50

    def small(pretrained: bool = False, extra_dim: int = 0, model_dir: str | None = None) -> nn.Module:
        made: nn.Module = kept[0](pretrained=False, extra_dim=extra_dim)
        return made

    def large(pretrained: bool = False, extra_dim: int = 0, model_dir: str | None = None) -> nn.Module:
        made: nn.Module = kept[1](pretrained=False, extra_dim=extra_dim)
        return made

    resnet.resnet18, resnet.resnet50 = small, large
    try:
        yield
    finally:
        resnet.resnet18, resnet.resnet50 = kept


def constants(network: nn.Module) -> list[str]:
    """Entries that files may lack: tables that the network computes, and what only training used."""
    return [n for n in network.state_dict() if n.endswith("inv_freq") or n.startswith("aux_computer.")]


def convert(checkpoint: dict[str, Tensor]) -> dict[str, Tensor]:
    """A published checkpoint as the network wants it: single-object files get a channel for other objects, of zeros."""
    entries = dict(checkpoint)
    for name, channels in _STEMS.items():
        weight = entries.get(name)
        if weight is not None and weight.ndim == 4 and weight.shape[1] == channels - 1:
            entries[name] = functional.pad(weight, (0, 0, 0, 0, 0, 1))
    return {name: value for name, value in entries.items() if isinstance(value, torch.Tensor)}
