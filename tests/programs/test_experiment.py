"""Reading one file of the experiments folder, and what is said where it can be no experiment."""

import hashlib
import re
import sys
from pathlib import Path

import pytest

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.programs.experiment import Experiment, Program, read_experiment

BASELINE = "BATCH_SIZE = 32\n\n\ndef train(run):\n    return BATCH_SIZE\n"


@pytest.fixture
def write(tmp_path):
    def write(content: str | bytes, name: str = "idea.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def read(write, tmp_path):
    def read(content: str | bytes, name: str = "idea.py") -> Experiment:
        return read_experiment(write(content, name), tmp_path)

    return read


def test_an_overlay(read, tmp_path):
    source = '"""Half the batch."""\nfrom baseline import *\n\nBATCH_SIZE = 16\n'
    assert read(source) == Experiment(
        name="idea",
        path=tmp_path / "idea.py",
        source=source,
        description="Half the batch.",
        is_overlay=True,
        track=None,
    )


@pytest.mark.parametrize(
    "source",
    [
        "def train(run):\n    pass\n",
        "async def train(run):\n    pass\n",
        "from mine import train\n",
        "from mine import fit as train\n",
        "train = make()\n",
        "fit, train = make()\n",
        "try:\n    from mine import train\nexcept ImportError:\n    train = None\n",
        "if True:\n    def train(run):\n        pass\n",
    ],
)
def test_a_complete_program_runs_as_it_is(read, source):
    experiment = read(source)
    assert not experiment.is_overlay
    assert experiment.program("not Python at all", "train.py") == Program(source)


@pytest.mark.parametrize(
    ("file", "name"), [("rmsnorm.py", "rmsnorm"), ("norms/rmsnorm.py", "norms/rmsnorm"), ("a/v1.5.py", "a/v1.5")]
)
def test_the_name_is_the_path_without_suffix(read, file, name):
    assert read("train = 1\n", file).name == name


@pytest.mark.parametrize(
    ("docstring", "description"),
    [
        ('"""Half the batch."""', "Half the batch."),
        ('"""\n   Half\tthe  batch.\n\n   Because of reasons.\n"""', "Half the batch."),
        (r'"""Half\tthe\x1bbatch."""', r"Half the\x1bbatch."),
        (r'"""Half\u2028the batch — ε."""', "Half the batch — ε."),
        ('"""   """', "idea"),
        ("", "idea"),
        ("b'bytes'", "idea"),
        ("# a comment", "idea"),
    ],
)
def test_the_description_is_one_line(read, docstring, description):
    assert read(f"{docstring}\ntrain = 1\n").description == description


@pytest.mark.parametrize(
    ("line", "track"),
    [
        ('TRACK = "cuda"', "cuda"),
        ("TRACK: str = 'cpu'", "cpu"),
        ('TRACK = ("c" "pu")', "cpu"),
        ('def f():\n    TRACK = 3\nX = "TRACK"', None),
    ],
)
def test_track(read, line, track):
    assert read(f"from baseline import *\n{line}\n").track == track


def test_newlines_and_byte_order_mark_do_not_matter(read):
    plain = read('"""Doc."""\nfrom baseline import *\nX = 1\n')
    windows = read(b'\xef\xbb\xbf"""Doc."""\r\nfrom baseline import *\r\nX = 1\r\n')
    assert windows == plain
    assert windows.sha == plain.sha == hashlib.sha256(plain.source.encode()).hexdigest()
    assert read("from baseline import *\rX = 1").source == "from baseline import *\nX = 1"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("def train(run:\n    pass\n", r":1: .*'\(' was never closed"),
        ("x = 1\ndef train(run):\npass\n", ":3: expected an indented block"),
        ("train = 1\nreturn 3\n", ":2: 'return' outside function"),
        ("train = 1\nx = '\n", ":2: unterminated string"),
        ("", ": empty; write"),
        ("\ufeff \n\n", ": empty; write"),
        ("# only a comment\n\n# another", ": empty; write"),
        (b"x = 1\n# caf\xe9\n", r":2: not UTF-8 \(byte 0xe9\)"),
        ("from baseline import *\n".encode("utf-16"), ":1: not UTF-8"),
        ("from baseline import *\nx = '\0'\n", ":2: source code cannot contain null bytes"),
        ("# coding: utf_7\n# +AAo-LR = 2\ntrain = 1\n", ":1: declares the encoding utf_7; it must be UTF-8"),
        ("#!/usr/bin/python\n# coding=latin-1\ntrain = 1\n", ":2: declares the encoding iso-8859-1; it must be"),
        ('"""Only a docstring."""\n', ": neither a program .* nor an overlay"),
        ("def tarin(run):\n    pass\n", ": neither a program .* nor an overlay"),
        ("def f():\n    train = 1\n", ": neither a program .* nor an overlay"),
        ("import baseline\ntrain = 1\n", ":1: `import baseline`: write `from baseline import \\*`"),
        ("import baseline.cpu as b\ntrain = 1\n", ":1: `import baseline.cpu as b`: write"),
        ("x = 1\nfrom baseline import norm\n", ":2: `from baseline import norm`: write"),
        ("from baseline import *\nfrom baseline import norm as old\n", ":2: `from baseline import norm as old`: write"),
        ("if x:\n    from baseline import *\n", ":2: `from baseline import \\*`: write"),
        ("def train(run):\n    import baseline\n", ":2: `import baseline`: write"),
        ("from baseline import *\nTRACK = 3\n", ":2: `TRACK = 3`: must be a literal string"),
        ("from baseline import *\nTRACK = f'c{x}'\n", ":2: .* must be a literal string"),
        ("from baseline import *\nTRACK = NAME\n", ":2: .* must be a literal string"),
        ("from baseline import *\nTRACK = ''\n", ":2: .* must be a literal string"),
        ("from baseline import *\nTRACK = OTHER = 'cpu'\n", ":2: .* must be a literal string"),
        ("from baseline import *\nTRACK, GOAL = 'cpu', 1\n", ":2: .* must be a literal string"),
        ("from baseline import *\nif x:\n    TRACK = 'cpu'\n", ":2: `if x:`: must be a literal string"),
        ("train = " + "(" * 400 + ")" * 400, "too many nested parentheses|cannot be parsed"),
        ("train = " + "-" * 20000 + "1", "nested|cannot be parsed"),
    ],
)
def test_what_is_no_experiment_is_said_in_one_line(read, tmp_path, content, says):
    with pytest.raises(UsageError, match=says) as caught:
        read(content)
    assert str(caught.value).startswith(str(tmp_path / "idea.py"))
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match=r"gone\.py: cannot be read: No such file or directory\Z"):
        read_experiment(tmp_path / "gone.py", tmp_path)
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(UsageError, match=r"folder\.py: cannot be read"):
        read_experiment(tmp_path / "folder.py", tmp_path)


