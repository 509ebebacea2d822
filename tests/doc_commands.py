"""The commands that README and docs show, line by line, and the sandbox folder in which what they name exists."""

import io
import itertools
import pickle
import re
import runpy
import shlex
import shutil
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import helper, numpy_helper
from PIL import Image

from fblut.reading import PUBLISHED, read_lut
from fblut.table import Lut, Metadata, Row
from fblut.writing import write_lut
from fbprof.imports.blocks import COLUMNS, CONSTANT
from fbprof.plan.grid import grid_operators
from fbspace.architecture import load_space_of
from fbspace.blocks import is_identity
from fbspace.draw import draw_networks
from fbspace.network import count_spec
from fbspace.space import Space, load_space
from peers.small_models import onnx_model

ROOT = Path(__file__).parents[1]
MASKS = "docs/searching/masks.md"
"""The page whose commands search a grid, whose table and search take longest to make."""
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PROGRAM = r"(?:\S*/)?(fbprof|fbsearch|torchrun|python3?|make|pytest|pip)"


@dataclass(frozen=True, slots=True)
class Shown:
    """A command in a code block: where it stands, what is set before it, the program and its words."""

    page: str
    line: int
    variables: tuple[tuple[str, str], ...]
    tool: str
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        """The command as it is written, without comments and without where its output goes."""
        return shlex.join([*(f"{name}={value}" for name, value in self.variables), self.tool, *self.words])

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def all_shown() -> list[Shown]:
    """Return the commands that pages show, and those that are examples in the commands' help."""
    texts = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}
    texts["--help"] = runpy.run_path(str(ROOT / "docs" / "reference.py"))["commands"]()
    return [shown for name, text in texts.items() for shown in commands_in(name, text)]


def commands_in(name: str, page: str) -> list[Shown]:
    """Return the commands in a page's code blocks; lines with `[`, `…` or `<` are forms of commands, and left out."""
    found = []
    is_fenced = False
    lines = enumerate(page.splitlines(), start=1)
    for number, line in lines:
        if line.startswith("```"):
            is_fenced = not is_fenced
            continue
        match = re.match(rf"(?:{'' if is_fenced else ' {4,}'}|\$ | +)((?:[A-Z_]+=\S+ )*{PROGRAM} [^=].*)", line)
        if match is None:
            continue
        text = match[1]
        while text.endswith("\\"):
            text = text[:-1] + next(lines)[1].strip()
        text = re.split(r"\s#\s| > | \| ", text)[0]
        if not re.search(r"[…\[<]|\$\(", text) and " in " not in text:
            found.append(_parsed(name, number, shlex.split(text)))
    return found


def _parsed(page: str, line: int, words: list[str]) -> Shown:
    variables = []
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        variables.append((name, value))
    return Shown(page, line, tuple(variables), Path(words[0]).name, tuple(words[1:]))


def plausible_table(space: Space, name: str, device: str, middle_ms: float = 20.0) -> Lut:
    """Return a table that nobody measured: so much per operator and per multiply-accumulate.

    The network in the middle between the fastest and the slowest takes `middle_ms`, so that the targets in the pages
    lie in between.
    """
    keys = {spec.key(): spec for spec in space.operators()}
    macs = {key: count_spec(spec).macs for key, spec in keys.items()}
    mean = sum(macs.values()) / len(macs)
    cost = {key: 0.3 + value / mean for key, value in macs.items()}
    layers = [
        [cost.get(spec.key(), 0.0) for spec in layer.candidates.values() if not is_identity(spec)] + [0.0]
        for layer in space.layers
    ]
    middle = sum(max(layer) for layer in layers) / 2 + sum(cost.get(spec.key(), 0.0) for spec in space.stem)
    scale_us = 1e3 * middle_ms / (middle or sum(cost.values()))
    rows = {}
    for number, (key, spec) in enumerate(keys.items()):
        latency_us = round(scale_us * cost[key] * (1 + 0.02 * (number % 3)), 3)
        rows[key] = Row(spec, latency_us, 0.99 * latency_us, 1.01 * latency_us, samples=60)
    metadata = Metadata(
        space=name, device=device, runtime="litert", runtime_version="2.3.0", precision="float32", threads=1
    )
    return Lut(metadata, rows)


