"""``python -m reelmill.cli`` is ``reelmill``."""

import sys

from reelmill.cli import main

sys.exit(main())
