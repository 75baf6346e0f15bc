"""What surrounds the brain: water under the dura, and on demand skull, eyes, airways, muscle, fat and skin.

Shapes of the head are plain; they are there so that a network meets a skull and a neck. No reference rests on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mriad_data.phantom.brain.shapes import ellipse, superellipsoid, union, without

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mriad_data.phantom.brain.anatomy import Brain
    from mriad_data.phantom.brain.cerebrum import Hulls
    from mriad_data.phantom.brain.shapes import Points

F = np.float32


def head_layers(brain: Brain, points: Points, outline: Hulls, head: bool) -> Iterator[tuple[str, Any]]:
    """Regions and distances, front to back: what lies in front covers what comes later."""
    x, y, z = points
    u = np.abs(x)
    brain_hull = union(union(outline.cerebrum, outline.cerebellum, 14.0), outline.stem, 8.0)
    dura = brain_hull - F(brain.dura_mm)
    # The cisterns below the brain are open.
    cistern = superellipsoid(u, y + F(18), z + F(24), (F(22), F(26), F(16)))
    dura = union(dura, cistern, 10.0)
    yield "CSF", dura
    if not head:
        return
    eye = superellipsoid(u - F(32), y - F(57), z + F(32), (F(12), F(12), F(12)))
    yield "eye", eye
    sinus = superellipsoid(u - F(4), y - F(52), z + F(52), (F(9), F(24), F(20)))
    throat = superellipsoid(u, y - F(6), z + F(95), (F(9), F(8), F(50)))
    yield "airway", np.minimum(sinus, throat)
    below = np.clip((F(-58) - z) * F(0.2), 0, F(20))  # no skull round the neck
    yield "skull", dura - F(1.6) + below
    yield "marrow", dura - F(4.6) + below
    yield "skull", dura - F(6.4) + below
    neck = np.maximum(ellipse(u, y + F(20), F(58), F(62)), z + F(50))
    face = superellipsoid(u, y - F(30), z + F(58), (F(58), F(62), F(62)), 2.4)
    nose = superellipsoid(u, y - F(86), z + F(42), (F(12), F(20), F(17)))
    skin = union(union(dura - F(12.5), union(face, neck, 20.0), 18.0), nose, 12.0)
    yield "muscle", without(skin + F(5.0), dura - F(9.0), 3.0)
    yield "skin_and_fat", skin
