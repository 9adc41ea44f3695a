"""``python -m dgiqa`` is the command ``dgiqa``."""

import sys

from dgiqa.cli import main

sys.exit(main())
