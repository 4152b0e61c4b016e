"""Bad values, generated: over every option of the composed configuration and over every verb of the command line.

    python experiments/bad_values.py --count 5000 --seed 0

Each is tried in this process, as a program would be called. It is a fault where one is taken, or ends with anything
but one message: a traceback, an error that nobody expected, no word of the option. Prints the faults, and ends with
exit code 1 if there is any. `tests/terminal/test_terminal_bad_values.py` tries 200.
"""

import argparse
import contextlib
import copy
import io
import os
import random
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from PIL import Image

from lsep_ml import cli
from lsep_ml.stages.job import build_job
from lsep_ml.stages.main import CONF
from lsep_ml.stages.ranges import Switch, Text, find_range
from lsep_ml.stages.resolvers import register_resolvers
from lsep_ml.terminal.safety_net import UNEXPECTED, message

SMALL = (
    "data.train=16",
    "data.val=8",
    "data.test=8",
    "data.canvas=24",
    "model.widths=[2,2]",
    "model.num_features=2",
)
BASES: Sequence[Sequence[str]] = (
    SMALL,
    (*SMALL, "loss=asl"),
    (*SMALL, "loss=focal"),
    (*SMALL, "loss=two_way"),
    (*SMALL, "loss=warp", "optimizer=adamw", "schedule=step"),
    (*SMALL, "decision=per_class"),
    (*SMALL, "decision=conformal"),
    (*SMALL, "decision=capped"),
    (*SMALL, "decision=count_est", "training=joint"),
    (*SMALL, "decision=threshold_class", "training=probe"),
    (*SMALL, "decision=topk", "optimizer=adam"),
    (*SMALL, "decision=threshold"),
    (*SMALL, "predictor=mlknn"),
    (*SMALL, "predictor=chain_ensemble"),
    (*SMALL, "predictor=cnn_rnn"),
    ("data=csv", "data.root={own}", "transform.resize=[24,24]", "model.widths=[2,2]", "model.num_features=2"),
)
"""Configurations that together have the options of every group."""

ANYTHING = ("names.", "paths.", "sizes.", "logger.", "diagnostics", "experiment")
"""What begins so may be any text, or nothing."""

NUMBERS = ("-1", "0", "-0.5", "1.5", "2", "1e400", ".nan", "inf", "-inf", "-999999999999")
NOT_NUMBERS = ("ten", "''", "[]", "[1,a]", "{a:1}", "true", "null")
WORDS = ("zigzag", "3.5", "{a:1}", "[x]", "lsep_ml.nothing.There")
SPOILT = (
    "loss",
    "=3",
    "loss=nope",
    "+loss",
    "training.epoch=3",
    "~nothing",
    "seed==",
    "loss=[",
    "data=csv data=coco",
)
"""What is no override at all, or of nothing that there is."""


class Case(NamedTuple):
    """A call that must be refused: the words, and one of the texts that the refusal must have (none: any will do)."""

    words: tuple[str, ...]
    named: tuple[str, ...] = ()


def option_cases(own: Path) -> list[Case]:
    """Every option of every base with each value that it does not take, a call each."""
    cases: dict[tuple[str, str], Case] = {}
    for base in BASES:
        words = tuple(word.format(own=own) for word in base)
        config = OmegaConf.to_container(compose_job(own.parent, *words), resolve=False)
        for key, value in leaves(config):
            for bad in bad_values(key, value):
                named = (key.rpartition(".")[2], bad)
                cases.setdefault((key, bad), Case((*words, f"{key}={bad}"), named))
    spoilt = [Case((*SMALL, *word.split())) for word in SPOILT]
    return [*cases.values(), *spoilt]


def bad_values(key: str, value: Any) -> Iterator[str]:
    """What The option `key`, whose value is `value`, does not take, as it is written in an override."""
    if key.startswith(ANYTHING) or key.endswith("_partial_"):
        return
    expected = find_range(key)
    if key.endswith("_target_"):
        yield from ("lsep_ml.nothing.There", "nowhere.at.all", "3")
    elif expected is not None:
        written = {Switch: ("maybe", "3", "''", "[]"), Text: ("3.5", "{a:1}", "[[x]]")}
        for text in written.get(type(expected), (*NUMBERS, *NOT_NUMBERS)):
            if not expected.takes(yaml_value(text)):
                yield text
    elif isinstance(value, bool):
        yield from ("maybe", "3", "[]")
    elif isinstance(value, int | float):
        yield from (".nan", "inf", "ten", "{a:1}", "[]")
    elif isinstance(value, str) and not value.startswith("${"):
        yield from WORDS
    elif isinstance(value, list):
        yield from ("zigzag", ".nan", "[{a:1}]")


