"""What a training run is told: a TOML file, checked key by key.

Every table of the file is a dataclass here, every key a field with its type and default, so a
mistyped key or a value of the wrong kind is one clear line and not a run that ignores it.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from vfi_cli.datasets.layouts import LAYOUTS
from vfi_cli.errors import InputError, UsageError

T = TypeVar("T")


@dataclass(frozen=True)
class ModelConfig:
    """The network: a RIFE 4.25 of any widths, coarse to fine.

    ``silent``: how many of the coarsest blocks stay without effect. A block that was trained on
    crops of which it sees two by two pixels says nonsense of a whole picture.
    """

    widths: tuple[int, ...] = (192, 128, 96, 48, 24)
    silent: int = 0
    seed: int = 0


@dataclass(frozen=True)
class SetConfig:
    """A published data set: its ``layout`` (vimeo-triplet, vimeo-septuplet, reds-vtsr, gopro,
    adobe240, x4k1000fps, …), the folder that holds it, and how often it is drawn from: a
    ``weight`` of 1 is as often as all of ``data.clips`` together. ``gaps`` as in ``[data]``, here
    as usual for the set where none are given; ``reduce``: by how much its pictures are reduced."""

    layout: str = ""
    path: str = ""
    weight: float = 1.0
    gaps: tuple[int, ...] = ()
    reduce: int = 1


@dataclass(frozen=True)
class DataConfig:
    """Where samples come from. Folders are relative to the configuration file.

    ``clips``: folders with videos, or with folders of pictures in order, of real motion, of each
    of which the first ``frames_per_clip`` frames are used; ``sets``: published data sets;
    ``gaps``: how many frames are left out between the two that a new one is made from, drawn as
    often as they are named; ``four``: samples also hold the frame before and the one after.

    ``textures``: folders with pictures for the rendered scenes, of which there are ``scenes``,
    ``scene_size`` pixels square, each with one of the largest shifts ``scene_motion`` (pixels).
    ``scene_blurred``: share of scenes with motion blur; ``scene_accelerated``: of layers that do
    not keep their speed.

    ``cache``: where decoded clips and rendered scenes are kept, and of the pictures of ``sets`` up
    to ``cache_gigabytes``. ``workers``: processes that prepare samples; 0: one thread.
    """

    clips: tuple[str, ...] = ()
    sets: tuple[SetConfig, ...] = ()
    gaps: tuple[int, ...] = (1, 1, 1, 1, 2, 3, 3, 4, 5, 6)
    four: bool = False
    textures: tuple[str, ...] = ()
    scenes: int = 5000
    scene_size: int = 224
    scene_motion: tuple[float, ...] = (2.0, 8.0, 24.0, 56.0, 128.0)
    scene_blurred: float = 0.05
    scene_accelerated: float = 0.0
    frames_per_clip: int = 450
    cache: str = "cache"
    cache_gigabytes: float = 50.0
    workers: int = 0


@dataclass(frozen=True)
class PhaseConfig:
    """One part of the run. ``until`` is the share of all steps at which it ends; ``blocks`` how
    many of the network's blocks take part; ``synthetic`` the share of rendered samples;
    ``crop`` the samples' height and, where ``crop_width`` is 0, width;
    ``largest`` the mean motion, in pixels, above which a rendered sample is drawn anew;
    ``shifted`` the share of rendered samples that are one picture moved as a whole."""

    until: float = 1.0
    blocks: int = 5
    synthetic: float = 0.3
    crop: int = 192
    crop_width: int = 0
    batch: int = 8
    largest: float = 40.0
    shifted: float = 0.0
    flow_weight: float = 0.02


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses of the new frame; the flow's is the phase's."""

    laplacian: float = 1.0
    census: float = 0.0
    charbonnier: float = 0.0


@dataclass(frozen=True)
class OptimConfig:
    lr: float = 6e-4
    final_lr: float = 6e-6
    warmup: int = 300
    weight_decay: float = 1e-3
    clip: float = 1.0
    accumulate: int = 1
    ema: float = 0.999
    bfloat16: bool = True


@dataclass(frozen=True)
class RunConfig:
    """``minutes``: where not 0, the schedule follows the time spent and not ``steps``, for a
    machine that others use too; such a run is not repeatable to the bit."""

    out: str = "run"
    steps: int = 10000
    minutes: float = 0.0
    seed: int = 1
    threads: int = 0
    log_every: int = 50
    save_minutes: float = 4.0
    bad_steps: int = 20  # steps without a finite gradient, in a row, after which the run stops


@dataclass(frozen=True)
class Config:
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    phases: tuple[PhaseConfig, ...] = (PhaseConfig(),)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)
    folder: str = "."  # of the file: what relative paths start from

    def path(self, name: str) -> Path:
        return Path(self.folder) / Path(name).expanduser()

    def fingerprint(self) -> str:
        """What must not change when a run is resumed: everything but where, how long and how
        often it reports."""
        table = dataclasses.asdict(self)
        for key in ("folder", "run", "data"):
            table.pop(key)
        table["seed"] = self.run.seed
        table["scenes"] = (self.data.scenes, self.data.scene_size, self.data.scene_motion)
        return json.dumps(table, sort_keys=True)


