"""The old place of `Run`: programs that import it from here keep working."""

from pytest_autoresearch.candidate.run import Run as Run