def yaml_value(text: str) -> Any:
    """The value of an override as it is composed."""
    plain: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))
    return plain["value"]


def leaves(value: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is not itself a mapping, with its dotted key."""
    for key, item in value.items():
        if isinstance(item, dict):
            yield from leaves(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def compose_job(output: Path, *overrides: str) -> Any:
    """The configuration that run.py composes, with Hydra's own for what asks for it."""
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [f"paths.output={output}", *overrides], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    config = copy.deepcopy(config)
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    return config


def try_option(case: Case, output: Path) -> str:
    """What is wrong with how a job was refused, in words; nothing where all is right."""
    with quiet():
        try:
            build_job(compose_job(output, *case.words))
        except Exception as error:
            said = message(error)
            if UNEXPECTED in said:
                return f"{said}\n{traceback.format_exc()}"
            return (
                "" if not case.named or any(text in said for text in case.named) else f"does not say: {said}"
            )
    return "taken"


def verb_cases(folder: Path) -> list[Case]:
    """Every verb with paths, files, numbers and names that it cannot use."""
    files = hostile_files(folder)
    paths = [str(folder / "absent"), *map(str, files.values())]
    empty, out = str(folder / "empty"), str(folder / "out")
    good, decision, image = (str(folder / name) for name in ("good.npz", "decision.json", "image.png"))

    def with_paths(*words: str) -> list[Case]:
        """The call with each of the paths in the place of PATH, which the message has to name."""
        return [
            Case(tuple(path if word == "PATH" else word for word in words), (Path(path).name, "no run"))
            for path in paths
        ]

    def with_values(words: Sequence[str], *values: str) -> list[Case]:
        named = [words[-1]] if words[-1].startswith("--") else []
        return [Case((*words, value), (*named, Path(value).name)) for value in values]

    tuned = ("tune", good, "--out", f"{out}.json")
    return [
        *with_paths("check", "csv", "--root", "PATH"),
        *with_values(("check", "--root", empty), "coco", "voc2007", "nuswide", "csv", "nothing"),
        *with_paths("prepare", "voc2007", "--from", "PATH", "--root", out),
        *with_values(("prepare", "--from", empty, "--root", out), "coco", "digits", "nothing"),
        *with_paths("tune", "PATH", "--out", f"{out}.json"),
        *with_values((*tuned, "--folds"), "0", "1", "-3", "two", "nan", "99999"),
        *with_values((*tuned, "--epochs"), "0", "-1", "x"),
        *with_values((*tuned, "--seed"), "-1", "x", str(2**40)),
        *with_values((*tuned, "--criterion"), "accuracy", "", "map"),
        *with_values((*tuned, "--decisions"), "magic", "thresh_est"),
        Case(("tune", good, "--out", str(folder)), (folder.name,)),
        Case(("tune", good, "--out", str(folder / "text.txt" / "below")), ("text.txt",)),
        *with_paths("apply", "PATH", good, "--out", f"{out}.csv"),
        *with_paths("apply", decision, "PATH", "--out", f"{out}.csv"),
        *with_values(("apply", decision, good, "--out"), str(folder), out, f"{out}.txt"),
        *with_paths("bundle", "PATH", "--out", out),
        *with_paths("predict", "PATH", image, "--out", f"{out}.csv"),
        *with_values(("predict", empty, image, "--out"), str(folder), f"{out}.txt"),
        *with_values(("predict", empty, image, "--batch-size"), "0", "-1", "x"),
        *with_paths("export", "PATH", f"{out}.onnx"),
        *with_paths("demo", "PATH", "--port", "7861"),
        *with_values(("demo", empty, "--port"), "0", "-1", "70000", "http"),
        *with_paths("report", "PATH"),
        *with_values(("report", empty, "--replicates"), "0", "-5", "many"),
        *with_paths("list", "--output", "PATH"),
        *(case for case in with_paths("prune", "--output", "PATH") if not Path(case.words[-1]).is_dir()),
        *(Case(("dashboard", *words)) for words in ((), ("--entity", ""), ("--project", "x"))),
        *(
            Case((verb,))
            for verb in ("check", "prepare", "tune", "apply", "bundle", "predict", "export", "demo")
        ),
        *(Case((word,)) for word in ("trian", "--verison", "")),
        *(
            Case(("run", *words))
            for words in (("loss=nope",), ("nope=1",), ("--nope",), ("-m", "loss=nope,lsep"))
        ),
    ]


def hostile_files(folder: Path) -> dict[str, Path]:
    """Files that are not what they are given for, and an image, scores and a decision that are."""
    (folder / "empty").mkdir(parents=True, exist_ok=True)
    generator = random.Random(0)
    contents = {
        "text.txt": b"no data\n",
        "empty.csv": b"",
        "empty.npz": b"",
        "empty.json": b"",
        "empty.parquet": b"",
        "noise.npz": generator.randbytes(300),
        "noise.parquet": b"PAR1" + generator.randbytes(300) + b"PAR1",
        "noise.csv": generator.randbytes(300),
        "half.npz": b"PK\x03\x04" + generator.randbytes(30),
        "list.json": b"[1, 2]",
        "deep.json": b"[" * 100_000,
        "nan.json": b'{"format": NaN}',
        "header.csv": b"image,labels\n",
        "odd.csv": b'image,"la\nbels\n1,2,3\n',
    }
    paths = {}
    for name, content in contents.items():
        paths[name] = folder / name
        paths[name].write_bytes(content)
    (folder / "folder.npz").mkdir(exist_ok=True)
    paths["folder.npz"] = folder / "folder.npz"
    rng = np.random.default_rng(0)
    targets = (rng.random((40, 3)) < 0.4).astype(np.uint8)
    np.savez(folder / "good.npz", scores=rng.normal(size=(40, 3)) + targets, targets=targets)
    (folder / "decision.json").write_text(
        '{"format": 1, "decision": "ZeroThreshold", "options": {}, "state": {"num_labels": 3, "theta": 0.0}}'
    )
    Image.fromarray(rng.integers(0, 256, (30, 30, 3), np.uint8)).save(folder / "image.png")
    return paths


def own_images(root: Path) -> Path:
    """A few images with a labels.csv, for data=csv."""
    root.mkdir(parents=True, exist_ok=True)
    rng, lines = np.random.default_rng(0), ["image,labels"]
    for number in range(24):
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8)).save(root / f"{number}.png")
        lines.append(f"{number}.png,{'cat' if number % 2 else 'cat|dog' if number % 3 else 'dog'}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def try_verb(case: Case) -> str:
    """What is wrong with how a call of the command line ended, in words; nothing where all is right."""
    words, sys.argv = sys.argv, ["lsep-ml", *case.words]
    try:
        with quiet() as printed:
            cli.main()
    except SystemExit as ended:
        code, said = ended.code, printed.getvalue()
        if code == 0:
            return "taken"
        if "Traceback" in said or UNEXPECTED in said or not said.strip():
            return f"exit code {code}: {said}"
        flat = "".join(said.split())
        named = not case.named or any("".join(text.split()) in flat for text in case.named)
        return "" if named else f"does not say: {said}"
    except BaseException:
        return traceback.format_exc()
    finally:
        sys.argv = words
    return "taken"


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Standard output and error of the block, in place of the terminal."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        yield printed


def draw(cases: Sequence[Case], count: int, seed: int) -> list[Case]:
    """At most `count` of the cases, spread over what they change: of every option or verb one before any second."""
    order = random.Random(seed).sample(range(len(cases)), len(cases))
    seen: dict[str, int] = {}
    ranked = []
    for place in order:
        last = cases[place].words
        what = last[-1].partition("=")[0] if "=" in last[-1] else last[0]
        seen[what] = seen.get(what, 0) + 1
        ranked.append((seen[what], place))
    return [cases[place] for _, place in sorted(ranked)[:count]]


def faults(folder: Path, options: Sequence[Case], verbs: Sequence[Case]) -> tuple[int, list[str]]:
    """How many bad values were tried, and what was wrong with the refusal of each at fault."""
    tried = [(case, try_option(case, folder / "outputs")) for case in options]
    before = Path.cwd()
    os.chdir(folder)
    try:
        tried += [(case, try_verb(case)) for case in verbs]
    finally:
        os.chdir(before)
    return len(tried), [f"{' '.join(case.words)}\n    {fault}" for case, fault in tried if fault]


def main() -> None:
    """Try them and print the faults."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--count", type=int, default=5000, help="at most so many of the options and of the verbs"
    )
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = draw(option_cases(own_images(folder / "own")), asked.count, asked.seed)
        verbs = draw(verb_cases(folder / "files"), asked.count, asked.seed)
        count, found = faults(folder, options, verbs)
    for fault in found:
        print(fault)
    print(f"{count} bad values, {len(found)} faults")
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
