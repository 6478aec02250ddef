"""Measurements against rivals; each module runs with ``python -m tests.benchmarks.<name>``."""
