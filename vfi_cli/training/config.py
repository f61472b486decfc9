"""What a training run is told: a TOML file, checked key by key.

Every table of the file is a dataclass here, every key a field with its type and default, so a
mistyped key or a value of the wrong kind is one clear line and not a run that ignores it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from vfi_cli.datasets.layouts import LAYOUTS
from vfi_cli.errors import InputError, UsageError
from vfi_cli.models.weights import SUFFIXES
from vfi_cli.wording import said

T = TypeVar("T")

#: Frames left out between the two that a new one is made from; drawn as often as named.
GAPS = (1, 1, 1, 1, 2, 3, 3, 4, 5, 6)


@dataclass(frozen=True)
class ModelConfig:
    """The network.

    ``architecture``: a name of ``vfi models list``; ``vfi-lite`` and those of RIFE 4.x, ``rife``,
    ``rifem``, those of IFRNet, ``rrin``, ``scopeflow`` and ``eqvi`` can be trained.
    ``widths``: channels of its blocks where they are not the published ones: of each block of a
    RIFE, coarse to fine, or of each level of IFRNet's pyramid, fine to coarse.
    ``scales``: by how much what a block of a vfi-lite sees is reduced, coarse to fine.
    ``context``: channels of the context features of RIFE and RIFEm.
    ``init_from``: weights to start from, a file or the name of a model. EQVI also takes those
    of a ScopeFlow, for its flow.
    ``grown_from``: for each block of a vfi-lite the one of ``init_from`` that it begins as.
    ``teacher``: for IFRNet's flow distillation, weights of a model that knows the motion, where
    a sample has no exact flow.
    """

    architecture: str = "vfi-lite"
    widths: tuple[int, ...] = ()
    scales: tuple[int, ...] = ()
    context: int = 16
    init_from: str = ""
    grown_from: tuple[int, ...] = ()
    teacher: str = ""
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

    ``textures``: folders with pictures for the rendered scenes; a fifth of the textures is taken
    from ``clips``, all where no folder is named. There are ``scenes``, ``scene_size`` pixels
    square, each with one of the largest shifts ``scene_motion`` (pixels). ``scene_blurred``: share
    of scenes with motion blur; ``scene_accelerated``: of layers that do not keep their speed.

    ``cache``: where decoded clips and rendered scenes are kept, and of the pictures of ``sets`` up
    to ``cache_gigabytes``. ``workers``: processes that prepare samples; 0: one thread.
    """

    clips: tuple[str, ...] = ()
    sets: tuple[SetConfig, ...] = ()
    gaps: tuple[int, ...] = GAPS
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
class LossConfig:
    """Weights of the losses; those of 0 are not computed. Each is described in
    ``vfi_cli/training/losses.py``.

    Of the new frame: ``laplacian``, ``census``, ``charbonnier``, ``l1`` and ``perceptual``, for
    which ``vgg`` names a file with the weights of torchvision's VGG-16 or VGG-19.
    ``unblended``: Laplacian of vfi-lite's frame before its blend.
    ``teacher``: Laplacian of the frame of RIFE's teacher block; ``distillation``: what its flow
    teaches the others.
    ``flow_distillation`` and ``geometry``: IFRNet's.
    ``flow``: error of the flow where it is known exactly, in pixels; beyond ``flow_cap`` (if
    not 0) it counts a tenth.
    """

    laplacian: float = 0.0
    census: float = 0.0
    charbonnier: float = 0.0
    l1: float = 0.0
    perceptual: float = 0.0
    unblended: float = 0.0
    teacher: float = 0.0
    distillation: float = 0.0
    flow_distillation: float = 0.0
    geometry: float = 0.0
    flow: float = 0.0
    flow_cap: float = 0.0
    vgg: str = ""