def test_a_module_merely_named_like_the_baseline_is_fine(read):
    assert read("from .baseline import x\nfrom baselines import y\nimport baseline_tools\ntrain = 1\n")


@pytest.mark.filterwarnings("error")
def test_reading_warns_of_nothing(read):
    experiment = read(r"""train = "\d" is 3""" + "\n")
    overlay = read("from baseline import *\n" + r"""X = "\d" is 3""" + "\n")
    assert overlay.program("X = 1\n" + experiment.source, "train.py")


def test_the_program_of_an_overlay(read):
    experiment = read("from baseline import *\n\nBATCH_SIZE = 16\n")
    program = experiment.program(BASELINE, "train.py")
    assert program.source == BASELINE.replace("32", "16")
    assert program.sha == hashlib.sha256(program.source.encode()).hexdigest()


@pytest.mark.parametrize("encoding", ["utf-8", "utf8", "UTF_8"])
def test_a_source_may_say_that_it_is_utf_8(read, encoding):
    assert read(f"# -*- coding: {encoding} -*-\ndef train(run):\n    pass\n").name == "idea"


@pytest.mark.parametrize(
    ("baseline", "says"),
    [
        ("x = (\n", r"baseline/cpu/train\.py:1: '\(' was never closed"),
        ("x = '\0'\n", r"baseline/cpu/train\.py:1: source code cannot contain null bytes"),
        ("x = 1\n", r"baseline/cpu/train\.py: defines no `train`, and neither does .*idea\.py"),
        ("", r"baseline/cpu/train\.py: defines no `train`"),
    ],
)
def test_a_baseline_that_is_no_program(read, baseline, says):
    experiment = read("from baseline import *\n\nX = 16\nX += 1\n")
    with pytest.raises(UsageError, match=says) as caught:
        experiment.program(baseline, Path("baseline/cpu/train.py"))
    assert len(str(caught.value).splitlines()) == 1


def test_an_overlay_may_bring_train_itself(read):
    experiment = read("from baseline import *\n\n\ndef train(run):\n    return X\n")
    assert experiment.program("X = 1\n", "train.py").source == "X = 1\n\n\ndef train(run):\n    return X\n"


# -- sources that nobody would write by hand --

DEEP = {
    "sum": "1" + " + 1" * 450,
    "power": "1" + " ** 1" * 3000,
    "minus": "-" * 450 + "1",
    "attributes": "x" + ".y" * 3000,
    "calls": "f" + "()" * 320,
    "lambdas": "lambda: " * 300 + "1",
    "parentheses": "(" * 199 + "1" + ")" * 199,
    "lists": "[" * 150 + "]" * 150,
    "conditions": "1 if x else " * 450 + "1",
    "hexadecimal": "0x" + "f" * 9000,
}


