"""Where a run's work is done: in this process, in local processes, or in Ray Train workers."""

from mriad.launch.files import RunsRoot, runs_root
from mriad.launch.lease import Lease
from mriad.launch.protocol import Launcher, WorkerContext, make_launcher

__all__ = ["Launcher", "Lease", "RunsRoot", "WorkerContext", "make_launcher", "runs_root"]
