"""Valid files of every kind that the tools read, and a seeded way to make hostile ones of them."""

import hashlib
import io
import json
import lzma
import os
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SPACE = """description = "mini"
input = { channels = 3, size = 8 }
classes = 2
head_channels = [8]
stem = [{ kind = "conv", channels = 8, kernel = 3, stride = 2 }]
stages = [{ channels = 8, repeats = 2, stride = 1 }]
[candidates]
k3_e1 = { kind = "ir", kernel = 3, expansion = 1 }
k3_e3 = { kind = "mbconv", kernel = 3, expansion = 3 }
skip = { kind = "skip" }
"""
PROFILE = """description = "a recording"
transport = "replay"
cores = "0"
[address]
journal = "nowhere.journal.jsonl"
[environment]
A = "b"
"""
SHORT = "--limit 20 --epochs 1 --steps 1 --batch 4 --fresh"
COMMANDS = """
s.toml: fbsearch spaces check FILE
s.toml: fbprof measure --space FILE --dry-run
s.toml: fbprof import keys.json --space FILE --device d -o out.csv --unit us
a.json: fbsearch zoo show FILE
a.json: fbprof export FILE --format onnx -o out.onnx
a.json: fbsearch plot FILE -o plots
a.json: fbprof measure --space FILE --dry-run
a.json: fbprof verify FILE --lut table.csv --device p.toml
a.json: fbprof compare table.csv table.csv --networks FILE
a.json: fbsearch eval FILE --weights weights.pt --data data.npz
r.json: fbsearch zoo show FILE
r.json: fbsearch eval FILE --weights run/weights.pt --data data.npz
d.toml: fbprof measure --device FILE --dry-run --space mini.toml
d.toml: fbprof verify arch.json --lut table.csv --device FILE
fbprof.toml: fbprof measure --help
fbprof.toml: fbprof config
t.csv: fbprof check FILE
t.csv: fbprof compare table.csv FILE
t.csv: fbprof compare FILE table.csv --format md
t.csv: fbprof report FILE -o out.html
t.csv: fbprof verify arch.json --lut FILE --device p.toml
t.csv: fbprof validate --lut FILE --device p.toml --networks 2 -o out.csv
t.csv: fbsearch run --lut FILE --space mini.toml --data data.npz -o out-run --preset quick SHORT
k.json: fbprof import FILE --space mini.toml --device d --unit us -o out.csv
l.txt: fbprof import FILE --space mini.toml --device d --unit us -o out.csv
o.yaml: fbprof import FILE --space mini.toml --device d --unit us -o out.csv
b.csv: fbprof import FILE --space mini.toml --device d -o out.csv
n.csv: fbprof fit FILE --space mini.toml -o out.csv
n.csv: fbprof validate --lut table.csv --device p.toml --networks 2 --exclude FILE -o out.csv
v.csv: fbprof report table.csv --validation FILE -o out.html
j.journal.jsonl: fbprof estimate FILE -o out.csv
j.journal.jsonl: fbprof measure --device recorded.toml --space replay.toml --quick -o out.csv --fresh
j.csv: fbprof report FILE -o out.html
w.pt: fbprof export arch.json --format tflite --weights FILE -o out.tflite
w.pt: fbsearch eval arch.json --weights FILE --data data.npz
w.pt: fbsearch train arch.json --init FILE --data data.npz -o out-train SHORT
g.json: fbprof export arch.json --format tflite --precision int8 --weights weights.pt --ranges FILE -o out.tflite
c.npy: fbprof export arch.json --format tflite --precision int8 --calibration FILE -o out.tflite
d.npz: fbsearch eval arch.json --weights weights.pt --data FILE --limit 10
images/a/0.png: fbsearch train arch.json --data images -o out-train --epochs 1 --batch 4 --fresh
run/metrics.jsonl: fbsearch plot run -o plots
run/metrics.jsonl: fbprof report table.csv --run run -o out.html
run/accuracy.jsonl: fbprof report table.csv --run run -o out.html
run/arch.json: fbsearch plot run -o plots
run/arch.json: fbprof report table.csv --run run -o out.html
run/search.ckpt: fbsearch sample run -n 2 -o out-samples
"""
"""Each command that reads a kind of file; FILE stands for the hostile one."""


@dataclass(frozen=True)
class Kind:
    """A kind of file: its name where a command expects it, what a valid one holds, and the commands that read it."""

    name: str
    content: bytes
    commands: tuple[str, ...]


