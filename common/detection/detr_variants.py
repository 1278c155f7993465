"""The published sizes of detectors of the DETR family that transformers implements, as data.

Sources: RT-DETRv2, Lv et al. 2024, https://arxiv.org/abs/2407.17140; D-FINE, Peng et al. 2024,
https://arxiv.org/abs/2410.13842; DEIMv2, Huang et al. 2025, https://arxiv.org/abs/2509.20787; RF-DETR, Robinson et al.
2025, https://arxiv.org/abs/2511.09554.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Variant:
    """family: of transformers' classes (`<family>Config`, `<family>ForObjectDetection`). side: of the square input, pixels.
    classes: outputs, 80 or 91. backbone: transformers' configuration class and what differs from its defaults. config:
    what differs from the family's defaults. normalised: ImageNet's mean and deviation are taken out.
    """

    family: str
    title: str
    paper: str
    side: int
    classes: int
    backbone: tuple[str, Mapping[str, Any]]
    config: Mapping[str, Any]
    normalised: bool = False
    licence: str = "Apache-2.0"
    weights_licence: str = "Apache-2.0"


def _resnet(depths: tuple[int, ...], basic: bool) -> tuple[str, Mapping[str, Any]]:
    sizes = [64, 128, 256, 512] if basic else [256, 512, 1024, 2048]
    kind = "basic" if basic else "bottleneck"
    return "RTDetrResNetConfig", {
        "depths": list(depths),
        "layer_type": kind,
        "hidden_sizes": sizes,
        "out_indices": [2, 3, 4],
    }


def _rt(size: str, depths: tuple[int, ...], basic: bool, **config: Any) -> Variant:
    if basic:
        config = {"encoder_in_channels": [128, 256, 512], "hidden_expansion": 0.5, **config}
    paper = "Lv et al. 2024, RT-DETRv2, https://arxiv.org/abs/2407.17140"
    return Variant("RTDetrV2", f"RT-DETRv2 {size}", paper, 640, 80, _resnet(depths, basic), config)


_HGNET: Mapping[str, Any] = {
    "stage_downsample": [False, True, True, True],
    "stage_light_block": [False, False, True, True],
    "stage_kernel_size": [3, 3, 5, 5],
}
_B0: Mapping[str, Any] = {
    **_HGNET,
    "hidden_sizes": [128, 256, 512, 1024],
    "stem_channels": [3, 16, 16],
    "stage_in_channels": [16, 64, 256, 512],
    "stage_mid_channels": [16, 32, 64, 128],
    "stage_out_channels": [64, 256, 512, 1024],
    "stage_num_blocks": [1, 1, 2, 1],
    "stage_numb_of_layers": [3, 3, 3, 3],
    "use_learnable_affine_block": True,
}
_B2: Mapping[str, Any] = {
    **_HGNET,
    "hidden_sizes": [192, 384, 768, 1536],
    "stem_channels": [3, 24, 32],
    "stage_in_channels": [32, 96, 384, 768],
    "stage_mid_channels": [32, 64, 128, 256],
    "stage_out_channels": [96, 384, 768, 1536],
    "stage_num_blocks": [1, 1, 3, 1],
    "stage_numb_of_layers": [4, 4, 4, 4],
    "use_learnable_affine_block": True,
}
_B4: Mapping[str, Any] = {
    **_HGNET,
    "hidden_sizes": [256, 512, 1024, 2048],
    "stem_channels": [3, 32, 48],
    "stage_in_channels": [48, 128, 512, 1024],
    "stage_mid_channels": [48, 96, 192, 384],
    "stage_out_channels": [128, 512, 1024, 2048],
    "stage_num_blocks": [1, 1, 3, 1],
    "stage_numb_of_layers": [6, 6, 6, 6],
}
_B5: Mapping[str, Any] = {
    **_HGNET,
    "hidden_sizes": [256, 512, 1024, 2048],
    "stem_channels": [3, 32, 64],
    "stage_in_channels": [64, 128, 512, 1024],
    "stage_mid_channels": [64, 128, 256, 512],
    "stage_out_channels": [128, 512, 1024, 2048],
    "stage_num_blocks": [1, 2, 5, 2],
    "stage_numb_of_layers": [6, 6, 6, 6],
}
# two levels of features instead of three
_NANO: Mapping[str, Any] = {
    "num_feature_levels": 2,
    "encoder_ffn_dim": 512,
    "encode_proj_layers": [1],
    "d_model": 128,
    "encoder_hidden_dim": 128,
    "decoder_ffn_dim": 512,
    "encoder_in_channels": [512, 1024],
    "decoder_n_points": [6, 6],
    "decoder_in_channels": [128, 128],
    "feat_strides": [16, 32],
    "depth_mult": 0.5,
    "decoder_layers": 3,
    "hidden_expansion": 0.34,
}


def _dfine(size: str, backbone: Mapping[str, Any], levels: list[int], **config: Any) -> Variant:
    paper = "Peng et al. 2024, D-FINE, https://arxiv.org/abs/2410.13842"
    net = ("HGNetV2Config", {**backbone, "out_indices": levels})
    return Variant("DFine", f"D-FINE {size}", paper, 640, 80, net, {"decoder_n_points": [3, 6, 3], **config})


def _rf(size: str, side: int, layers: int, base: bool = False) -> Variant:
    taken = [2, 5, 8, 11] if base else [3, 6, 9, 12]
    backbone = {
        "hidden_size": 384,
        "num_attention_heads": 6,
        "patch_size": 14 if base else 16,
        "num_windows": 4 if base else 2,
        "image_size": 518 if base else side,
        "out_features": [f"stage{number}" for number in taken],
    }
    config = {"decoder_layers": layers, "decoder_n_points": 2}
    paper = "Robinson et al. 2025, RF-DETR, https://arxiv.org/abs/2511.09554"
    return Variant("RfDetr", f"RF-DETR {size}", paper, side, 91, ("RfDetrDinov2Config", backbone), config, True)


def _deim(size: str, backbone: tuple[str, Mapping[str, Any]], normalised: bool, **config: Any) -> Variant:
    paper = "Huang et al. 2025, DEIMv2, https://arxiv.org/abs/2509.20787"
    shown = {"decoder_activation_function": "silu", **config}
    return Variant(
        "Deimv2", f"DEIMv2 {size}", paper, 640, 80, backbone, shown, normalised, weights_licence="NOASSERTION"
    )


_DINO_TINY: Mapping[str, Any] = {
    "hidden_size": 192,
    "num_attention_heads": 3,
    "num_hidden_layers": 12,
    "intermediate_size": 768,
    "layerscale_value": 1.0,
    "num_register_tokens": 0,
    "key_bias": False,
    "rope_theta": 100.0,
    "out_indices": [4, 8, 12],
    "apply_layernorm": False,
    "reshape_hidden_states": True,
}

VARIANTS: Mapping[str, Variant] = {
    "rtdetrv2-r18": _rt("R18", (2, 2, 2, 2), True, decoder_layers=3),
    "rtdetrv2-r34": _rt("R34", (3, 4, 6, 3), True, decoder_layers=4),
    "rtdetrv2-r50-m": _rt("R50-M", (3, 4, 6, 3), False, hidden_expansion=0.5),
    "rtdetrv2-r50": _rt("R50", (3, 4, 6, 3), False),
    "rtdetrv2-r101": _rt(
        "R101",
        (3, 4, 23, 3),
        False,
        encoder_ffn_dim=2048,
        encoder_hidden_dim=384,
        decoder_in_channels=[384, 384, 384],
    ),
    "dfine-n": _dfine("N", _B0, [3, 4], **_NANO),
    "dfine-s": _dfine(
        "S",
        _B0,
        [2, 3, 4],
        decoder_layers=3,
        hidden_expansion=0.5,
        depth_mult=0.34,
        encoder_in_channels=[256, 512, 1024],
    ),
    "dfine-m": _dfine("M", _B2, [2, 3, 4], decoder_layers=4, depth_mult=0.67, encoder_in_channels=[384, 768, 1536]),
    "dfine-l": _dfine("L", _B4, [2, 3, 4]),
    "dfine-x": _dfine(
        "X", _B5, [2, 3, 4], encoder_hidden_dim=384, encoder_ffn_dim=2048, decoder_in_channels=[384, 384, 384]
    ),
    "deimv2-n": _deim("N", ("HGNetV2Config", {**_B0, "out_indices": [3, 4]}), False, **_NANO),
    "deimv2-s": _deim(
        "S",
        ("DINOv3ViTConfig", _DINO_TINY),
        True,
        encoder_in_channels=[192, 192, 192],
        encoder_hidden_dim=192,
        encoder_ffn_dim=512,
        d_model=192,
        decoder_in_channels=[192, 192, 192],
        decoder_ffn_dim=512,
        decoder_layers=4,
        decoder_n_points=[3, 6, 3],
        depth_mult=0.67,
        hidden_expansion=0.34,
        encoder_has_trailing_conv=False,
    ),
    "rfdetr-nano": _rf("nano", 384, 2),
    "rfdetr-small": _rf("small", 512, 3),
    "rfdetr-medium": _rf("medium", 576, 4),
    "rfdetr-base": _rf("base", 560, 3, base=True),
    "rfdetr-large": _rf("large", 704, 4),
}
"""By the name of their weights."""
