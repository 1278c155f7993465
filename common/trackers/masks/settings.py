"""The numbers of the built-in mask tracker, each with what raising it does."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FlowSettings:
    """Defaults hold for any content; pixels are working pixels of an object's window unless said otherwise.

    window_pixels: most working pixels of one object's window, shared when there are several objects; raising it draws
    finer boundaries and costs time. flow_share: share of those at which flow is computed. margin, margin_px: room around
    the object, as a share of its longer side and in frame pixels; raising them follows faster motion at a lower
    resolution.

    cells: most cells per object that the classifier judges. features: random features of the classifier. kernel_width:
    raising it generalises more and tells less apart. ridge: raising it trusts single cells less. place: weight of a
    cell's place within the object against its looks. stride: one cell in so many is learned from at each frame.

    appearance, propagation, motion: weights of the three kinds of evidence, in log odds. Raising propagation keeps more
    of the last mask, mistakes included. motion_cap_for, motion_cap_against: most that gathered motion evidence may say.
    strange: lean towards the ground where a cell looks like nothing seen so far, in units of the classifier's answer (-1..1).
    persist: share of the motion evidence kept from frame to frame. uncovered: how far pixels without a counterpart in the
    frame before are taken for the object where it was close by.

    anchor, anchor_ground: share of the labelled pictures, against the recent past, in what the object and its
    surroundings are taken to look like; the surroundings change faster. memory: share of the recent past kept at each
    frame. gate_looks, gate_motion: how strictly a cell is kept from being learned when the labelled pictures or the
    motion contradict its label.

    radius, smoothness: of the boundary refinement, see `snap_to_edges`.

    remnant: share of the usual area below which the object is also looked for elsewhere. collapse: share of the labelled
    area below which it counts as lost. doubt: likeness to the labelled pictures (-1..1) below which it counts as lost.
    """

    window_pixels: int = 90_000
    flow_share: float = 0.5
    margin: float = 0.5
    margin_px: float = 40.0
    cells: int = 12_000
    features: int = 256
    kernel_width: float = 3.3
    ridge: float = 0.3
    place: float = 2.0
    stride: int = 6
    appearance: float = 3.0
    strange: float = 0.1
    propagation: float = 0.3
    motion: float = 1.0
    motion_cap_for: float = 0.0
    motion_cap_against: float = 2.5
    persist: float = 0.6
    uncovered: float = 0.5
    anchor: float = 0.7
    anchor_ground: float = 0.5
    memory: float = 0.9
    gate_looks: float = 2.0
    gate_motion: float = 2.0
    radius: int = 6
    smoothness: float = 60.0
    remnant: float = 0.5
    collapse: float = 0.03
    doubt: float = -0.1
