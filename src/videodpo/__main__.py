"""`python -m videodpo`."""

import sys

from videodpo.cli import main

sys.exit(main())