TABLES = (
    *("s8", "iphonex", "pixel", "phone", "local", "litert", "ort", "monday", "tuesday", "yesterday", "today"),
    *("s8-no-drift", "v3-small", "float", "int8"),
)


PROFILES = ("board", "phone-a", "phone-b", "lab1-a", "lab1-b", "lab2-a")


def write_tables(folder: Path, space_name: str) -> None:
    """Write the tables that the pages name, of one space."""
    shutil.copy(PUBLISHED.path("pixel-3"), folder / "pixel3.csv")
    shutil.copy(PUBLISHED.path("raspberry-pi-4"), folder / "raspi4.csv")
    for number, name in enumerate(TABLES):
        network = "mobilenetv3-small" if name == "v3-small" else space_name
        device = "local" if name in ("local", "litert", "ort", "float", "int8") else name
        lut = plausible_table(load_space_of(network), network, device, 20 + 0.1 * number)
        precision = "int8" if name == "int8" else "float32"
        write_lut(Lut(lut.metadata.model_copy(update={"precision": precision}), lut.rows), folder / f"{name}.csv")


def write_masked_table(folder: Path) -> None:
    """Write the table of the space that docs/searching/masks.md searches, a grid whose networks take about 0.4 ms."""
    space = load_space("fbnetv2-tiny")
    specs = grid_operators(space, 2)
    rows = {spec.key(): Row(spec, round(10 + 50e-6 * count_spec(spec).macs, 3), samples=60) for spec in specs}
    described = plausible_table(load_space("fbnet-tiny"), "fbnetv2-tiny", "local").metadata
    write_lut(Lut(described.model_copy(update={"grid_points": 2}), rows), folder / "local.csv")


def write_foreign_files(folder: Path) -> None:
    """Write what others measured, in their formats: of the space fbnet-cifar, and a table of layers of fbnet."""
    lut = read_lut(Path("pixel-3"))
    space = load_space("fbnet-cifar")
    for name in ("pixel3", "raspi4"):
        lines = {",".join(COLUMNS): None, f"{CONSTANT}(stem+head),,,,,,,2.84": None}
        places = [tuple(spec.key() for spec in layer.candidates.values()) for layer in space.layers]
        for place, layer in zip(places, space.layers, strict=True):
            for candidate, spec in layer.candidates.items():
                row = lut.row(spec)
                if spec.kind != "skip" and row is not None and row.latency_us is not None:
                    shape = f"{spec.height},{spec.in_channels},{spec.out_channels},{spec.stride},{places.count(place)}"
                    lines[f"block,{shape},{candidate},{row.latency_us / 1e3:.6f}"] = None
        (folder / f"{name}_blocks.csv").write_text("\n".join(lines) + "\n")
    fbnet = load_space("fbnet")
    names = list(fbnet.layers[0].candidates)
    rows = [" ".join(f"{10 * (i + 1) + j}" for j in range(len(names))) for i in range(len(fbnet.layers))]
    (folder / "speed_cpu.txt").write_text("\n".join([" ".join(names), *rows]) + "\n")
    made_up = plausible_table(space, "fbnet-cifar", "phone")
    header = ["name", *(f"op{i}" for i in range(len(space.layers))), "latency_us"]
    networks = draw_networks(space, 400, "docs")
    lines = {",".join(header): None}
    for number, choices in enumerate(networks):
        lines[",".join([f"n{number}", *choices, f"{made_up.predict_us(space.specs(choices)):.1f}"])] = None
    (folder / "phone_networks.csv").write_text("\n".join(lines) + "\n")
    (folder / "networks.csv").write_text(
        "# fbnet-lab networks 1\nname,latency_us,predicted_us\na,20000,21000\nb,15000,14000\n"
    )


