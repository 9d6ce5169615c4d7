"""``python -m reelmill`` is ``reelmill``."""

import sys

from reelmill.cli import main

sys.exit(main())
