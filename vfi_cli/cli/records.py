"""What ``--json`` prints of conversions: plans, results and errors. docs/json.md says it all.

Times are exact: fractions as text. The same key with ``_s`` behind it is that time as a number of
seconds, for programs that need no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vfi_cli import interrupts
from vfi_cli.cli import messages
from vfi_cli.errors import BatchError, VfiError

if TYPE_CHECKING:
    from vfi_cli.api import ConvertResult
    from vfi_cli.dry_run import DryRun
    from vfi_cli.estimate import About, Estimate
    from vfi_cli.io.decode import SourceInfo
    from vfi_cli.io.encode import EncoderConfig
    from vfi_cli.plan import Plan
    from vfi_cli.sequence import SequencePlan, SequenceResult
    from vfi_cli.survey import Survey

#: Counts up when a key changes its meaning or goes; new keys may come without.
VERSION = 1


def head(kind: str) -> dict[str, Any]:
    """What every record begins with."""
    return {"version": VERSION, "kind": kind}


def of_batch(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One object for several inputs."""
    failed = sum(record["kind"] == "error" for record in records)
    return {**head("batch"), "failed": failed, "items": list(records)}


def of_error(source: Path, error: VfiError) -> dict[str, Any]:
    """An input that could not be converted."""
    said = {"input": str(source), "error": str(error), "exit_code": error.exit_code}
    return {**head("error"), **said}


@contextmanager
def errors_told(source: Path, *, wanted: bool) -> Iterator[None]:
    """Print the error of a command's only input as a record, where that is ``wanted``."""
    try:
        yield
    except BatchError:  # its items are told already
        raise
    except VfiError as error:
        if wanted and not interrupts.met():
            messages.print_json(of_error(source, error))
        raise


def of_existing(plan: Plan, output: Path) -> dict[str, Any]:
    """An output of several that was there already, and is left as it is."""
    return {**head("existing"), "input": plan.info.path, "output": str(output)}


def of_result(result: ConvertResult) -> dict[str, Any]:
    """A finished conversion."""
    counts = result.counts
    return {
        **head("result"),
        **_plan(result.plan, result.output),
        **_time("duration", result.duration),
        "frames": counts.frames,
        "new_frames": counts.new,
        "copied_frames": counts.frames - counts.new,
        "cuts": counts.cuts,
        "repeats": counts.repeats,
        "bytes": result.size,
        "seconds": round(result.seconds, 3),
        "warnings": list(result.warnings),
    }


def of_dry_run(run: DryRun) -> dict[str, Any]:
    """A conversion told beforehand."""
    seen = run.survey
    counts = seen.counts if seen else None
    return {
        **head("plan"),
        **_plan(run.plan, run.output),
        "frames": counts.frames if counts else run.plan.frames,
        "new_frames": counts and counts.new,
        "copied_frames": counts and counts.frames - counts.new,
        "cuts": counts and counts.cuts,
        "repeats": counts and counts.repeats,
        "finished_frames": run.finished,
        "scan": seen and _survey(seen),
        "estimate": run.estimate and _estimate(run.estimate),
        "free_bytes": run.free,
        "warnings": list(run.warnings),
    }


def of_video_plan(plan: SequencePlan) -> dict[str, Any]:
    """A video from images, told beforehand."""
    return {**head("video_plan"), **_video(plan)}


def of_video_result(plan: SequencePlan, result: SequenceResult) -> dict[str, Any]:
    """A finished video from images."""
    made = {"bytes": result.size, "seconds": round(result.seconds, 3)}
    return {**head("video_result"), **_video(plan), **made}


def _video(plan: SequencePlan) -> dict[str, Any]:
    return {
        "input": str(plan.clip.folder),
        "output": str(plan.output),
        "width": plan.info.width,
        "height": plan.info.height,
        "fps": str(plan.fps),
        **_time("duration", plan.frames / plan.fps),
        "frames": plan.frames,
        "encoder": _encoder(plan.encoder),
        "notes": list(plan.notes),
    }


def _plan(plan: Plan, output: Path) -> dict[str, Any]:
    return {
        "input": plan.info.path,
        "output": str(output),
        "source": _source(plan.info),
        "fps": str(plan.grid.fps),
        "stretch": str(plan.grid.stretch),
        **_time("start", plan.grid.start),
        **_time("duration", plan.frames / plan.grid.fps),
        "segments": [segment.first for segment in plan.segments],
        "settings": asdict(plan.settings),
        "encoder": _encoder(plan.encoder),
        "streams": [
            {
                "index": item.index,
                "kind": item.kind,
                "codec": item.codec,
                "language": item.language,
                "title": item.title,
                "action": item.action,
                "target": item.target,
                "reason": item.reason,
            }
            for item in plan.streams.items
        ],
        "chapters": plan.streams.chapters,
        "notes": [*plan.encoder.notes, *plan.streams.lines()],
    }


def _encoder(encoder: EncoderConfig) -> dict[str, Any]:
    return {
        "name": encoder.encoder,
        "codec": encoder.codec,
        "pix_fmt": encoder.pix_fmt,
        "options": dict(encoder.options),
    }


def _source(info: SourceInfo) -> dict[str, Any]:
    return {
        "width": info.width,
        "height": info.height,
        "codec": info.codec,
        "pix_fmt": info.pix_fmt,
        "bits": info.layout.bits,
        "frames": len(info.pts),
        "fps": str(info.nominal_rate),
        "variable": info.variable,
        "time_base": str(info.time_base),
        **_time("start", info.start),
        **_time("duration", info.duration),
        "interlaced": info.interlaced,
        "hdr": info.hdr is not None,
        "rotation": info.rotation,
        "sample_aspect_ratio": str(info.sample_aspect_ratio),
    }


def _survey(seen: Survey) -> dict[str, Any]:
    broken = seen.broken
    return {
        "frames": seen.frames,
        "seconds": round(seen.seconds, 3),
        **_times("cut_times", seen.cuts),
        **_times("repeat_times", seen.repeats),
        "broken": broken and {**_time("time", broken.time), "reason": broken.reason},
    }


def _estimate(expected: Estimate) -> dict[str, Any]:
    costs = expected.costs
    return {
        "seconds": about(expected.seconds, 1),
        "output_bytes": about(expected.output),
        "disk_bytes": about(expected.work),
        "memory_bytes": expected.memory,
        "device_memory_bytes": expected.device_memory,
        "tile": expected.fit and expected.fit.tile,
        "at_once": expected.fit and expected.fit.batch,
        "sample": {
            "places": costs.places,
            "new_frames": costs.new_frames,
            "decode_s": round(costs.decode.wall, 6),
            "make_s": round(costs.make.wall, 6),
            "encode_s": round(costs.encode.wall, 6),
        },
    }


def about(amount: About, digits: int | None = None) -> dict[str, float]:
    """An estimate with its bounds."""
    return {name: round(value, digits) for name, value in asdict(amount).items()}


def _time(name: str, time: Fraction) -> dict[str, Any]:
    return {name: str(time), f"{name}_s": float(time)}


def _times(name: str, times: Iterable[Fraction]) -> dict[str, Any]:
    known = list(times)
    return {name: [str(time) for time in known], f"{name}_s": [float(time) for time in known]}
