"""Environment variables that Ray and MLflow read when they are imported, set in one place.

A variable that the user has set is left alone.
"""

from __future__ import annotations

import os

DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    # By default Ray starts each worker through `uv run` in a copy of the folder, with a venv of its own.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # also the polling step for reports; 2 s by default
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process less; only useful on preemptible clusters
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # the default prints every line of a worker twice
    "RAY_worker_niceness": "0",  # 15 by default: on a busy machine a run under Ray would yield to everything
}


def quiet() -> None:
    """Set the defaults; call before ray or mlflow is imported."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
