#!/usr/bin/env python3
"""Measure vhdtool against other readers on images that are like life. See docs/performance.md."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from scripts.benchmark.run import main

    sys.exit(main())