def write_images(folder: Path) -> None:
    """Write images of ten classes in all the forms that the pages name: noise, 16 for each class."""
    rng = np.random.default_rng(0)
    labels = np.arange(160) % 10
    pixels = rng.integers(0, 256, (160, 32, 32, 3), np.uint8)
    np.savez(folder / "cifar10.npz", x_train=pixels, y_train=labels)
    encoded = []
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        content = io.BytesIO()
        Image.fromarray(image).save(content, "JPEG")
        encoded.append(content.getvalue())
        for name in ("images", "imagenet100", "imagenet"):
            path = folder / name / str(label) / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded[-1])
    offsets = np.cumsum([0, *map(len, encoded)])
    content = np.frombuffer(b"".join(encoded), np.uint8)
    np.savez(folder / "cifar10_jpegs.npz", jpg_train=content, off_train=offsets, y_train=labels)
    planes = pixels.transpose(0, 3, 1, 2).reshape(160, -1)
    batches = {f"data_batch_{i + 1}": slice(24 * i, 24 * (i + 1)) for i in range(5)} | {"test_batch": slice(120, 160)}
    files = {name: {b"data": planes[part], b"labels": labels[part].tolist()} for name, part in batches.items()}
    files["batches.meta"] = {b"label_names": [str(i).encode() for i in range(10)]}
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        for name, entry in files.items():
            packed = pickle.dumps(entry, protocol=2)
            about = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            about.size = len(packed)
            archive.addfile(about, io.BytesIO(packed))


OWN = """from torch import nn


def detector():
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3)), (1, 3, 32, 32)


def small():
    return nn.Conv2d(3, 16, 3, 2, 1)


before = after = detector
"""


def write_models(folder: Path) -> None:
    """Write the model files that the pages name, by their endings: a detector of 320x320 and a model of text."""
    filters = [np.full((8, channels, 3, 3), 0.1, np.float32) for channels in (3, 8)]
    weights = [
        helper.make_node("Constant", [], [f"w{i}"], value=numpy_helper.from_array(w)) for i, w in enumerate(filters)
    ]
    layers = [
        helper.make_node("Conv", ["images", "w0"], ["h"], strides=[8, 8]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Conv", ["r", "w1"], ["boxes"], strides=[4, 4]),
    ]
    images = {"images": ("float32", (1, 3, 320, 320))}
    (folder / "model.onnx").write_bytes(onnx_model(images, {"boxes": ("float32", (1, 8, 10, 10))}, [*weights, *layers]))
    np.savez(folder / "values.npz", images=np.ones((1, 3, 320, 320), np.float32))
    shape = ("int64", ("batch", "length"))
    nodes = [helper.make_node("Mul", ["ids", "mask"], ["y"])]
    (folder / "text.onnx").write_bytes(onnx_model({"ids": shape, "mask": shape}, {"y": shape}, nodes))
    (folder / "net.py").write_text(OWN)


def write_parquet(path: Path) -> None:
    """Write 160 images as the `datasets` library keeps them. Raises ModuleNotFoundError where it is not installed."""
    import datasets

    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)) for _ in range(160)]
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=[str(i) for i in range(10)])}
    )
    columns = {"image": images, "label": [i % 10 for i in range(160)]}
    datasets.Dataset.from_dict(columns, features=features).to_parquet(str(path))


