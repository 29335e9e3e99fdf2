"""``python -m src_models.cli`` is ``lsnet``."""

from __future__ import annotations

import sys

from src_models.cli import main

sys.exit(main())