def read_config(path: Path, overrides: typing.Sequence[str] = ()) -> Config:
    """The configuration in a TOML file with ``table.key=value`` overrides (values as in TOML).

    Raises InputError for a file that cannot be read, UsageError that names the key otherwise.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not TOML ({error})") from None
    for text in overrides:
        key, given, value = text.partition("=")
        names = key.strip().split(".")
        if not given or len(names) != 2:
            raise UsageError(f"--set {text}: must be table.key=value, such as optim.lr=3e-4")
        try:
            parsed = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed = value.strip()
        inner = table.setdefault(names[0], {})
        if not isinstance(inner, dict):
            raise UsageError(f"--set {text}: {names[0]} is no table with keys")
        inner[names[1]] = parsed
    config = _build(Config, table, str(path), "")
    config = dataclasses.replace(config, folder=str(path.parent))
    _check(config, str(path))
    return config


def _build(kind: type[T], table: Any, where: str, prefix: str) -> T:
    if not isinstance(table, dict):
        raise UsageError(f"{where}: {prefix.rstrip('.')} must be a table of keys")
    hints = typing.get_type_hints(kind)
    known = {item.name for item in dataclasses.fields(kind)} - {"folder"}  # type: ignore[arg-type]
    values = {}
    for key, value in table.items():
        if key not in known:
            near = ", ".join(sorted(known))
            raise UsageError(f"{where}: unknown key {prefix}{key}; there are {near}")
        values[key] = _value(hints[key], value, where, prefix + key)
    return kind(**values)


def _value(hint: Any, value: Any, where: str, key: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, where, key + ".")
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        if not isinstance(value, list):
            raise UsageError(f"{where}: {key} must be a list, not {value!r}")
        return tuple(
            _value(inner, item, where, f"{key}[{number}]") for number, item in enumerate(value)
        )
    if isinstance(hint, types.UnionType):
        hint = typing.get_args(hint)[0]
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise UsageError(f"{where}: {key} must be {_NAMES[hint]}, not {value!r}")
    return value


_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _check(config: Config, where: str) -> None:
    for number, phase in enumerate(config.phases):
        name = f"phases[{number}]"
        if not 0 <= phase.synthetic <= 1:
            raise UsageError(f"{where}: {name}.synthetic must lie between 0 and 1")
        if not 1 <= phase.blocks <= len(config.model.widths):
            raise UsageError(
                f"{where}: {name}.blocks must lie between 1 and {len(config.model.widths)}"
            )
        if phase.crop % 64 or phase.crop <= 0:
            raise UsageError(f"{where}: {name}.crop must be a multiple of 64")
        if phase.crop_width % 64 or phase.crop_width < 0:
            raise UsageError(f"{where}: {name}.crop_width must be a multiple of 64, or 0")
        if phase.batch < 1:
            raise UsageError(f"{where}: {name}.batch must be at least 1")
    ends = [phase.until for phase in config.phases]
    if not ends or ends != sorted(ends) or ends[-1] != 1.0:
        raise UsageError(f"{where}: phases must end at rising shares, the last until = 1.0")
    if config.optim.lr <= 0 or config.run.steps < 1 or config.optim.accumulate < 1:
        raise UsageError(f"{where}: optim.lr, optim.accumulate and run.steps must be positive")
    if not 0 <= config.model.silent < len(config.model.widths):
        raise UsageError(f"{where}: model.silent must be less than the number of blocks")
    if len(config.model.widths) not in (4, 5) or min(config.model.widths) < 2:
        raise UsageError(f"{where}: model.widths must be four or five numbers")
    for key in ("clips", "textures"):
        for name in getattr(config.data, key):
            if not config.path(name).is_dir():
                raise InputError(f"{where}: data.{key}: there is no folder {config.path(name)}")
    if any(phase.synthetic < 1 for phase in config.phases) and not (
        config.data.clips or config.data.sets
    ):
        raise UsageError(f"{where}: data.clips is empty, but a phase wants real clips")
    if any(phase.synthetic > 0 for phase in config.phases) and not config.data.textures:
        raise UsageError(f"{where}: data.textures is empty, but a phase wants rendered scenes")
    _check_data(config, where)


def _check_data(config: Config, where: str) -> None:
    data = config.data
    for number, given in enumerate(data.sets):
        name = f"data.sets[{number}]"
        if given.layout not in LAYOUTS or "train" not in LAYOUTS[given.layout].splits:
            known = ", ".join(key for key, layout in LAYOUTS.items() if "train" in layout.splits)
            raise UsageError(f"{where}: {name}.layout is '{given.layout}'; there are {known}")
        if not given.path:
            raise UsageError(f"{where}: {name}.path must name the folder that holds {given.layout}")
        if not config.path(given.path).is_dir():
            raise InputError(
                f"{where}: {name}.path: there is no folder {config.path(given.path)}; "
                f"{LAYOUTS[given.layout].title}: {LAYOUTS[given.layout].page}"
            )
        if given.weight <= 0 or given.reduce < 1 or any(gap < 1 for gap in given.gaps):
            raise UsageError(f"{where}: {name}: weight, reduce and gaps must be positive")
    if not data.gaps or min(data.gaps) < 1:
        raise UsageError(f"{where}: data.gaps must be numbers from 1 on: {list(data.gaps)}")
    if data.scenes < 1 or data.scene_size < 32 or data.frames_per_clip < 3:
        raise UsageError(
            f"{where}: data.scenes must be at least 1, data.scene_size 32, data.frames_per_clip 3"
        )
    if not data.scene_motion or min(data.scene_motion) <= 0:
        raise UsageError(f"{where}: data.scene_motion must be numbers of pixels above 0")
    for key in ("scene_blurred", "scene_accelerated"):
        if not 0 <= getattr(data, key) <= 1:
            raise UsageError(f"{where}: data.{key} must lie between 0 and 1")
    if data.workers < 0 or data.cache_gigabytes < 0:
        raise UsageError(f"{where}: data.workers and data.cache_gigabytes must not be negative")
