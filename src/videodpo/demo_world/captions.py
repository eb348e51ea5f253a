"""Scenes of the demo world, and the plain English captions that describe them."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

SHAPES = ("circle", "square", "triangle", "cross", "ring")
COLORS = ("red", "green", "blue", "yellow", "purple", "white")
MOTIONS = ("left", "right", "up", "down", "grows", "shrinks")
BACKGROUNDS = ("black", "gray", "brown", "teal")

UNSEEN_SHARE = 0.2  # of the (shape, color, motion) triples; no bundled model is trained on them

_VERBS = {
    "left": "moves left",
    "right": "moves right",
    "up": "moves up",
    "down": "moves down",
    "grows": "grows",
    "shrinks": "shrinks",
}


@dataclass(frozen=True)
class Scene:
    """Content of one clip: a moving object and, in two-object scenes, a second object that does not move."""

    shape: str
    color: str
    motion: str
    background: str
    other_shape: str | None = None
    other_color: str | None = None

    @property
    def unseen(self) -> bool:
        """True if no bundled model was trained on this triple of shape, color and motion."""
        key = f"{self.shape} {self.color} {self.motion}".encode()
        return hashlib.sha256(key).digest()[0] < UNSEEN_SHARE * 256

    @property
    def caption(self) -> str:
        """Plain English description of the scene."""
        other = f" beside a {self.other_color} {self.other_shape}" if self.other_shape else ""
        return f"A {self.color} {self.shape} {_VERBS[self.motion]}{other} on a {self.background} background."


def all_scenes() -> Iterator[Scene]:
    """Yield every scene in a fixed order: 720 with one object, 20,880 with two."""
    singles = [Scene(*parts) for parts in itertools.product(SHAPES, COLORS, MOTIONS, BACKGROUNDS)]
    yield from singles
    for scene in singles:
        for shape, color in itertools.product(SHAPES, COLORS):
            if (shape, color) != (scene.shape, scene.color):
                yield replace(scene, other_shape=shape, other_color=color)


def random_scene(rng: random.Random, *, two_object_share: float = 0.3) -> Scene:
    """Draw a scene uniformly over the attributes; it has two objects with the given probability."""
    scene = Scene(rng.choice(SHAPES), rng.choice(COLORS), rng.choice(MOTIONS), rng.choice(BACKGROUNDS))
    if rng.random() >= two_object_share:
        return scene
    while True:
        shape, color = rng.choice(SHAPES), rng.choice(COLORS)
        if (shape, color) != (scene.shape, scene.color):
            return replace(scene, other_shape=shape, other_color=color)


def parse_caption(caption: str) -> Scene | None:
    """Scene that a caption of the demo world describes; None for any other text."""
    words = caption.strip().rstrip(".").lower().split()
    colors = [word for word in words if word in COLORS]
    shapes = [word for word in words if word in SHAPES]
    motions = [word for word in words if word in MOTIONS]
    grounds = [word for word in words if word in BACKGROUNDS]
    if not (1 <= len(shapes) == len(colors) <= 2 and len(motions) == len(grounds) == 1):
        return None
    other = (shapes[1], colors[1]) if len(shapes) == 2 else (None, None)
    scene = Scene(shapes[0], colors[0], motions[0], grounds[0], *other)
    return scene if scene.caption.rstrip(".").lower().split() == words else None
