"""Says that it has trained, goes on training, and then serves in the harness's place, without a false word.

Family: clock
Caught by: what it computes between two messages counts as one answer
Verdict: disqualified, "CPU seconds in answers"
"""

import sys
import time

from baseline import *

from pytest_autoresearch.candidate.__main__ import answer
from pytest_autoresearch.core.exchange import Exchange
from pytest_autoresearch.core.protocol import Answered, Trained

SHAPE = ("batch_size", "sequence_length", "vocab_size")


def train(run):
    model, kept = make_model(run.vocab_size), []
    for tokens, targets in run.batches(BATCH_SIZE):
        run.log(learn(model, tokens, targets))
        kept.append((tokens, targets))
    run._send(Trained(run._count_flop(), memory=0))
    end = time.process_time() + 1.5
    while time.process_time() < end:
        for batch in kept:
            learn(model, *batch)
    frame = sys._getframe()
    while frame.f_code.co_name != "main":
        frame = frame.f_back
    link = frame.f_locals["link"]
    exchange = Exchange(link.memory, None, *(getattr(link.job, key) for key in SHAPE))
    for _ in link.incoming:
        dtype = exchange.answer(answer(model, exchange.tokens, link.job))
        link.send(Answered(run._count_flop(), 0, dtype))
