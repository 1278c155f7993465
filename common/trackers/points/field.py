"""All points of a run - the prompts' and the support points around them - carried from picture to picture.

Per frame: pyramidal Lucas-Kanade with a forward-backward check proposes displacements, the points that have moved
together so far vote on each other's motion, and every point is aligned to its own patch of the key frame, so that errors
do not add up. A point whose patch no longer matches is hidden and rides on its neighbours until the patch is seen again.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.trackers.points import consensus, patches, search, support

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

WINDOW = 15
REACH = 40.0
FAR_REACH = 120.0
TOGETHER = 0.6
"""Pixels per frame that two points of one layer may stray from each other."""
MEMORY = 20.0
NEIGHBOURS = 40
SEARCHES = 12
"""Hidden points that are looked for per frame; and helpers, as many again."""
RESEED_EVERY = 4
BALLISTIC = 25
"""Frames that a hidden point without companions keeps its own velocity, as behind a pillar."""
HOMING = 0.15
"""Share by which a hidden point's own velocity gives way to its object's, per frame."""


@dataclass
class Field:
    """Arrays over n queries and m = n + slots for support points. Owned and changed by one run.

    Of all m: xy (m, 2), velocity (m, 2), alive (m,), fresh (m,) new since neighbours were last chosen. Of the queries:
    owner (n,) number of the object, whole (n,) whether that is known as an area, helper (n,) whether nobody asked for it,
    affine (n, 2, 2) key patch -> now, before (n, 2, 2) how the object had turned and grown when the key patch was taken,
    not a number while that is unknown, relative (n, 2) velocity against the dominant motion, seen (n,), hidden (n,) frames
    since last seen, stale (n,) frames of good motion with a poor match, score (n,), template (n, AREA), jacobian
    (n, AREA, 8), trust (n, AREA) per pixel 0..1, near (n, NEIGHBOURS) indices or -1, stray and age of these, searched (n,)
    frame of the last search, doubt (n,) pixels that a hidden point may be off. gray (h, w) uint8: the last picture. frame:
    its number.
    """

    xy: F64
    velocity: F64
    alive: Bool
    fresh: Bool
    affine: F64
    before: F64
    relative: F64
    owner: I64
    whole: Bool
    helper: Bool
    seen: Bool
    hidden: I64
    stale: I64
    score: F32
    template: F32
    jacobian: F32
    trust: F32
    near: I32
    stray: F32
    age: F32
    searched: I64
    doubt: F64
    gray: NDArray[np.uint8]
    frame: int

    def to_tree(self) -> dict[str, Any]:
        """Plain values for a snapshot."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_tree(cls, tree: dict[str, Any]) -> Field:
        """The field of a snapshot."""
        values: dict[str, Any] = {k: np.array(v) if isinstance(v, np.ndarray) else v for k, v in tree.items()}
        return cls(**values)


def slots_for(queries: int) -> int:
    """How many support points help a number of tracked points: many each when there are few, bounded in all."""
    return int(np.clip(14 * queries, 128, 320))


def begin(gray: NDArray[np.uint8], xy: F64, trust: F32, owner: I64, whole: Bool, helper: Bool) -> Field:
    """A field whose queries are xy (n, 2) on the picture gray (h, w); points outside the picture start hidden.

    trust: (n, AREA) 0..1, how far each pixel around a query belongs to the same thing as the query. owner: (n,) which
    queries belong to one object. whole: (n,) those of objects that are known as areas. helper: (n,) those that nobody asked
    for.
    """
    n = len(xy)
    m = n + slots_for(n)
    height, width = gray.shape
    image = gray.astype(np.float32)
    within = _within(xy, (width, height))
    field = Field(
        xy=np.concatenate([xy, np.zeros((m - n, 2))]),
        velocity=np.zeros((m, 2)),
        alive=np.arange(m) < n,
        fresh=np.ones(m, bool),
        affine=np.tile(np.eye(2), (n, 1, 1)),
        before=np.tile(np.eye(2), (n, 1, 1)),
        relative=np.zeros((n, 2)),
        owner=owner.copy(),
        whole=whole.copy(),
        helper=helper.copy(),
        seen=within.copy(),
        hidden=np.zeros(n, np.int64),
        stale=np.zeros(n, np.int64),
        score=within.astype(np.float32),
        template=np.zeros((n, patches.AREA), np.float32),
        jacobian=np.zeros((n, patches.AREA, 8), np.float32),
        trust=np.ones((n, patches.AREA), np.float32),
        near=np.full((n, NEIGHBOURS), -1, np.int32),
        stray=np.zeros((n, NEIGHBOURS), np.float32),
        age=np.zeros((n, NEIGHBOURS), np.float32),
        searched=np.zeros(n, np.int64),
        doubt=np.full(n, 2.0),
        gray=gray.copy(),
        frame=0,
    )
    _anchor(field, np.arange(n), image)
    field.trust = np.maximum(field.trust * trust, 0.001).astype(np.float32)
    _reseed(field, image)
    return field


