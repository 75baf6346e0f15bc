"""The stranger's tests belong to its own environment; tests/plugin_system runs them there."""

collect_ignore = ["stranger"]
