"""MCITrack: a hierarchical transformer over templates and search region, and a state that every place of the search
region carries from frame to frame.

Paper: Kang et al., "Exploring enhanced contextual information for video-level object tracking", AAAI 2025 (arXiv
2412.11023). Written from the paper and from facts about the published checkpoints, whose authors state no licence: no code
of theirs is in here. Parameter names are those of the checkpoints. Encoder: Tian et al., "Fast-iTPN: integrally pre-trained
transformer pyramid network with token migration", TPAMI 2024. State-space step: Gu and Dao, "Mamba", 2023.
"""

from common.networks.mcitrack.config import CONFIGS, MCITrackConfig
from common.networks.mcitrack.model import Maps, MCITrack

__all__ = ["CONFIGS", "MCITrack", "MCITrackConfig", "Maps"]
