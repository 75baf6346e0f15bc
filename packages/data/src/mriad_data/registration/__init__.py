"""Rigid and affine registration: `register`, the `Transform` that it finds, and pulling volumes through it."""

from mriad_data.registration.match import Match, overlap, register
from mriad_data.registration.settings import Registration
from mriad_data.registration.transform import Transform, compose

__all__ = ["Match", "Registration", "Transform", "compose", "overlap", "register"]