@dataclass(frozen=True)
class PhaseConfig:
    """One part of the run. ``until`` is the share of all steps at which it ends.

    ``blocks``: how many of the network's blocks take part, coarse to fine (0: all);
    ``silent``: how many of the coarsest stay without effect until a later phase: one that sees
    two by two pixels of a crop learns nonsense of a whole picture. It then begins as a copy of
    the next finer one;
    ``freeze``: parameters that stay as they are, by the beginnings of their names;
    ``synthetic``: the share of rendered samples;
    ``crop``: the samples' height and, where ``crop_width`` is 0, width;
    ``largest``: the mean motion, in pixels, above which a rendered sample is drawn anew;
    ``shifted``: the share of rendered samples that are one picture moved as a whole;
    ``loss``: weights that differ from those of ``[loss]``, by name.
    """

    until: float = 1.0
    blocks: int = 0
    silent: int = 0
    freeze: tuple[str, ...] = ()
    synthetic: float = 0.3
    crop: int = 192
    crop_width: int = 0
    batch: int = 8
    largest: float = 40.0
    shifted: float = 0.0
    loss: dict[str, float] = field(default_factory=dict)


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
class ValidationConfig:
    """Held-out footage: folders of videos. Of each, ``windows`` moving windows are chosen, and
    every ``every_minutes`` the averaged weights rebuild their middle frames, whole: the PSNR is
    what tells whether a run gets better. ``sheet_minutes``: how often a sheet of ``crops`` crops
    is drawn, of ``crop`` pixels a side; 0: never."""

    clips: tuple[str, ...] = ()
    every_minutes: float = 10.0
    windows: int = 3
    sheet_minutes: float = 30.0
    crops: int = 6
    crop: int = 192


@dataclass(frozen=True)
class RunConfig:
    """``minutes``: where not 0, the schedule follows the time spent and not ``steps``, for a
    machine that others use too; such a run is not repeatable to the bit.

    ``threads`` of torch; 0: as many as it likes.
    """

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
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    run: RunConfig = field(default_factory=RunConfig)
    folder: str = "."  # of the file: what relative paths start from

    def path(self, name: str) -> Path:
        return Path(self.folder) / Path(name).expanduser()

    def losses(self, phase: PhaseConfig) -> LossConfig:
        """The weights of the losses during a phase."""
        return dataclasses.replace(self.loss, **phase.loss)  # type: ignore[arg-type]

    def fingerprint(self) -> str:
        """What must not change when a run is resumed: everything but where the data lies, how
        long the run is and how often it reports."""
        table = dataclasses.asdict(self)
        for key in ("folder", "run", "validation"):
            table.pop(key)
        for key in ("clips", "textures", "sets", "cache", "cache_gigabytes", "workers"):
            table["data"].pop(key)
        table["seed"] = self.run.seed
        return json.dumps(table, sort_keys=True)


SHIPPED = Path(__file__).parent / "configs"


def shipped() -> list[tuple[str, str]]:
    """The configurations that come with the program: names, and what their first lines say."""
    found = []
    for path in sorted(SHIPPED.glob("*.toml")):
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        found.append((path.stem, first.lstrip("# ")))
    return found


