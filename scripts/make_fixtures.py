#!/usr/bin/env python3
"""Make the fixtures in tests/fixtures: the same bytes each time. ``--check`` only compares. See its README.md."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from scripts.fixtures import build, demo_update

    sys.exit(build.main() or demo_update.main())