def fill(base: Path, call: Callable[[str, Sequence[str]], None], has_masks: bool) -> None:
    """Make what commands of the pages may name, those of MASKS where asked; `call` runs a tool in the base."""
    for folder, space in (("small", "fbnet-tiny"), ("published", "fbnet")):
        (base / folder).mkdir()
        write_tables(base / folder, space)
    if has_masks:
        (base / "masked").mkdir()
        write_masked_table(base / "masked")
    write_images(base)
    write_foreign_files(base)
    mine = re.search(r"```toml\n(.*?)```", (ROOT / "docs/extend/space.md").read_text(encoding="utf-8"), re.S)
    assert mine is not None
    (base / "mine.toml").write_text(mine[1])
    shutil.copy(ROOT / "tests/data/replay.toml", base)
    write_models(base)
    call("fbprof", ["measure", "--space", "fbnet-tiny", "-o", "measured.csv"])
    call("fbsearch", ["run", "--lut", "small/s8.csv", "--target-ms", "20", "--data", "images/", "-o", "search"])
    call("fbprof", ["export", "search/arch.json", "--format", "tflite", "-o", "model.tflite"])
    call("fbprof", ["profile", "model.onnx", "--layers", "-o", "result.json"])
    call("fbsearch", ["sample", "search"])
    call("fbsearch", ["train", "search/arch.json", "--data", "cifar10.npz", "-o", "trained"])
    weights = ["trained/arch.json", "--weights", "trained/weights.pt"]
    int8 = ["--precision", "int8", "--runtime", "litert", "--ranges", "trained/ranges.json"]
    call("fbsearch", ["eval", *weights, *int8])
    if has_masks:
        call("fbsearch", ["run", "--lut", "masked/local.csv", "--target-ms", "0.4", "-o", "masked/search"])


def lay_out(base: Path, folder: Path, shown: Shown) -> None:
    """Copy from the base what a command's words name, but not what it writes."""
    words = [word.partition(":")[2] if word.startswith("hf:") else word for word in shown.words]
    written = {after for word, after in itertools.pairwise(words) if word in ("-o", "--plot", "new")}
    names_published = re.search(r"fbnet-[abc]|zoo", shown.text) is not None
    is_masked = shown.page == MASKS
    tables = base / ("masked" if is_masked else "published" if names_published else "small")
    for word in set(words) - written:
        path, target = Path(word), folder / word
        if path.parts[:1] == ("runs",) and path.suffix != ".csv":
            run = folder.joinpath(*path.parts[: 3 if path.parts[1] == "demo" else 2])
            is_trained = re.search(r"trained|train$|s8-1$|int8$", run.name)
            copy(base / ("trained" if is_trained else "masked/search" if run.name == "masked" else "search"), run)
        elif word in ("arch.json", "weights.pt"):
            copy(base / "trained" / word, target)
        elif word.endswith(".journal.jsonl"):
            copy(base / "measured.journal.jsonl", target)
        elif path.suffix in (".onnx", ".tflite"):
            copy(base / (word if (base / word).is_file() else f"model{path.suffix}"), target)
        elif words[0] in ("report", "compare") and path.suffix == ".json":
            copy(base / "result.json", target)
        elif word.endswith(".parquet"):
            write_parquet(target)
        elif ".py:" in word:
            copy(base / "net.py", folder / word.partition(":")[0])
        elif path.stem in PROFILES:
            if words[0] in ("profile", "ab"):
                (folder / word).write_text('description = "this machine"\ntransport = "local"\n')
            else:
                write_profile(base, folder, path.stem, "replay.toml" in words)
        else:
            table = tables / path.name
            copy(table if table.is_file() else base / word, target)
    if words[0] == "sample":
        copy(base / "images", folder / "images")  # which its search says it is of
    if words[0] == "report":
        copy(base / "measured.journal.jsonl", folder / f"{Path(words[1]).stem}.journal.jsonl")


def write_profile(base: Path, folder: Path, name: str, is_of_replay: bool) -> None:
    """Write a device profile that is a recording: of this machine and fbnet-tiny, or of the space replay.toml."""
    recorded = ROOT / "tests/data/replay.journal.jsonl.xz" if is_of_replay else base / "measured.journal.jsonl"
    journal = folder / f"recorded-{name}{''.join(recorded.suffixes[-2:])}"
    copy(recorded, journal)
    profile = f'description = "a recording"\ntransport = "replay"\n[address]\njournal = "{journal}"\n'
    (folder / f"{name}.toml").write_text(profile)


def copy(source: Path, target: Path) -> None:
    """Copy a file or folder, where there is such a one."""
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    elif source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
