"""``python -m hansa.cli`` is ``hansa``."""

import sys

from hansa.cli.app import main

sys.exit(main())
