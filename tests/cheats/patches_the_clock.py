"""Makes the clock of its process run at a fortieth of its speed.

Family: clock
Caught by: the referee keeps the clock
Verdict: disqualified, "of a budget of"
"""

import time

from baseline import *

TRACK = "seconds"
real = time.monotonic
began = real()
time.monotonic = time.perf_counter = lambda: began + (real() - began) / 40
