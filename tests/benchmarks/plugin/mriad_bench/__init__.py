"""What the benchmarks add to mriad: volumes of a given size, and a learner that keeps time."""
