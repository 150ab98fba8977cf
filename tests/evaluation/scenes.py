"""Random scenes of three classes, and what systems of rising eagerness say of them."""

import numpy as np

from lapis.search.events import Event

CLASSES = ("a", "b", "c")
EAGERNESS = 6


def scenes(seed: int, *, count: int = 12, spread: float = 0.15):
    """What sounds, what is said at each operating point, and how long each scene is."""
    random = np.random.default_rng(seed)
    reference, detections, seconds = [], [[] for _ in range(EAGERNESS)], []
    for _ in range(count):
        length = float(random.integers(8, 20))
        true = [event for label in CLASSES for event in _line(random, label, length)]
        reference.append(true)
        seconds.append(length)
        for eagerness, of in enumerate(detections):
            of.append([event for label in CLASSES for event in _said(random, label, true, eagerness, spread, length)])
    return reference, detections, seconds


def _line(random, label, length):
    begin = random.random() * 3
    for _ in range(random.integers(0, 4)):
        lasts = 0.3 + random.random() * 2
        if begin + lasts < length - 0.1:
            yield Event(label, round(begin, 3), round(begin + lasts, 3))
        begin += lasts + 0.1 + random.random() * 3


def _said(random, label, true, eagerness, spread, length):
    last = 0.0
    for event in true:
        if event.label == label and random.random() < 0.4 + 0.1 * eagerness:
            begin = round(max(last, event.begin_seconds + random.normal() * spread), 3)
            end = round(min(length, event.end_seconds + random.normal() * spread), 3)
            if begin >= last and end - begin > 0.05:
                yield Event(label, begin, end)
                last = end + 0.01
    if random.random() < 0.15 * (eagerness + 1):
        begin = last + random.random() * 2
        end = begin + 0.2 + random.random()
        if end < length:
            yield Event(label, round(begin, 3), round(end, 3))