def step(field: Field, gray: NDArray[np.uint8]) -> None:
    """Carry the field to the next picture gray (h, w), of the same size as before."""
    height, width = gray.shape
    size = (width, height)
    image = gray.astype(np.float32)
    noise = patches.noise_level(image)
    n = len(field.seen)
    xy0 = field.xy.copy()

    moved, voter = _flow(field, gray)
    motion, camera_shift, camera_turn = _consensus(field, moved, voter, size)
    share = (motion.weight / (motion.weight + np.where(field.seen, 0.05, 0.3)))[:, None]
    # What is around a thing of which nothing is seen is something else, such as what covers it: it goes on as it did.
    unseen = field.whole & (np.bincount(field.owner, field.seen)[field.owner] == 0)
    share[unseen] = 0
    expected_move = share * motion.shift + (1 - share) * (camera_shift + field.relative)
    turn = share[..., None] * motion.gradient + (1 - share[..., None]) * camera_turn
    expected = xy0[:n] + expected_move
    bend = (np.eye(2) + turn) @ field.affine
    certain = motion.weight > 0.25
    slack = np.where(certain, np.hypot(0.3, 2 * motion.spread), 2.0)
    slack = np.where(field.seen, slack, np.clip(field.doubt, 1.0, 6.0))

    # Each point is aligned from where its neighbours expect it, and, where its own flow says otherwise, from there too.
    flowed = voter[:n]
    own = xy0[:n] + moved[:n]
    apart = np.hypot(*(own - expected).T)
    lone = flowed & ~certain
    second = np.flatnonzero(flowed & certain & (apart > 0.75))
    which = np.concatenate([np.arange(n), second])
    start = np.concatenate([np.where(lone[:, None], own, expected), own[second]])
    prior_px = np.concatenate([slack, np.full(len(second), 1.0)])
    weight = patches.CENTRED * field.trust[which]
    result = patches.align(
        image, field.template[which], field.jacobian[which], weight, start, bend[which], start, prior_px, noise
    )
    new_xy, new_bend, score, core, fits = (
        result.xy[:n],
        result.affine[:n],
        result.score[:n],
        result.core[:n],
        result.fits[:n],
    )
    margin = 0.05 + 0.3 * motion.weight / (motion.weight + 3.0)
    better = (result.score[n:] > (score + margin)[second]) & (result.score[n:] > 0.75)
    chosen = second[better]
    new_xy[chosen], new_bend[chosen] = result.xy[n:][better], result.affine[n:][better]
    score[chosen], core[chosen], fits[chosen] = (
        result.score[n:][better],
        result.core[n:][better],
        result.fits[n:][better],
    )

    within = _within(new_xy, size)
    agrees = np.hypot(*(new_xy - expected).T) < np.where(certain, 1.0 + 3 * slack, 4.0)
    match = np.where(field.seen, (score > 0.6) & (core > 0.35), (score > 0.75) & (core > 0.55) & agrees)
    # Looks change: a point that flows on steadily, and is not gainsaid by its companions, is followed without its patch.
    steady = patches.likeness(field.gray.astype(np.float32), xy0[:n], image, own) > 0.85
    gainsaid = (motion.weight > 2.0) & (apart > 0.7 + 2 * motion.spread)
    carried = field.seen & flowed & steady & ~gainsaid & (score > 0.2)
    seen = within & (match | carried)
    field.stale = np.where(carried & ~match, field.stale + 1, 0)

    both = seen & field.seen
    field.affine = np.where(match[:, None, None], new_bend, bend)
    field.seen = seen
    field.score = np.where(seen, np.clip(score, 0, 1), 0).astype(np.float32)
    field.hidden = np.where(seen, 0, field.hidden + 1)
    field.xy[:n] = np.where(match[:, None], new_xy, np.where(carried[:, None], own, expected))
    field.xy[n:] += moved[n:]
    travelled = field.xy - xy0
    field.velocity = travelled.copy()
    field.velocity[:n][~both] = expected_move[~both]
    strayed = travelled[:n] - camera_shift
    relative = np.where(both[:, None], field.relative + 0.3 * (strayed - field.relative), field.relative)
    field.relative = _homing(field, relative, seen)
    field.alive[n:] = voter[n:]

    followed = np.where(both[:, None], travelled[:n], expected_move)
    _learn(
        field,
        motion,
        xy0,
        travelled,
        followed,
        both,
        both | (~seen & (motion.weight > 1.0)),
        np.concatenate([both, voter[n:]]),
    )
    # Pixels that do not move along belong to something else, as beyond an object's outline. That is learned only while
    # the point itself fits and is where its companions expect it, so that an arriving occluder teaches nothing.
    expected_here = (motion.weight > 1.0) & (np.hypot(*(new_xy - expected).T) < 0.75) & (core > 0.6)
    learn = match & seen & ((score > 0.85) | expected_here)
    field.trust[learn] = np.maximum(field.trust[learn] + 0.07 * (fits[learn] - field.trust[learn]), 0.001)
    field.frame += 1
    field.doubt = np.where(seen, 1.0, np.minimum(field.doubt + np.where(certain, 0.1, 2.0), 80.0))
    _recover(field, image, noise)
    again = np.flatnonzero(seen & ((field.stale >= 5) | _degenerate(field.affine)))
    if len(again):
        _anchor(field, again, image)
        field.before[again] = np.nan
        field.stale[again] = 0
    limit = 2.0 * max(size)
    field.xy = np.clip(field.xy, -limit, 2 * limit)
    if field.frame % RESEED_EVERY == 0:
        _reseed(field, image)
    field.gray = gray.copy()


