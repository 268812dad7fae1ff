"""`python -m pytest_autoresearch.cli`, the same as `autoresearch`."""

import sys

from pytest_autoresearch.cli import main

sys.exit(main())
