"""Makes the clock of its process run at a fortieth of its speed.

Family: clock
Caught by: the referee keeps the clock and decides before each batch
Verdict: gains nothing
"""

import time

from baseline import *

real = time.monotonic
began = real()
time.monotonic = time.perf_counter = lambda: began + (real() - began) / 40
