"""The loader and the packing against plain Python, each a ratio from one run.

    .venv/bin/python benchmarks/loader.py

The plain loader is what a program without ours does while it trains: it tokenises 128 documents at a time (tiktoken,
all cores), keeps 1,000 of them, and fills each row by looking through all of these for the longest that still fits.
Ours has packed the same rows once, before; the referee gathers them and sends them through a socket, as in a run. The
text is Python's own standard library, cut into documents as long as those of the web: log-normal, half of them under
600 tokens.
"""

import argparse
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from pytest_autoresearch.core.protocol import Batch, decode, encode
from pytest_autoresearch.data.packing import pack
from pytest_autoresearch.data.sources import open_corpus
from pytest_autoresearch.data.tokenizer import Tokenizer, train_tokenizer
from pytest_autoresearch.referee.batches import Batches

VOCAB_SIZE = 8192
BATCH_TOKENS = 2**17
CHARACTERS_PER_TOKEN = 3.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each measurement")
    seconds = parser.parse_args().seconds
    texts = documents()
    tokenizer = train_tokenizer(texts, VOCAB_SIZE)
    tokens = list(tokenised(texts, tokenizer))
    print(f"{len(texts):,} documents, {sum(len(d) for b in tokens for d in b):,} tokens, {os.cpu_count()} cores")
    for length in (128, 2048):
        plain = rate(plain_batches(texts, tokenizer, length), seconds)
        packed = np.array(list(pack([[np.array(d, np.uint16) for d in b] for b in tokens], length + 1)))
        ours = rate(our_batches(packed, length), seconds)
        print(f"loader, T = {length}: plain {plain:,.0f} tokens/s, ours {ours:,.0f}: {ours / plain:,.0f} times")
    for length in (128, 2048):
        arrays = [[np.array(d, np.uint16) for d in batch] for batch in tokens]
        began = time.perf_counter()
        fast = np.array(list(pack(arrays, length + 1)))
        ours, began = time.perf_counter() - began, time.perf_counter()
        slow = np.array(list(islice(plain_rows(iter(tokens), length + 1), len(fast) // 2)), dtype=np.uint16)
        plain = (time.perf_counter() - began) * len(fast) / len(slow)
        assert (fast[: len(slow)] == slow).all(), "the rows differ"
        kept = fast.size / sum(len(d) for b in tokens for d in b)
        print(
            f"packing, T = {length}: plain {fast.size / plain:,.0f} tokens/s, ours {fast.size / ours:,.0f}: "
            f"{plain / ours:,.1f} times; equal rows, no padding, {1 - kept:.1%} of the tokens cropped"
        )


def documents() -> list[str]:
    draw, found = random.Random(0), []
    for path in open_corpus("stdlib", Path()).files:
        text = path.read_text(encoding="utf-8", errors="replace")
        while text:
            length = max(20, round(CHARACTERS_PER_TOKEN * draw.lognormvariate(6.4, 1.0)))
            found.append(text[:length])
            text = text[length:]
    draw.shuffle(found)
    return found


def tokenised(texts: list[str], tokenizer: Tokenizer) -> Iterator[list[list[int]]]:
    """Batches of 128 documents, BOS in front of each."""
    for start in range(0, len(texts), 128):
        yield [[tokenizer.bos, *tokens] for tokens in tokenizer.encode(texts[start : start + 128])]


def plain_rows(batches: Iterator[list[list[int]]], capacity: int) -> Iterator[list[int]]:
    """Best fit as it is described: look through the whole buffer for each document that is placed."""
    buffer: list[list[int]] = []
    while True:
        row: list[int] = []
        while len(row) < capacity:
            while len(buffer) < 1000 and (batch := next(batches, None)):
                buffer.extend(batch)
            room, best = capacity - len(row), -1
            for index, document in enumerate(buffer):
                if len(document) <= room and (best < 0 or len(document) > len(buffer[best])):
                    best = index
            if best < 0:
                best = min(range(len(buffer)), key=lambda index: len(buffer[index]))
            row += buffer.pop(best)[:room]
        yield row


def plain_batches(texts: list[str], tokenizer: Tokenizer, length: int) -> Iterator[torch.Tensor]:
    def for_ever() -> Iterator[list[list[int]]]:
        while True:
            yield from tokenised(texts, tokenizer)

    rows = plain_rows(for_ever(), length + 1)
    while True:
        yield torch.tensor(list(islice(rows, BATCH_TOKENS // length)))


def our_batches(packed: np.ndarray, length: int) -> Iterator[torch.Tensor]:
    """From a file, as a run has them, in a new order every epoch: each is asked for, drawn and sent."""
    ours, theirs = socket.socketpair()
    with TemporaryDirectory() as folder:
        path = Path(folder, "rows.bin")
        packed.tofile(path)
        rows = np.memmap(path, dtype=np.uint16, mode="r").reshape(-1, length + 1)
        batches, size = Batches(rows, 0), BATCH_TOKENS // length

        def serve() -> None:
            while ours.recv(1):
                drawn = batches.draw(size, length).tobytes()
                ours.sendall(encode(Batch(len(drawn), 0.5)) + drawn)

        server = threading.Thread(target=serve)
        server.start()
        with ours, theirs, theirs.makefile("rb", buffering=1 << 20) as incoming:
            try:
                while True:
                    theirs.sendall(b"?")
                    batch = decode(incoming.readline())
                    assert isinstance(batch, Batch)
                    drawn = bytearray(batch.size)
                    incoming.readinto(drawn)
                    tokens = torch.frombuffer(drawn, dtype=torch.int16).view(size, length + 1)
                    yield tokens.to(torch.int64) & 0xFFFF
            finally:
                theirs.shutdown(socket.SHUT_RDWR)
                server.join()


def rate(batches: Iterator[torch.Tensor], seconds: float) -> float:
    """Tokens that come in a second, the first batch left out."""
    next(batches)
    began, tokens = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        batch = next(batches)
        tokens += batch.shape[0] * (batch.shape[1] - 1)
    return tokens / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
