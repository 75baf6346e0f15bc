"""Digital persons with known truth: a cervical spine (here) and a brain (`mriad_data.phantom.brain`)."""

from mriad_data.phantom.dataset import PhantomSpine
from mriad_data.phantom.parameters import CONTRASTS, SpineParameters

__all__ = ["CONTRASTS", "PhantomSpine", "SpineParameters"]