def kinds(folder: Path) -> list[Kind]:
    """Write what commands need beside a hostile file into the folder, and return every kind."""
    from fbspace.architecture import Architecture
    from fbspace.network import build_network
    from fbspace.space import load_space
    from fbspace.weights import randomize, save_weights

    (folder / "mini.toml").write_text(SPACE)
    (folder / "p.toml").write_text(PROFILE)
    (folder / "recorded.toml").write_text(PROFILE.replace("nowhere", "j").replace('cores = "0"\n', ""))
    shutil.copy(ROOT / "tests/data/replay.toml", folder)
    os.chdir(folder)
    space = load_space("mini.toml")
    architecture = Architecture(name="n", space="mini.toml", choices=("k3_e3", "k3_e1"))
    architecture.save(folder / "arch.json")
    save_weights(randomize(build_network(architecture), 0), folder / "weights.pt")
    operators = {spec.key(): 5.0 + number for number, spec in enumerate(space.operators())}
    keys = json.dumps(operators, indent=1).encode()
    (folder / "keys.json").write_bytes(keys)
    of_device = "--device d --runtime litert --precision float32"
    _tool(f"fbprof import keys.json --space mini.toml {of_device} --unit us -o table.csv")
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 255, (40, 8, 8, 3), dtype=np.uint8), np.arange(40) % 2
    data, array = io.BytesIO(), io.BytesIO()
    np.savez(data, x_train=images, y_train=labels, x_test=images, y_test=labels)
    (folder / "data.npz").write_bytes(data.getvalue())
    np.save(array, rng.standard_normal((4, 3, 8, 8)).astype(np.float32))
    for label in ("a", "b"):
        (folder / "images" / label).mkdir(parents=True)
        for number in range(8):
            _picture(folder / "images" / label / f"{number}.png")
    _tool(f"fbsearch run --lut table.csv --space mini.toml --data data.npz -o run --preset quick {SHORT}")
    _tool("fbsearch eval run/arch.json --weights run/weights.pt --data data.npz -o run/accuracy.jsonl")
    journal = lzma.decompress((ROOT / "tests/data/replay.journal.jsonl.xz").read_bytes())
    draw = random.Random(0)
    names = ("k3_e1", "k3_e3", "skip")
    networks = "".join(f"{draw.choice(names)},{draw.choice(names)},{50 + i % 7}\n" for i in range(60))
    blocks = "layer_key,h,cin,cout,stride,n_positions,op,delta_ms_vs_skip\n__constant__,,,,,,,2.5\n"
    blocks += "a,4,8,8,1,2,k3_e1,0.25\na,4,8,8,1,2,k3_e3,0.5\n"
    places = "Conv-input:8x8x3-output:4x4x8: {count: 3, mean: 3.5}\n"
    places += "expanded_conv-input:4x4x8-output:4x4x8-expand:3-kernel:3-stride:1-idskip:1: {mean: 4.5}\n"
    weights = (folder / "weights.pt").read_bytes()
    ranges = {"method": "mse", "images": 4, "weights_sha256": hashlib.sha256(weights).hexdigest(), "ranges": {}}
    contents = {
        "s.toml": SPACE.encode(),
        "a.json": (folder / "arch.json").read_bytes(),
        "r.json": (folder / "run/arch.json").read_bytes(),
        "d.toml": PROFILE.encode(),
        "fbprof.toml": b'device = "local"\n[measure]\nmax-time = 20\n',
        "t.csv": (folder / "table.csv").read_bytes(),
        "k.json": keys,
        "l.txt": b"k3_e1 k3_e3 skip\n1.5 2.5 0.1\n1.25 2.25 0.1\n",
        "o.yaml": places.encode(),
        "b.csv": blocks.encode(),
        "n.csv": f"op0,op1,latency_us\n{networks}".encode(),
        "v.csv": b"name,op0,op1,head_channels,latency_us,predicted_us\na,k3_e1,skip,8,50,51\nb,skip,skip,8,40,39\n",
        "j.journal.jsonl": journal,
        "j.csv": journal,
        "w.pt": weights,
        "g.json": json.dumps(ranges).encode(),
        "c.npy": array.getvalue(),
        "d.npz": data.getvalue(),
        "images/a/0.png": (folder / "images/a/0.png").read_bytes(),
        "run/metrics.jsonl": (folder / "run/metrics.jsonl").read_bytes(),
        "run/accuracy.jsonl": (folder / "run/accuracy.jsonl").read_bytes(),
        "run/arch.json": (folder / "run/arch.json").read_bytes(),
        "run/search.ckpt": (folder / "run/search.ckpt").read_bytes(),
    }
    lines = [line.split(": ") for line in COMMANDS.strip().splitlines()]
    reading = {name: [line.replace("SHORT", SHORT) for of, line in lines if of == name] for name in contents}
    return [Kind(name, content, tuple(reading[name])) for name, content in contents.items()]


