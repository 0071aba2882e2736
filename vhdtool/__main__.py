"""``python -m vhdtool``."""

from __future__ import annotations

import sys

from vhdtool.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