def read_config(
    path: Path, overrides: typing.Sequence[str] = (), *, to_train: bool = True
) -> Config:
    """The configuration in a TOML file with ``table.key=value`` overrides (values as in TOML;
    ``phases.key`` is of each phase).

    ``path`` may be the name of a shipped one, whose folders are then relative to the current one.
    ``to_train``: whether it must be fit for a run, with its data where it says.
    Raises InputError for a file that cannot be read, UsageError that names the key otherwise.
    """
    folder, where = path.parent, str(path)
    if not path.exists() and str(path) in [name for name, _ in shipped()]:
        path, folder = SHIPPED / f"{path}.toml", Path()
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        there = ", ".join(name for name, _ in shipped())
        raise InputError(
            f"{path}: cannot be read ({said(error)}); shipped configurations: {there}"
        ) from None
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
        inner = table.setdefault(names[0], [{}] if names[0] == "phases" else {})
        for each in inner if isinstance(inner, list) else [inner]:
            if not isinstance(each, dict):
                raise UsageError(f"--set {text}: {names[0]} is no table with keys")
            each[names[1]] = parsed
    config = _build(Config, table, where, "")
    config = dataclasses.replace(config, folder=str(folder))
    if to_train:
        _check(config, where)
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
            raise UsageError(f"{where}: {key} must be a list such as [{value!r}], not {value!r}")
        return tuple(
            _value(inner, item, where, f"{key}[{number}]") for number, item in enumerate(value)
        )
    if typing.get_origin(hint) is dict:
        if not isinstance(value, dict):
            raise UsageError(f"{where}: {key} must be a table of keys")
        inner = typing.get_args(hint)[1]
        return {name: _value(inner, item, where, f"{key}.{name}") for name, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    wrong = not isinstance(value, hint) or (hint is not bool and isinstance(value, bool))
    if wrong or (hint is float and not math.isfinite(value)):
        raise UsageError(f"{where}: {key} must be {_NAMES[hint]}, not {value!r}")
    return value


_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


#: Pixels of a crop of which all losses can be computed.
_SMALLEST = 32
#: Numbers that must not be less than this.
_LEAST = {
    "optim": {"final_lr": 0, "warmup": 0, "weight_decay": 0, "ema": 0},
    "validation": {"sheet_minutes": 0},
    "run": {"minutes": 0, "seed": 0, "threads": 0, "save_minutes": 0, "bad_steps": 1},
}


def _check(config: Config, where: str) -> None:
    """What can be told without the network; the rest is :mod:`vfi_cli.training.families`'s."""
    for table, least in _LEAST.items():
        for key, value in least.items():
            if getattr(getattr(config, table), key) < value:
                raise UsageError(f"{where}: {table}.{key} must be at least {value}")
    weights = {item.name for item in dataclasses.fields(LossConfig) if item.type == "float"}
    silent = [phase.silent for phase in config.phases]
    for number, phase in enumerate(config.phases):
        name = f"phases[{number}]"
        for key in ("synthetic", "shifted"):
            if not 0 <= getattr(phase, key) <= 1:
                raise UsageError(f"{where}: {name}.{key} must lie between 0 and 1")
        if phase.largest <= 0:
            raise UsageError(f"{where}: {name}.largest must be positive, in pixels")
        if phase.crop < _SMALLEST or 0 != phase.crop_width < _SMALLEST:
            raise UsageError(
                f"{where}: {name}.crop must be at least {_SMALLEST} pixels, and so crop_width or 0"
            )
        if phase.batch < 1:
            raise UsageError(f"{where}: {name}.batch must be at least 1")
        for key in phase.loss:
            if key not in weights:
                there = ", ".join(sorted(weights))
                raise UsageError(f"{where}: unknown key {name}.loss.{key}; there are {there}")
        for key in weights:
            if getattr(config.losses(phase), key) < 0:
                raise UsageError(f"{where}: loss.{key} of {name} must not be negative")
        if not any(getattr(config.losses(phase), key) for key in weights - {"flow_cap"}):
            raise UsageError(f"{where}: the losses of {name} all have the weight 0 (table [loss])")
        if config.losses(phase).perceptual and not config.loss.vgg:
            raise UsageError(
                f"{where}: loss.perceptual needs the weights of torchvision's VGG-16 or VGG-19; "
                "name their file in loss.vgg"
            )
    if silent != sorted(silent, reverse=True):
        raise UsageError(f"{where}: phases.silent must not rise: what was trained would be lost")
    ends = [phase.until for phase in config.phases]
    if not ends or ends != sorted(ends) or ends[-1] != 1.0:
        raise UsageError(f"{where}: phases must end at rising shares, the last until = 1.0")
    if config.optim.clip <= 0 or config.optim.ema >= 1:
        raise UsageError(f"{where}: optim.clip must be positive, optim.ema less than 1")
    if config.optim.lr <= 0 or config.run.steps < 1 or config.optim.accumulate < 1:
        raise UsageError(f"{where}: optim.lr, optim.accumulate and run.steps must be positive")
    if config.run.log_every < 1:
        raise UsageError(f"{where}: run.log_every must be positive")
    shown = config.validation
    if min(shown.windows, shown.crops, shown.crop) < 1 or shown.every_minutes <= 0:
        raise UsageError(
            f"{where}: validation.windows, crops, crop and every_minutes must be positive"
        )
    for table, key in (("data", "clips"), ("data", "textures"), ("validation", "clips")):
        for name in getattr(getattr(config, table), key):
            if not config.path(name).is_dir():
                raise InputError(
                    f"{where}: {table}.{key}: there is no folder {config.path(name)}; "
                    f"--set '{table}.{key}=[\"FOLDER\"]' names another"
                )
    for key in ("init_from", "teacher"):
        name = getattr(config.model, key)
        if Path(name).suffix in SUFFIXES and not config.path(name).is_file():
            raise InputError(f"{where}: model.{key}: there is no file {config.path(name)}")
    if config.loss.vgg and not config.path(config.loss.vgg).is_file():
        raise InputError(f"{where}: loss.vgg: there is no file {config.path(config.loss.vgg)}")
    if any(phase.synthetic < 1 for phase in config.phases) and not (
        config.data.clips or config.data.sets
    ):
        raise UsageError(f"{where}: data.clips is empty, but a phase wants real clips")
    if any(phase.synthetic > 0 for phase in config.phases) and not (
        config.data.textures or config.data.clips
    ):
        raise UsageError(
            f"{where}: data.textures and data.clips are empty, but a phase wants rendered scenes"
        )
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
