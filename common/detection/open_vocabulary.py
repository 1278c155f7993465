"""Grounding DINO and OWLv2 through transformers: detectors that look for whatever they are told, in words.

Source of how they are used: the papers' own evaluation (a phrase's score is that of its best word; OWLv2's phrases begin
with "a photo of a").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from common.detection.contract import Detections, DetectorCard, DetectorSettings
from common.detection.decoding import Raw, best_class, corners, finish, sigmoid
from common.detection.inputs import IMAGENET_MEAN, IMAGENET_STD, Fit
from common.detection.network import NetworkDetector, weight_files
from common.detection.open_variants import OPEN, OpenVariant
from common.detection.words import Encode, made_up, padded, published, sentences
from common.errors import PromptInvalid
from common.video.contract import Image
from common.weights.options import DEFAULT, SEEDED, EngineOptions

if TYPE_CHECKING:
    import torch

_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_OVERLAP = 0.5
"""Both find a thing more than once now and then."""


@dataclass(frozen=True)
class _Net:
    module: Any
    device: torch.device
    encode: Encode


class OpenVocabularyDetector(NetworkDetector[_Net]):
    """A `Detector` of the things named in `DetectorSettings.prompts`."""

    def __init__(
        self,
        name: str,
        variant: OpenVariant,
        options: EngineOptions = DEFAULT,
        settings: DetectorSettings | None = None,
    ) -> None:
        self._variant = variant
        chosen = settings or DetectorSettings()
        card = DetectorCard(
            name=name,
            title=variant.title,
            classes=tuple(dict.fromkeys(prompt.strip() for prompt in chosen.prompts)) or ("",),
            licence="Apache-2.0",
            memory_bound="the network and one picture's input",
            weights=name,
            weights_licence="Apache-2.0",
            paper=variant.paper,
            devices=("cpu", "cuda"),
            open_vocabulary=True,
        )
        super().__init__(card, options, chosen)

    def _build(self) -> _Net:
        from common.detection.transformers_loading import build

        variant, name = self._variant, self._card.name
        module, device, _ = build(
            variant.family, "ForObjectDetection", variant.backbone, variant.config, None, name, self._options
        )
        if self._options.weights == SEEDED:
            encode = made_up(module.config.text_config.vocab_size)
        else:
            encode = published(weight_files(name, self._options)[0].parent, name)
        return _Net(module, device, encode)

    def _infer(self, model: _Net, images: Sequence[Image]) -> list[Detections]:
        if self._card.classes == ("",):
            raise PromptInvalid(f"{self._card.title} looks for what it is told: name the things (prompts).")
        look = self._grounded if self._variant.kind == "grounding" else self._owl
        return [look(model, image) for image in images]

    # --- Grounding DINO --------------------------------------------------------------------------------------------------

    def _grounded(self, model: _Net, image: Image) -> Detections:
        import torch

        from common.detection.tensors import normalised, resized

        rows, columns = image.shape[:2]
        longest = self._settings.side or self._variant.side
        shortest = self._variant.short * longest / self._variant.side
        scale = min(shortest / min(rows, columns), longest / max(rows, columns))
        width, height = (max(32, round(length * scale)) for length in (columns, rows))
        pixels = normalised(resized(image, width, height, model.device), IMAGENET_MEAN, IMAGENET_STD)[None]
        dtype = next(model.module.parameters()).dtype
        scores: list[NDArray[np.float32]] = []
        boxes: list[NDArray[np.float32]] = []
        classes: list[NDArray[np.int64]] = []
        offset = 0
        for sentence in sentences(self._card.classes, model.encode):
            tokens = torch.tensor([sentence.tokens], device=model.device)
            with torch.inference_mode():
                out = model.module(
                    pixel_values=pixels.to(dtype),
                    input_ids=tokens,
                    token_type_ids=torch.zeros_like(tokens),
                    attention_mask=torch.ones_like(tokens),
                )
            logits = out.logits[0].float().cpu().numpy()
            by_phrase = np.stack([logits[:, list(places)].max(1) for places in sentence.places], 1)
            best, labels = best_class(sigmoid(by_phrase))
            scores.append(best)
            classes.append(labels + offset)
            boxes.append(out.pred_boxes[0].float().cpu().numpy())
            offset += len(sentence.places)
        fit = Fit(columns, rows, width / columns, height / rows)
        size = np.array([width, height, width, height], np.float32)
        raw = Raw(corners(np.concatenate(boxes) * size), np.concatenate(scores), np.concatenate(classes))
        return finish(raw, fit, self._settings.floor, overlap=_OVERLAP)

    # --- OWLv2 -----------------------------------------------------------------------------------------------------------

    def _owl(self, model: _Net, image: Image) -> Detections:
        import torch

        from common.detection.tensors import normalised, resized

        config = model.module.config
        side = int(config.vision_config.image_size)
        longest = max(image.shape[:2])
        # the picture in the upper left of a grey square
        square = np.full((longest, longest, 3), 128, np.uint8)
        square[: image.shape[0], : image.shape[1]] = image
        pixels = normalised(resized(square, side, side, model.device), _CLIP_MEAN, _CLIP_STD)[None]
        text = config.text_config
        start, end = int(text.bos_token_id), int(text.eos_token_id)
        phrases = [model.encode(f"a photo of a {name}") for name in self._card.classes]
        rows = [padded(phrase, start, end, int(text.max_position_embeddings)) for phrase in phrases]
        dtype = next(model.module.parameters()).dtype
        with torch.inference_mode():
            out = model.module(
                pixel_values=pixels.to(dtype),
                input_ids=torch.tensor([tokens for tokens, _ in rows], device=model.device),
                attention_mask=torch.tensor([counts for _, counts in rows], device=model.device),
            )
        scores, classes = best_class(sigmoid(out.logits[0].float().cpu().numpy()))
        scale = side / longest
        fit = Fit(image.shape[1], image.shape[0], scale, scale)
        raw = Raw(corners(out.pred_boxes[0].float().cpu().numpy() * side), scores, classes)
        return finish(raw, fit, self._settings.floor, overlap=_OVERLAP)


def make(name: str, options: EngineOptions, settings: DetectorSettings) -> OpenVocabularyDetector:
    """A published size, by the name of its weights."""
    return OpenVocabularyDetector(name, OPEN[name], options, settings)
