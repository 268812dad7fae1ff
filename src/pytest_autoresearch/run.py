"""Where `Run` used to be. Programs written for it keep working; new ones say `from pytest_autoresearch import Run`."""

from pytest_autoresearch.candidate.run import Run as Run
