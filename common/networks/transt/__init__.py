"""TransT: template and search region fused by attention.

Paper: Chen et al., "Transformer tracking", CVPR 2021 (arXiv 2103.15436). Parameter names are those of the published
checkpoints.
"""

from common.networks.transt.model import CONFIGS, TransT, TransTConfig

__all__ = ["CONFIGS", "TransT", "TransTConfig"]
