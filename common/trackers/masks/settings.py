"""The numbers of the built-in mask tracker, each with what raising it does."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FlowSettings:
    """Defaults hold for any content; pixels are working pixels of an object's window unless said otherwise.

    window_pixels: most working pixels of all windows together; raising it draws finer boundaries and costs time.
    margin, margin_px: room around the object, as a share of its longer side and in frame pixels; raising them follows
    faster motion at a lower resolution. cells: most cells per object that the classifier judges. features: random
    features of the classifier. kernel_width: raising it generalises more and tells less apart. ridge: raising it trusts
    single cells less. place: weight of a cell's place within the object against its looks.
    appearance, propagation, motion: weights of the three kinds of evidence (log odds). anchor: share of the labelled
    pictures, against the recent past, in what the object is taken to look like. memory: share of the past kept at each
    frame. radius, smoothness: of the boundary refinement.
    collapse: share of the labelled area below which the object counts as lost. doubt: likeness to the labelled pictures (-1..1) below which it does.
    """

    window_pixels: int = 90_000
    margin: float = 0.5
    margin_px: float = 40.0
    cells: int = 12_000
    features: int = 256
    kernel_width: float = 3.3
    ridge: float = 0.3
    place: float = 2.0
    appearance: float = 3.0
    propagation: float = 0.3
    motion: float = 1.0
    anchor: float = 0.7
    memory: float = 0.9
    radius: int = 6
    smoothness: float = 60.0
    collapse: float = 0.03
    doubt: float = -0.1
    uncovered: float = 0.5
    gate_known: float = 2.0
    gate_moves: float = 2.0
    persist: float = 0.6
    motion_cap: float = 2.5
    motion_cap_up: float = 0.0
    remnant: float = 0.5
    anchor_ground: float = 0.3
