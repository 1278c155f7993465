"""MixFormer with plain and convolutional vision transformers, and MixFormerV2.

Papers: Cui et al., "MixFormer: end-to-end tracking with iterative mixed attention", TPAMI 2024 (arXiv 2302.02814);
"MixFormerV2: efficient fully transformer tracking", NeurIPS 2023 (arXiv 2305.15896). Parameter names are those of the
published checkpoints; the tensors that they carry but no forward pass reads are left out (`UNUSED`).
"""

from common.networks.mixformer.config import CONFIGS, MixFormerConfig
from common.networks.mixformer.model import CONSTANTS, UNUSED, MixFormer, Templates

__all__ = ["CONFIGS", "CONSTANTS", "UNUSED", "MixFormer", "MixFormerConfig", "Templates"]
