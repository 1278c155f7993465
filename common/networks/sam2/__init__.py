"""SAM 2.1 (Ravi et al. 2024, https://arxiv.org/abs/2408.00714): the modules of `transformers`, driven frame by frame.

`build` makes the network, `convert` reads the official checkpoints, `inputs` prepares pictures and prompts, `decoding` turns
features and prompts into masks, `memory` is what is kept of an object, `stream` tracks, `image` segments one picture.
"""