@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.parametrize("template", ["BATCH_SIZE = {}\n", "BATCH_SIZE = 1\nBATCH_SIZE += {}\n", "print({})\n"])
def test_what_is_nested_deeply_is_read_or_refused_in_one_line(read, kind, template):
    """Also where what is read does not fit into what has been read, as the depth of Python's own stack changes."""
    change = template.format(DEEP[kind])
    for content, baseline in (
        (f"from baseline import *\n{change}", BASELINE),
        ("from baseline import *\nBATCH_SIZE = 3\n", change + BASELINE),
        (change + BASELINE, BASELINE),
    ):
        try:
            program = read(content).program(baseline, "train.py")
        except UsageError as error:
            said = str(error)
        else:
            said = ""
            assert "def train" in program.source
            assert len(program.code_sha) == 64
        assert re.search("^$|nested too deeply; at most 100 levels are allowed$|too many nested parentheses", said)


def test_long_numbers_count_as_literals(read):
    with pytest.raises(UsageError, match=r"20\d\d\d characters of literals"):
        read("train = 0x" + "f" * 20_000)


@pytest.mark.parametrize(
    ("content", "program"),
    [
        ("\ufefffrom baseline import *\r\n\r\nBATCH_SIZE = 16\r\n", BASELINE.replace("32", "16")),
        ("from baseline import *\rBATCH_SIZE = 16", BASELINE.replace("32", "16")),
        ("from baseline import *\n\x0c\nBATCH_SIZE = 16\x0c\n", BASELINE.replace("32", "16")),
        ("from baseline import *; BATCH_SIZE = 16;\n", BASELINE.replace("32", "16")),
        ("TRACK = 'cpu'; BATCH_SIZE = 16; from baseline import *", BASELINE.replace("32", "16")),
        ("from baseline import *\nif BATCH_SIZE:\n\tBATCH_SIZE = 16", None),
        ("from baseline import *\n@(lambda f: f)\ndef train(run):\n\treturn (BATCH_SIZE := 3)", None),
        ("from baseline import *\n(BATCH_SIZE := 16)", None),
        ("from baseline import *\nfrom math import *\nBATCH_SIZE = floor(16.5)", None),
        ("from baseline import *\nasync def train(run):\n    return [x async for x in run]", None),
        ("from baseline import *\ntry:\n    BATCH_SIZE = 16\nexcept* ValueError:\n    pass", None),
        ("from baseline import *\ntrain: object\nclass train[T]: ...\n", None),
        ("from baseline import *\nＢATCH_SIZE = 16\n", BASELINE.replace("BATCH_SIZE = 32", "ＢATCH_SIZE = 16")),
    ],
)
def test_odd_overlays_make_programs(read, content, program):
    if "[T]" in content and sys.version_info < (3, 12):
        pytest.skip("type parameters are new in Python 3.12")
    made = read(content).program(BASELINE, "train.py").source
    compile(made, "program", "exec")
    assert program in (None, made)
    windows = read(content).program("\ufeff" + BASELINE.replace("\n", "\r\n"), "train.py").source
    assert windows == made


def test_an_overlay_that_does_not_fit_the_baseline(read, tmp_path):
    """Each is Python by itself, but not the program."""
    experiment = read("from baseline import *\nglobal BATCH_SIZE\nBATCH_SIZE = 3\n")
    with pytest.raises(
        UsageError, match=r"idea\.py, applied to train\.py:\d+: name 'BATCH_SIZE' is assigned to before global"
    ):
        experiment.program(BASELINE, "train.py")


def test_directives_are_no_part_of_a_complete_program(read):
    """A promoted simplification does not leave its GOAL in the baseline."""
    source = 'import math\n\n# a goal\nGOAL = "simplify"\nTRACK = "cpu"\n\n\ndef train(run):\n    return math\n'
    program = read(source).program("", "train.py").source
    assert program == "import math\n\n\ndef train(run):\n    return math\n"


def test_an_overlay_of_nothing_is_the_baseline(read):
    for content in ("from baseline import *", "from baseline import *\n# nothing\nTRACK = 'cpu'\n"):
        assert read(content).program(BASELINE, "train.py") == Program(BASELINE)


def test_there_is_one_goal(read):
    with pytest.raises(UsageError, match=r"idea\.py: GOAL = 'win': must be \"simplify\""):
        read('from baseline import *\nGOAL = "win"\nWIDTH = 8\n')


def test_a_file_is_no_place_for_weights(read):
    with pytest.raises(UsageError, match=r"idea\.py: \d+ bytes of source; at most 64000 are allowed"):
        read(f"from baseline import *\nWEIGHTS = '{'ab' * 40_000}'\n")
