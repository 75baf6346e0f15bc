"""A digital cervical spine with known areas, six contrasts and boundary biases under control."""

from mriad_data.phantom.dataset import PhantomSpine
from mriad_data.phantom.parameters import CONTRASTS, SpineParameters

__all__ = ["CONTRASTS", "PhantomSpine", "SpineParameters"]
