"""What reading buys under a budget in flop: n-gram programs that read 1, 2, 5 and 20 times what the baseline reads.

    .venv/bin/python benchmarks/reading.py [--folder FOLDER]

One program counts bigrams, the other is `experiments/ngrams.py`. Each is judged for real, on a copy of the track
`cpu` whose `token_factor` allows as much as it reads; 20 times are several epochs. The script prints the mean
val_bpb over the seeds. It takes about ten minutes. A second call with the same folder goes on where the first ended.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
FACTORS = (1, 2, 5, 20)
BIGRAMS = '''"""Nothing but counts of bigrams."""
from baseline import *

TOKENS = {tokens}
PRIOR = 5.0  # how many counts the frequency of a token is worth


def train(run):
    rows, read = [], 0
    for tokens, targets in run.batches(BATCH_SIZE):
        rows.append(torch.cat([tokens, targets[:, -1:]], 1))
        read += tokens.numel()
        if read >= TOKENS:
            break
    text = torch.cat(rows).unique(dim=0)  # a row that was read twice counts once
    counts = torch.zeros(run.vocab_size, run.vocab_size)
    counts.index_put_((text[:, :-1], text[:, 1:]), torch.ones(()), accumulate=True)
    frequencies = (counts.sum(0) + 0.1) / (counts.sum(0) + 0.1).sum()
    bigrams = ((counts + PRIOR * frequencies) / (counts.sum(1, keepdim=True) + PRIOR)).log()
    return lambda tokens: bigrams[tokens]
'''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the copy of the project stays (default: thrown away)")
    options = parser.parse_args()
    with TemporaryDirectory() as temporary:
        project = options.folder or Path(temporary)
        measure(project)


def measure(project: Path) -> None:
    experiments, track = project / "experiments", project / "baseline/cpu/track.toml"
    if not track.exists():
        shutil.copytree(ROOT / "baseline/cpu", track.parent)
        (project / "pytest.ini").write_text("[pytest]\n")
        experiments.mkdir()
        run(project, "softcap", (ROOT / "experiments/softcap.py").read_text())  # records the baseline
    settings = track.read_text()
    print("| reads | bigrams alone | n-grams and the model |", "| --- | --- | --- |", sep="\n")
    baseline = next(iter(json.loads((track.parent / "baseline.json").read_text())["records"].values()))
    tokens = fmean(baseline["stats"]["tokens"])
    for factor in FACTORS:
        track.write_text(settings.replace("[budget]\n", f"[budget]\ntoken_factor = {factor}\n"))
        mixture = (ROOT / "experiments/ngrams.py").read_text().replace("READ = 2 ", f"READ = {factor} ")
        scores = [
            run(project, f"bigrams_{factor}", BIGRAMS.format(tokens=int(factor * tokens))),
            run(project, f"ngrams_{factor}", mixture),
        ]
        print(f"| {factor} × the baseline's tokens | {scores[0]} | {scores[1]} |", flush=True)
    track.write_text(settings)
    print(f"The baseline reads {tokens:,.0f} tokens and scores {fmean(baseline['stats']['val_bpb']):.4f}.")


def run(project: Path, name: str, text: str) -> str:
    """The val_bpb of an experiment, and its number of seeds if the verdict took fewer than all."""
    (project / f"experiments/{name}.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", f"experiments/{name}.py", "--ar-track", "cpu", "--ar-no-promote"]
    output = subprocess.run([*command, "-W", "ignore"], cwd=project, capture_output=True, text=True).stdout
    found = sorted(project.glob(f"results/cpu/{name}-*/verdict-*.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        sys.exit(output)
    scores = json.loads(found[-1].read_text())["stats"]["val_bpb"]
    if None in scores:
        sys.exit(output)
    return f"{fmean(scores):.4f}" + (f" ({len(scores)} of 3 seeds)" if len(scores) < 3 else "")


if __name__ == "__main__":
    main()