def _homing(field: Field, relative: F64, seen: Bool) -> F64:
    """Relative velocities (n, 2), those of hidden queries drawn towards what the seen points of their object do nearby.

    Without it a point that never comes back would fly off on its last velocity for ever.
    """
    hidden = np.flatnonzero(~seen & (field.hidden > BALLISTIC))
    shown = np.flatnonzero(seen)
    if len(hidden) == 0:
        return relative
    result = relative.copy()
    pull = HOMING * np.clip((field.hidden[hidden, None] - BALLISTIC) / BALLISTIC, 0.0, 1.0)
    target = np.zeros((len(hidden), 2))
    if len(shown):
        xy = field.xy
        gap = np.hypot(*(xy[hidden, None] - xy[None, shown]).transpose(2, 0, 1))
        weight = np.exp(-gap / FAR_REACH) * (field.owner[hidden, None] == field.owner[None, shown])
        total = weight.sum(1, keepdims=True)
        target = weight @ relative[shown] / np.maximum(total, 1e-9)
        # Points that go different ways say nothing about where this one went.
        scatter = weight @ (relative[shown] ** 2) / np.maximum(total, 1e-9) - target**2
        pull = pull / (1.0 + np.maximum(scatter.sum(1, keepdims=True), 0.0))
    result[hidden] += pull * (target - relative[hidden])
    return result


def _flow(field: Field, gray: NDArray[np.uint8]) -> tuple[F64, Bool]:
    """Displacements (m, 2) by pyramidal Lucas-Kanade, and (m,) for which of them going back leads home.

    Hidden queries and empty slots are left out.
    """
    n = len(field.seen)
    moved, ok = np.zeros_like(field.xy), np.zeros(len(field.xy), bool)
    index = np.flatnonzero(np.concatenate([field.seen, field.alive[n:]]))
    if len(index) == 0:
        return moved, ok
    window = (WINDOW, WINDOW)
    levels = int(np.clip(np.log2(max(1.0, min(gray.shape) / 32)), 0, 3))
    start = np.ascontiguousarray(field.xy[index], np.float32).reshape(-1, 1, 2)
    guess = np.ascontiguousarray((field.xy + field.velocity)[index], np.float32).reshape(-1, 1, 2)
    settings: dict[str, Any] = {
        "winSize": window,
        "maxLevel": levels,
        "criteria": (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 15, 0.02),
        "flags": cv2.OPTFLOW_USE_INITIAL_FLOW,
    }
    before = _exposed_like(field.gray, gray)
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, gray, start, guess, **settings)
    home, returned, _ = cv2.calcOpticalFlowPyrLK(gray, before, there, start.copy(), **settings)
    error = np.hypot(*(home - start)[:, 0].T)
    good = (found.ravel() > 0) & (returned.ravel() > 0) & np.isfinite(there).all((1, 2)) & (error < 0.7)
    height, width = gray.shape
    good &= _within(there[:, 0].astype(np.float64), (width, height))
    ok[index] = good
    moved[index] = np.where(good[:, None], (there - start)[:, 0], 0.0)
    return moved, ok


