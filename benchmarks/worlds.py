"""Drawn worlds: small pictures of three classes, whose cues are known and can be left out.

A seed draws four or five kinds of objects, and which of them are cues of which class. A cue may lie
inside another object, always have another beside it, come with a second cue, be one of two that
only together make a class, or be seen in the pictures of another class, against which it then
speaks. The other kinds occur independently of the class.
"""

import colorsys
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

SIDE, FINE = 64, 4
KINDS = "disc", "ring", "cross", "bar", "star", "triangle", "square", "stripes", "glyphs"
ROLES = ("host", "companion", "second cue", *["distractor"] * 3)
OFTEN, RARELY = 0.98, 0.01
EXAMPLES, NEGATIVES = 30, 100


class Thing(NamedTuple):
    """An object: its kind, centre, size in pixels, colour and turn in degrees."""

    kind: str
    x: float
    y: float
    size: int
    colour: tuple
    turn: float


class World:
    """Which kinds there are, in which share of each class's pictures, and where they lie."""

    def __init__(self, seed):
        rng = np.random.default_rng([seed, 0])
        self.kinds = [str(k) for k in rng.permutation(KINDS)[: rng.integers(4, 6)]]
        hues = rng.uniform() + rng.permutation(len(self.kinds)) / len(self.kinds)
        self.hues = dict(zip(self.kinds, hues, strict=True))
        self.crops, joint = bool(seed % 2), rng.random() < 0.3
        cues = self.kinds[: 2 if joint else 3]
        self.shares = {
            kind: np.where(np.arange(3) == i, OFTEN, RARELY) for i, kind in enumerate(cues)
        }
        self.inside, self.beside = {}, {}  # each guest's host
        for kind, role in zip(self.kinds[len(cues) :], rng.permutation(ROLES), strict=False):
            self.shares[kind] = np.full(3, rng.uniform(0.2, 0.6))
            if role == "host":
                self.inside[cues[0]], self.shares[kind][0] = kind, 0.9
            elif role == "companion":
                self.beside[kind], self.shares[kind] = cues[1], np.zeros(3)
            elif role == "second cue":
                self.shares[kind] = np.where(np.arange(3) == 2, 0.8, 0.1)
        if joint:
            for kind in cues:
                self.shares[kind][2] = OFTEN
        elif rng.random() < 0.5:
            self.shares[cues[1]][0] = 0.2

    def things(self, label, rng):
        """Return the objects of a picture of a class, from back to front."""
        names = [kind for kind in self.kinds if rng.random() < self.shares[kind][label]]
        names += [guest for guest, host in self.beside.items() if host in names]
        found, apart = {}, rng.random() < 0.75
        for name in sorted(names, key=lambda kind: (kind in self.beside, kind in self.inside)):
            found[name] = self.placed(name, found, apart, rng)
        return list(found.values())

    def placed(self, kind, others, apart, rng):
        """Return an object at a place of its own, or at its host if that is there."""
        hosts = self.inside.values()
        size = int(rng.integers(14, 21) if kind in hosts else rng.integers(9, 21))
        host = others.get(self.inside.get(kind)) or others.get(self.beside.get(kind))
        hue = (self.hues[kind] + rng.normal(0, 0.045)) % 1
        light = rng.uniform(0.25, 0.45) if rng.random() < 0.3 else rng.uniform(0.75, 1)
        colour = tuple(int(255 * c) for c in colorsys.hsv_to_rgb(hue, rng.uniform(0.6, 1), light))
        turn = rng.uniform(-25, 25)
        if host and kind in self.inside:
            shift = rng.uniform(-2, 2, 2)
            small = int(rng.integers(6, 9))
            return Thing(kind, host.x + shift[0], host.y + shift[1], small, colour, turn)
        for _ in range(30):
            x, y = rng.uniform(size / 2, SIDE - size / 2, 2)
            if host:
                t, reach = rng.uniform(0, 2 * np.pi), (host.size + size) / 2
                x, y = host.x + reach * np.cos(t), host.y + reach * np.sin(t)
                if min(x, y) >= 4 and max(x, y) <= SIDE - 4:
                    break
            elif not apart or all(
                np.hypot(x - o.x, y - o.y) > (size + o.size) / 2 for o in others.values()
            ):
                break
        return Thing(kind, x, y, size, colour, turn)