def _tool(line: str) -> None:
    from fbbase.commandline import run
    from fbprof.cli import fbprof
    from fbsearch.cli import fbsearch

    tool, *arguments = line.split()
    if run(fbprof if tool == "fbprof" else fbsearch, arguments) != 0:
        raise RuntimeError(f"cannot prepare: {line}")


def _picture(path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)


ESCAPE = "\x1b]0;title\x07\x1b[31mred\x9b2J"
NUMBERS = (
    "9" * 5000,
    "-1",
    "1e308",
    "1e999",
    "NaN",
    "-0",
    "1000000000",
    "0",
    "true",
    "null",
    "[]",
    "{}",
    '"x"',
    "1,5",
    "٥",
)
WORDS = (
    "",
    "x" * 100_000,
    ESCAPE.encode("unicode_escape").decode(),
    "\\u0000",
    "\\ud800",
    "../../x",
    "=cmd()",
    "\x00",
    ESCAPE,
    "é",
)


def _flip(text: bytes, rng: random.Random) -> bytes:
    content = bytearray(text)
    for _ in range(rng.choice((1, 1, 5, 50))):
        content[rng.randrange(len(content))] ^= rng.randrange(1, 256)
    return bytes(content)


def _cut(text: bytes, rng: random.Random) -> bytes:
    start, end = sorted(rng.sample(range(len(text) + 1), 2))
    return rng.choice((text[:start], text[start:], text[:start] + text[end:], text[:end] + text[start:]))


def _number(text: bytes, rng: random.Random) -> bytes:
    return _replaced(text, rng, rb"-?\d+(\.\d+)?", rng.choice(NUMBERS))


def _word(text: bytes, rng: random.Random) -> bytes:
    return _replaced(text, rng, rb'(?<=")[^"\n]+(?=")|[a-z_]{3,}', rng.choice(WORDS))


def _value(text: bytes, rng: random.Random) -> bytes:
    return _replaced(
        text, rng, rb"(?<=[:=,])[^,:=\n]+", rng.choice((*NUMBERS, "[" * 5000, '{"a":' * 5000, "[" * 5000 + "]" * 5000))
    )


def _replaced(text: bytes, rng: random.Random, pattern: bytes, new: str) -> bytes:
    found = list(re.finditer(pattern, text[:200_000]))
    if not found:
        return _flip(text, rng)
    chosen = rng.choice(found)
    return text[: chosen.start()] + new.encode() + text[chosen.end() :]


def _lines(text: bytes, rng: random.Random) -> bytes:
    lines = text.split(b"\n")
    place = rng.randrange(len(lines))
    how = rng.randrange(3)
    if how == 0:
        lines.pop(place)
    elif how == 1:
        lines.insert(rng.randrange(len(lines)), lines[place])
    else:
        rng.shuffle(lines)
    return b"\n".join(lines)


def _other(text: bytes, rng: random.Random) -> bytes:
    marked, utf16 = b"\xef\xbb\xbf" + text, text.decode("latin-1").encode("utf-16")
    kinds = [magic + rng.randbytes(500) for magic in (b"", b"PAR1", b"PK\x03\x04", b"\x80\x02", b"\x93NUMPY\x01\x00")]
    written = [text * 3, text.replace(b",", b";"), text.replace(b"\n", b"\r\n"), text.replace(b".", b",")]
    return rng.choice((b"", b"[" * 100_000, b"{}", b"null", b"[]", marked, utf16, *kinds, *written))


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip,
    _cut,
    _number,
    _number,
    _word,
    _word,
    _value,
    _lines,
    _other,
)
SPECIAL = ("fifo", "endless", "folder", "sparse", "missing")


def put(path: Path, kind: Kind, way: str, rng: random.Random) -> None:
    """Put a hostile file of a kind at a path; `way` is one of SPECIAL, or `mutated`."""
    if way == "fifo":
        os.mkfifo(path)
    elif way == "endless":
        path.symlink_to("/dev/zero")
    elif way == "folder":
        path.mkdir()
    elif way == "sparse":
        with path.open("wb") as file:
            file.truncate(100 << 30)
    elif way == "mutated":
        path.write_bytes(rng.choice(MUTATIONS)(kind.content, rng))
