"""Where the published data sets keep their frames.

A layout knows the folders, lists and file names of one data set as its authors publish it, and
gives its clips as :class:`FrameSequence`. Nothing is decoded here; that a named file exists is
checked, and the first one that does not is named together with where the set can be had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from vfi_cli.datasets.clips import FrameSequence
from vfi_cli.errors import InputError, UsageError
from vfi_cli.io.naming import irregular_numbers, list_images, natural_key

Split = Literal["train", "test", "val"]

VIDEOS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".y4m")


@dataclass(frozen=True, slots=True)
class Layout:
    """A data set: what it is called, where it is published, how its clips are found.

    ``folders`` are the names that its folder usually has; ``expected`` says for people what
    stands in it.
    """

    name: str
    title: str
    page: str
    folders: tuple[str, ...]
    expected: str
    splits: tuple[Split, ...]
    find: Callable[[Layout, Path, Split], list[FrameSequence]]

    def home(self, root: Path) -> Path:
        """``root``, or the folder of a usual name in it. Raises InputError where there is none."""
        if not root.is_dir():
            raise self.missing(root)
        return next((root / name for name in self.folders if (root / name).is_dir()), root)

    def missing(self, path: Path) -> InputError:
        """The error for a file or folder that should be there."""
        return self.error(f"{path} is missing")

    def error(self, what: str) -> InputError:
        """An error that ends with what the set looks like and where it can be had."""
        return InputError(f"{what}; {self.title} holds {self.expected}: {self.page}")


def sequences(layout: str, root: Path, split: Split) -> list[FrameSequence]:
    """The clips of a data set, every file of which exists, in the set's own order.

    ``root`` is the set's folder, or one that holds it under its usual name. Raises UsageError
    for an unknown layout or a split that the set does not have, and InputError that names the
    first file or folder that is missing, and where the set can be had.
    """
    known = layout_named(layout)
    if split not in known.splits:
        raise UsageError(f"{known.title} has no split '{split}'; it has {', '.join(known.splits)}")
    found = known.find(known, known.home(Path(root)), split)
    check_files(known, found)
    if not found:
        raise known.error(f"{root} holds no clips")
    return found


def layout_named(name: str) -> Layout:
    """The layout of that name. Raises UsageError that lists the known ones."""
    if name not in LAYOUTS:
        raise UsageError(f"'{name}' is not a data set; choose among {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def check_files(layout: Layout, found: Sequence[FrameSequence]) -> None:
    """Raise InputError for the first file that does not exist."""
    for sequence in found:
        for path in (*sequence.files, *([sequence.video] if sequence.video else ())):
            if not path.is_file():
                raise layout.missing(path)


# Finding


def read_list(layout: Layout, path: Path) -> list[str]:
    """The lines of a text file that are not empty, stripped."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, IsADirectoryError):
        raise layout.missing(path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    return [line.strip() for line in lines if line.strip()]


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, in natural order, hidden ones left out."""
    found = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(found, key=lambda path: natural_key(path.name))


def clips_below(top: Path, rate: Fraction | None) -> list[FrameSequence]:
    """Every folder of images and every video file under ``top``, in natural order of names."""

    def walk(folder: Path) -> Iterator[FrameSequence]:
        images = list_images(folder)
        if images:
            name = folder.relative_to(top).as_posix()
            yield FrameSequence(name if name != "." else top.name, files=images, rate=rate)
        for path in folder.iterdir():
            if path.name.startswith("."):
                continue
            if path.is_dir():
                yield from walk(path)
            elif path.suffix.lower() in VIDEOS:
                relative = path.relative_to(top).with_suffix("").as_posix()
                yield FrameSequence(relative, video=path, rate=rate)

    return sorted(walk(top), key=lambda clip: natural_key(clip.name))


def check_numbers(layout: Layout, found: Sequence[FrameSequence]) -> None:
    """Raise InputError where the numbers of a clip's images have a gap."""
    for sequence in found:
        gap = irregular_numbers(sequence.files)
        if gap is not None:
            raise layout.error(
                f"{gap[0].parent}: images are missing between {gap[0].name} and {gap[1].name}"
            )


def check_lengths(layout: Layout, found: Sequence[FrameSequence], length: int) -> None:
    """Raise InputError for a folder of fewer images than every clip of the set has."""
    for sequence in found:
        if sequence.files and len(sequence.files) < length:
            first = sequence.files[0]
            name = f"{length - 1:0{len(first.stem)}}{first.suffix}"
            raise layout.missing(first.with_name(name))


# The sets


def _vimeo(prefix: str, frames: int) -> Callable[..., list[FrameSequence]]:
    def find(layout: Layout, root: Path, split: Split) -> list[FrameSequence]:
        images = [f"im{number}.png" for number in range(1, frames + 1)]
        return [
            FrameSequence(name, tuple(root / "sequences" / name / image for image in images))
            for name in read_list(layout, root / f"{prefix}_{split}list.txt")
        ]

    return find


#: Rates that REDS_VTSR has folders for, and by how much the numbers of their frames differ.
REDS_STEPS = {60: 2, 30: 4, 15: 8}


def reds_folder(root: Path, split: Split, rate: int) -> Path | None:
    """The folder of one split at one rate, beside the others or in a folder of its split."""
    name = f"{split}_{rate}fps"
    folders = (root / name, root / split / name)
    return next((folder for folder in folders if folder.is_dir()), None)


def _reds(layout: Layout, root: Path, split: Split) -> list[FrameSequence]:
    """The clips at the highest rate that is there, each frame at its regular number."""
    for rate, step in REDS_STEPS.items():
        folder = reds_folder(root, split, rate)
        if folder is not None:
            found = [clip for clip in clips_below(folder, Fraction(rate)) if clip.files]
            for clip in found:
                last = int(clip.files[-1].stem) if clip.files[-1].stem.isdigit() else 0
                names = (f"{number:08}.png" for number in range(0, last + 1, step))
                regular = tuple(clip.files[0].with_name(name) for name in names)
                check_files(layout, [FrameSequence(clip.name, regular)])
            return found
    raise layout.missing(root / f"{split}_60fps")


#: The test clips of GOPRO_Large_all, for copies that keep all clips in one folder.
GOPRO_TEST = (
    "GOPR0384_11_00",
    "GOPR0384_11_05",
    "GOPR0385_11_01",
    "GOPR0396_11_00",
    "GOPR0410_11_00",
    "GOPR0854_11_00",
    "GOPR0862_11_00",
    "GOPR0868_11_00",
    "GOPR0869_11_00",
    "GOPR0871_11_00",
    "GOPR0881_11_01",
)


def _gopro(layout: Layout, root: Path, split: Split) -> list[FrameSequence]:
    if (root / split).is_dir():
        folders = subfolders(root / split)
    else:
        folders = [folder for folder in subfolders(root) if folder.match("GOPR[0-9]*")]
        if not folders:
            raise layout.missing(root / split)
        folders = [f for f in folders if (f.name in GOPRO_TEST) == (split == "test")]
    found = []
    for folder in folders:
        images = list_images(folder)
        if not images and (folder / "sharp").is_dir():
            raise layout.error(f"{folder} holds the averaged frames of GOPRO_Large")
        if not images:
            raise layout.missing(folder / "000001.png")
        found.append(FrameSequence(folder.name, images, rate=Fraction(240)))
    check_numbers(layout, found)
    return found


#: The eight test videos that Super SloMo's authors and those after them use.
ADOBE_TEST = (
    "720p_240fps_1.mov",
    "GOPR9635.mp4",
    "GOPR9637a.mp4",
    "IMG_0004a.mov",
    "IMG_0015.mov",
    "IMG_0023.mov",
    "IMG_0179.m4v",
    "IMG_0183.MOV",
)


def _adobe(layout: Layout, root: Path, split: Split) -> list[FrameSequence]:
    """Folders of extracted frames by split, or the videos, by lists that lie beside them or else
    by the usual eight test videos; everything else is for training."""
    rate = Fraction(240)
    names = ("validation", "val") if split == "val" else (split,)
    extracted = next((root / name for name in names if (root / name).is_dir()), None)
    if extracted is not None:
        found = [clip for clip in clips_below(extracted, rate) if clip.files]
        check_numbers(layout, found)
        return found
    videos = root / "original_high_fps_videos"
    videos = videos if videos.is_dir() else root
    index = root / f"{split}_list.txt"
    if index.is_file():
        wanted = read_list(layout, index)
    elif split == "test":
        wanted = list(ADOBE_TEST)
    elif split == "train":
        present = (path.name for path in videos.iterdir() if path.suffix.lower() in VIDEOS)
        wanted = sorted(set(present) - set(ADOBE_TEST), key=natural_key)
    else:
        raise layout.missing(index)
    return [FrameSequence(Path(name).stem, video=videos / name, rate=rate) for name in wanted]


X4K_LENGTH: dict[Split, int] = {"train": 65, "val": 33, "test": 33}


def _x4k(layout: Layout, root: Path, split: Split) -> list[FrameSequence]:
    folders = (root / split, root / f"encoded_{split}")
    top = next((folder for folder in folders if folder.is_dir()), None)
    if top is None:
        raise layout.missing(root / split)
    found = clips_below(top, Fraction(1000))
    check_numbers(layout, found)
    check_lengths(layout, found, X4K_LENGTH[split])
    return found


def _ucf101(layout: Layout, root: Path, split: Split) -> list[FrameSequence]:
    return [
        FrameSequence(
            folder.name,
            tuple(folder / name for name in ("frame_00.png", "frame_01_gt.png", "frame_02.png")),
        )
        for folder in subfolders(root)
    ]


MIDDLEBURY = (
    "Beanbags",
    "Dimetrodon",
    "DogDance",
    "Grove2",
    "Grove3",
    "Hydrangea",
    "MiniCooper",
    "RubberWhale",
    "Urban2",
    "Urban3",
    "Venus",
    "Walking",
)


def _middlebury(layout: Layout, root: Path, split: Split) -> list[FrameSequence]:
    return [
        FrameSequence(
            name,
            (
                root / "other-data" / name / "frame10.png",
                root / "other-gt-interp" / name / "frame10i11.png",
                root / "other-data" / name / "frame11.png",
            ),
        )
        for name in MIDDLEBURY
    ]


SNU_LEVELS = ("easy", "medium", "hard", "extreme")


def snu_film(layout: Layout, root: Path, level: str) -> list[FrameSequence]:
    """The triplets of one level's list. The lists name files from the authors' working folder
    (``data/SNU-FILM/test/…``), so what stands before ``test/`` is left out."""
    index = root / f"test-{level}.txt"
    if not index.is_file() and (root / "eval_modes" / index.name).is_file():
        index = root / "eval_modes" / index.name
    found = []
    for number, line in enumerate(read_list(layout, index), start=1):
        files = [entry.replace("\\", "/") for entry in line.split()]
        parts = [file.partition("test/")[2] for file in files]
        if len(files) != 3 or not all(parts):
            raise InputError(f"{index}: line {number} does not name three files below test/")
        paths = tuple(root / "test" / part for part in parts)
        middle = Path(parts[1]).with_suffix("").as_posix()
        found.append(FrameSequence(f"{number:03} {middle}", paths))
    return found


def _snu_film(layout: Layout, root: Path, split: Split) -> list[FrameSequence]:
    return [
        FrameSequence(f"{level}/{triplet.name}", triplet.files)
        for level in SNU_LEVELS
        for triplet in snu_film(layout, root, level)
    ]


#: The eleven clips of MEMC-Net's HD set: folder, name, width and height in pixels.
HD_CLIPS = (
    ("HD720p_GT", "parkrun_1280x720_50", 1280, 720),
    ("HD720p_GT", "shields_1280x720_60", 1280, 720),
    ("HD720p_GT", "stockholm_1280x720_60", 1280, 720),
    ("HD1080p_GT", "BlueSky", 1920, 1080),
    ("HD1080p_GT", "Kimono1_1920x1080_24", 1920, 1080),
    ("HD1080p_GT", "ParkScene_1920x1080_24", 1920, 1080),
    ("HD1080p_GT", "sunflower_1080p25", 1920, 1080),
    ("HD544p_GT", "Sintel_Alley2_1280x544", 1280, 544),
    ("HD544p_GT", "Sintel_Market5_1280x544", 1280, 544),
    ("HD544p_GT", "Sintel_Temple1_1280x544", 1280, 544),
    ("HD544p_GT", "Sintel_Temple2_1280x544", 1280, 544),
)


def _hd(layout: Layout, root: Path, split: Split) -> list[FrameSequence]:
    """The clips as raw I420 files (as published), or as .y4m of the same names."""
    found = []
    for folder, name, width, height in HD_CLIPS:
        raw = root / folder / f"{name}.yuv"
        y4m = raw.with_suffix(".y4m")
        video = y4m if y4m.is_file() else raw
        found.append(FrameSequence(f"{folder}/{name}", video=video, raw_size=(width, height)))
    return found


def atd(layout: Layout, root: Path, folder: str) -> list[FrameSequence]:
    """The triplets of one folder of ATD-12K; some copies hold JPEGs."""
    if not (root / folder).is_dir():
        raise layout.missing(root / folder)
    found = []
    for triplet in subfolders(root / folder):
        suffix = ".jpg" if (triplet / "frame1.jpg").is_file() else ".png"
        files = tuple(triplet / f"frame{number}{suffix}" for number in (1, 2, 3))
        found.append(FrameSequence(triplet.name, files))
    return found


def _atd(layout: Layout, root: Path, split: Split) -> list[FrameSequence]:
    if split == "train":
        return atd(layout, root, "train_10k")
    full = (root / "test_2k_original").is_dir()
    return atd(layout, root, "test_2k_original" if full else "test_2k_540p")


def davis_folder(layout: Layout, root: Path) -> Path:
    """The folder of the clips at 480p."""
    top = root / "JPEGImages" / "480p"
    if not top.is_dir():
        raise layout.missing(top)
    return top


def _davis(layout: Layout, root: Path, split: Split) -> list[FrameSequence]:
    top = davis_folder(layout, root)
    index = top.parent.parent / "ImageSets" / "2017" / f"{split}.txt"
    found = []
    for name in read_list(layout, index):
        if not (top / name).is_dir():
            raise layout.missing(top / name)
        found.append(FrameSequence(name, list_images(top / name)))
        if not found[-1].files:
            raise layout.missing(top / name / "00000.jpg")
    check_numbers(layout, found)
    return found


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout(
            "vimeo-triplet",
            "Vimeo90K (triplets)",
            "http://toflow.csail.mit.edu",
            ("vimeo_triplet",),
            "tri_trainlist.txt, tri_testlist.txt and sequences/00001/0001/im1.png to im3.png",
            ("train", "test"),
            _vimeo("tri", 3),
        ),
        Layout(
            "vimeo-septuplet",
            "Vimeo90K (septuplets)",
            "http://toflow.csail.mit.edu",
            ("vimeo_septuplet",),
            "sep_trainlist.txt, sep_testlist.txt and sequences/00001/0001/im1.png to im7.png",
            ("train", "test"),
            _vimeo("sep", 7),
        ),
        Layout(
            "reds-vtsr",
            "REDS_VTSR",
            "https://seungjunnah.github.io/Datasets/reds_vtsr",
            ("REDS_VTSR",),
            "train_60fps/000/00000000.png and the like, val_15fps, val_30fps, val_60fps",
            ("train", "val", "test"),
            _reds,
        ),
        Layout(
            "gopro",
            "GOPRO_Large_all (240 fps)",
            "https://seungjunnah.github.io/Datasets/gopro",
            ("GOPRO_Large_all", "GOPRO"),
            "train/GOPR0372_07_00/000001.png and the like, and test",
            ("train", "test"),
            _gopro,
        ),
        Layout(
            "adobe240",
            "Adobe240",
            "https://www.cs.ubc.ca/labs/imager/tr/2017/DeepVideoDeblurring",
            ("Adobe240",),
            "original_high_fps_videos/IMG_0001.mov and the like (or frames, extracted into "
            "train/NAME/ and test/NAME/)",
            ("train", "test", "val"),
            _adobe,
        ),
        Layout(
            "x4k1000fps",
            "X4K1000FPS",
            "https://github.com/JihyongOh/XVFI#x4k1000fps",
            ("X4K1000FPS",),
            "train/002/occ008.320/0000.png to 0064.png and test/Type1/TEST01/0000.png to 0032.png "
            "(or the encoded .mp4 files)",
            ("train", "val", "test"),
            _x4k,
        ),
        Layout(
            "ucf101",
            "UCF101 (379 triplets of Deep Voxel Flow)",
            "https://github.com/liuziwei7/voxel-flow",
            ("ucf101_interp_ours", "UCF101/ucf101_interp_ours", "UCF101", "ucf101"),
            "ucf101_interp_ours/1/frame_00.png, frame_01_gt.png and frame_02.png",
            ("test",),
            _ucf101,
        ),
        Layout(
            "middlebury",
            "Middlebury other",
            "https://vision.middlebury.edu/flow/data",
            ("Middlebury", "middlebury"),
            "other-data/Beanbags/frame10.png, frame11.png and other-gt-interp/Beanbags/"
            "frame10i11.png",
            ("test",),
            _middlebury,
        ),
        Layout(
            "snu-film",
            "SNU-FILM",
            "https://myungsub.github.io/CAIN",
            ("SNU-FILM", "snu_film"),
            "test-easy.txt to test-extreme.txt and test/GOPRO_test, test/YouTube_test",
            ("test",),
            _snu_film,
        ),
        Layout(
            "hd",
            "HD (MEMC-Net)",
            "https://github.com/baowenbo/MEMC-Net",
            ("HD_dataset",),
            "HD720p_GT/parkrun_1280x720_50.yuv (or .y4m) and the like, HD1080p_GT, HD544p_GT",
            ("test",),
            _hd,
        ),
        Layout(
            "atd-12k",
            "ATD-12K",
            "https://github.com/lisiyao21/AnimeInterp",
            ("ATD-12K", "atd_12k"),
            "train_10k, test_2k_540p and test_2k_original with NAME/frame1.png to frame3.png",
            ("train", "test"),
            _atd,
        ),
        Layout(
            "davis",
            "DAVIS 2017",
            "https://davischallenge.org",
            ("DAVIS",),
            "JPEGImages/480p/bear/00000.jpg and the like, ImageSets/2017/train.txt, val.txt",
            ("train", "val"),
            _davis,
        ),
    )
}
