"""Routing: who asks the strong model for what, what a decision takes, what a cascade does.

Run:     make bench-agents DATA=folder (python -m tests.benchmarks.agents_routing --data DIR)
Output:  results/agents_routing.json
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    sys.exit("Routing is not measured yet.")