def texture(rng):
    """Return a random ground, float [SIDE, SIDE, 3]: clouds, waves and grain of a pale colour."""
    cells = int(rng.integers(4, 17))
    clouds = Image.fromarray(rng.uniform(0, 255, (cells, cells)).astype(np.uint8))
    clouds = np.asarray(clouds.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) / 255 - 0.5
    rows, columns = np.mgrid[:SIDE, :SIDE] * 2 * np.pi / rng.uniform(5, 25)
    t = rng.uniform(0, np.pi)
    waves = np.sin(rows * np.cos(t) + columns * np.sin(t) + rng.uniform(0, 6))
    grey = rng.uniform(80, 170) + rng.uniform(10, 60) * clouds + rng.uniform(0, 15) * waves
    grain = rng.normal(0, rng.uniform(2, 8), (SIDE, SIDE, 1))
    return grey[..., None] * rng.uniform(0.85, 1.1, 3) + grain


def stencil(kind, size, turn):
    """Return the shape of an object, an image of [size, size] grey levels."""
    whole = size * FINE
    image = Image.new("L", (whole, whole))
    draw, u, middle = ImageDraw.Draw(image), whole / 10, whole / 2
    boxes = {
        "cross": [(4, 0, 6, 10), (0, 4, 10, 6)],
        "bar": [(0, 3.5, 10, 6.5)],
        "square": [(1, 1, 9, 9)],
        "stripes": [(1, 1, 2.5, 9), (4.2, 1, 5.8, 9), (7.5, 1, 9, 9)],
        "glyphs": [(0, 1, 1.5, 9), (0, 4, 4, 5.5), (3, 1, 4.5, 9), (6, 1, 7.5, 9), (6, 7.5, 10, 9)],
    }
    for box in boxes.get(kind, ()):
        draw.rectangle([u * v for v in box], fill=255)
    if kind in ("disc", "ring"):
        width = max(FINE, whole // 5) if kind == "ring" else 0
        fill = 255 if kind == "disc" else None
        draw.ellipse((0, 0, whole - 1, whole - 1), fill, 255 if width else None, width)
    elif kind in ("star", "triangle"):
        radii = [1.0, 0.4] * 5 if kind == "star" else [1.0] * 3
        turns = np.arange(len(radii)) * 2 * np.pi / len(radii) - np.pi / 2
        points = zip(radii, turns, strict=True)
        draw.polygon([(middle + middle * r * np.cos(t), middle + middle * r * np.sin(t))
                      for r, t in points], fill=255)  # fmt: skip
    return image.rotate(turn).resize((size, size), Image.Resampling.BOX)


def drawn(ground, things):
    """Return a picture, uint8 [SIDE, SIDE, 3]."""
    picture = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
    for thing in things:
        corner = round(thing.x - thing.size / 2), round(thing.y - thing.size / 2)
        picture.paste(thing.colour, corner, stencil(thing.kind, thing.size, thing.turn))
    return np.asarray(picture)


def scenes(world, labels, rng):
    """Return a ground and the objects for each label."""
    return [(texture(rng), world.things(label, rng)) for label in labels]


def concepts(world, rng):
    """Return examples of each kind, and negatives: whole pictures, or squares cut from them."""

    def cut(picture, thing):
        if not world.crops:
            return picture
        half = int(thing.size * rng.uniform(0.6, 0.9)) + 1
        x, y = (int(np.clip(v, half, SIDE - half)) for v in (thing.x, thing.y))
        square = Image.fromarray(picture[y - half : y + half, x - half : x + half])
        return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BICUBIC))

    examples = {}
    for kind in world.kinds:
        examples[kind] = []
        for ground, things in scenes(world, rng.integers(3, size=EXAMPLES), rng):
            if all(thing.kind != kind for thing in things):
                others = {thing.kind: thing for thing in things}
                things.append(world.placed(kind, others, True, rng))
            own = next(thing for thing in things if thing.kind == kind)
            examples[kind].append(cut(drawn(ground, things), own))
    empty = [
        cut(drawn(texture(rng), []), world.placed(world.kinds[0], {}, True, rng))
        for _ in range(NEGATIVES)
    ]
    return {kind: np.stack(own) for kind, own in examples.items()}, np.stack(empty)