def _exposed_like(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The earlier picture with the exposure of the later one: on smooth ground flow takes a change of light for motion."""
    blocks = (16, 12)
    old, new = (cv2.resize(x, blocks, interpolation=cv2.INTER_AREA).astype(np.float64) for x in (before, after))
    gain = float(np.clip(np.median((new + 1) / (old + 1)), 0.5, 2.0))
    if abs(gain - 1) < 0.002:
        return before
    result: NDArray[np.uint8] = cv2.convertScaleAbs(before, alpha=gain)
    return result


def _consensus(field: Field, moved: F64, voter: Bool, size: tuple[int, int]) -> tuple[consensus.LocalMotion, F64, F64]:
    """Local motion of each query by its neighbours' votes; and by everybody's: the dominant motion at each query (n, 2)
    with its gradient (2, 2)."""
    n = len(field.seen)
    points = field.xy[:n]
    offset, step_, there = _around(field, field.xy, moved)
    distance2 = (offset**2).sum(2)
    closeness = np.exp(distance2 * np.float32(-0.5 / REACH**2))
    closeness += np.float32(0.02) * np.exp(distance2 * np.float32(-0.5 / FAR_REACH**2))
    weights = closeness * np.exp(field.stray * np.float32(-0.5 / TOGETHER**2)) * (there & voter[field.near])
    # Newcomers may belong to whatever is about to cover the point: they whisper while old companions speak, and the
    # point's own flow decides between layers only until it has companions.
    known = field.age >= 2
    lonely = (weights * known).sum(1) < 0.3
    weights = weights * np.where(known, np.float32(1), np.float32(0.1))
    motion = consensus.robust_fit(offset, step_, weights, moved[:n], voter[:n] & lonely, 0.5)
    middle = np.array(size, np.float64) / 2
    dominant = consensus.robust_fit(
        (field.xy[voter] - middle)[None].astype(np.float32),
        moved[voter][None].astype(np.float32),
        np.ones((1, int(voter.sum())), np.float32),
        np.zeros((1, 2)),
        np.zeros(1, bool),
        1.0,
    )
    camera: F64 = dominant.shift + (points - middle) @ dominant.gradient[0].T
    return motion, camera, dominant.gradient[0]


def _around(field: Field, xy: F64, moved: F64) -> tuple[F32, F32, Bool]:
    """Offsets and displacements (n, k, 2) of the neighbours, and (n, k) whether there is one."""
    n = len(field.seen)
    xy32 = xy.astype(np.float32)
    return xy32[field.near] - xy32[:n, None], moved.astype(np.float32)[field.near], field.near >= 0


def _learn(
    field: Field,
    motion: consensus.LocalMotion,
    xy0: F64,
    travelled: F64,
    followed: F64,
    own: Bool,
    sure: Bool,
    steady: Bool,
) -> None:
    """Fold this frame's residuals into the running means of squared strays.

    travelled: (m, 2) how everybody moved. followed: (n, 2) the motion of each query's layer: its own, or for a hidden one
    what its neighbours did, so that newcomers are sorted into layers even while it is hidden. own: (n,) who followed its own, sure: (n,) whose
    layer's motion is known at all; steady: (m,) who was seen before and after.
    """
    offset, step_, there = _around(field, xy0, travelled)
    residual = consensus.residual2(followed, motion.gradient, offset, step_)
    together = sure[:, None] & there & steady[field.near]
    # Quick to distrust: a companion that an occluder carries off must not carry the point off, too.
    change = np.minimum(residual, consensus.STRAY_LIMIT**2) - field.stray
    # A hidden point only infers its motion, so its companions change slowly.
    trusting = np.where(own[:, None], 1.0 / np.minimum(field.age + 2.0, MEMORY), 1.0 / MEMORY)
    rate = np.where(change > 0, np.maximum(trusting, 0.3), trusting).astype(np.float32)
    field.stray += np.where(together, rate * change, 0)
    field.age = np.minimum(field.age + together, MEMORY).astype(np.float32)


def _recover(field: Field, image: F32, noise: float) -> None:
    """Look for some of the hidden queries, the longest unsearched first; what is found shows its companions the way."""
    n = len(field.seen)
    height, width = image.shape
    near_frame = _within(field.xy[:n], (width, height), 0.5 * field.doubt)
    hidden = np.flatnonzero(~field.seen & (field.hidden >= 2) & near_frame)
    if len(hidden) == 0:
        return
    longest = hidden[np.argsort(field.searched[hidden], kind="stable")]
    helps = field.helper[longest]
    index = np.concatenate([longest[~helps][:SEARCHES], longest[helps][:SEARCHES]])
    field.searched[index] = field.frame
    radius = np.clip(1.5 * field.doubt[index], 4.0, 80.0)
    place, quality = search.look(
        image, search.bent(field.template[index], field.affine[index]), field.xy[index], radius
    )
    found = quality > 0.7 + 0.1 * radius / 80.0
    index, place = index[found], place[found]
    if len(index) == 0:
        return
    weight = patches.CENTRED * field.trust[index]
    fitted = patches.align(
        image,
        field.template[index],
        field.jacobian[index],
        weight,
        place,
        field.affine[index],
        place,
        np.full(len(index), 1.5),
        noise,
        affine_px=0.5,
    )
    good = (fitted.score > 0.8) & (fitted.core > 0.55) & (np.hypot(*(fitted.xy - place).T) < 3.0)
    good &= _within(fitted.xy, (width, height)) & ~_degenerate(fitted.affine)
    index = index[good]
    jump = np.zeros((n, 2))
    jump[index] = fitted.xy[good] - field.xy[index]
    field.xy[index], field.affine[index] = fitted.xy[good], fitted.affine[good]
    field.seen[index] = True
    field.score[index] = fitted.score[good]
    field.hidden[index] = 0
    field.doubt[index] = 1.0
    back = np.zeros(len(field.xy), bool)
    back[index] = True
    weights = np.exp(field.stray * np.float32(-0.5 / TOGETHER**2)) * (back[field.near] & (field.near >= 0))
    total = weights.sum(1)
    led = ~field.seen & (field.doubt > 3.0) & (total > 0.2)
    if led.any():
        near = np.clip(field.near[led], 0, n - 1)
        field.xy[:n][led] += (weights[led][..., None] * jump[near]).sum(1) / total[led, None]
        field.doubt[led] = 3.0


def _anchor(field: Field, index: NDArray[np.int_], image: F32) -> None:
    """Take the queries' present surroundings as their key patches."""
    xy = field.xy[index]
    eye = np.broadcast_to(np.eye(2), (len(index), 2, 2))
    field.affine[index] = eye
    field.template[index] = patches.sample(image, xy, eye)
    field.jacobian[index] = patches.jacobians(image, xy)
    height, width = image.shape
    field.trust[index] = np.maximum(patches.inside(xy, eye, (width, height)), 0.001)


def _reseed(field: Field, image: F32) -> None:
    """Fill free slots with support points and choose everybody's neighbours anew."""
    n = len(field.seen)
    height, width = image.shape
    free = np.flatnonzero(~field.alive)
    if len(free):
        found = support.candidates(image, 8)
        margin = min(4, min(height, width) // 4)
        held = (found >= margin).all(1) & (found <= np.array([width, height]) - 1 - margin).all(1)
        focus = field.xy[:n][_within(field.xy[:n], (width, height))]
        net = float(np.clip(np.sqrt(width * height / 120), 8, 80))
        chosen = support.choose(found[held], focus, field.xy[field.alive], len(free), 40.0, 10.0, net, (width, height))
        slots = free[: len(chosen)]
        field.xy[slots] = chosen
        field.velocity[slots] = 0
        field.alive[slots] = True
        field.fresh[slots] = True
    usable = np.concatenate([field.seen, field.alive[n:]])
    field.near, field.stray, field.age = consensus.choose_neighbours(
        field.xy[:n], field.xy, usable, field.near, field.stray, field.age, field.fresh, field.seen, TOGETHER, REACH
    )
    field.fresh[:] = False


def _degenerate(affine: F64) -> Bool:
    det = affine[:, 0, 0] * affine[:, 1, 1] - affine[:, 0, 1] * affine[:, 1, 0]
    result: Bool = (det < 0.25) | (det > 4.0) | (np.abs(affine).max((1, 2)) > 3.0)
    return result


def _within(xy: F64, size: tuple[int, int], margin: float | F64 = 0.0) -> Bool:
    """Whether points lie in a picture of size (width, height): on a pixel, i.e. up to half a pixel beyond its centre.
    margin: pixels beyond the picture that still count, one for all or (n,).
    """
    beyond = np.maximum(-xy, xy - (np.array(size) - 1)).max(1)
    result: Bool = np.asarray(beyond <= 0.5 + margin)
    return result
