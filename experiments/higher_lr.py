"""Twice the learning rate.

Kingma and Ba (Adam), arXiv 1412.6980.
"""

from baseline import *

TRACK = "cpu"

LEARNING_RATE = 2 * LEARNING_RATE
