"""The errors that a person can act on, and the exit codes that go with them.

Everything that can go wrong because of an input, an option, the disk or a
checkpoint raises a subclass of :class:`VfiError` with one line that says what
is wrong with what, and what to do about it. Only the command line turns these
into messages and exit codes; anything else that escapes is a bug.
"""

from __future__ import annotations


class VfiError(Exception):
    """Base of all errors for people. ``exit_code`` is what the process returns."""

    exit_code = 1


class UsageError(VfiError):
    """An option or a combination of options that makes no sense."""

    exit_code = 2


class TruncatedInputError(VfiError):
    """The input was converted only as far as it could be decoded.

    ``result`` is what was made, as the call would have returned it; None where nothing is said.
    """

    exit_code = 3

    def __init__(self, text: str, result: object = None) -> None:
        super().__init__(text)
        self.result = result


class InputError(VfiError):
    """The input is missing, unreadable, empty, or holds no picture."""

    exit_code = 4


class OutputError(VfiError):
    """The output cannot be written, or does not agree with the plan."""

    exit_code = 5


class ModelError(VfiError):
    """A model is unknown, or its checkpoint cannot be used."""

    exit_code = 6


class DeviceError(VfiError):
    """The device is missing, or ran out of memory and could not be helped."""

    exit_code = 7


class OutOfMemoryError(DeviceError):
    """The device's memory is too small for what was asked; smaller tiles may do."""


class BatchError(VfiError):
    """Some inputs of a batch failed; the others were converted."""

    exit_code = 8


#: What ``vfi --help`` and the README say of exit codes.
EXIT_CODES: dict[int, str] = {
    0: "done, and the output was read back and checked",
    1: "below --min-psnr (compare), or an internal error (please report it)",
    UsageError.exit_code: "wrong options",
    TruncatedInputError.exit_code: "the input breaks off or is damaged; converted up to there",
    InputError.exit_code: "the input cannot be read",
    OutputError.exit_code: "the output cannot be written",
    ModelError.exit_code: "a model or its weights cannot be used",
    DeviceError.exit_code: "the device is missing or out of memory",
    BatchError.exit_code: "some files of a batch failed",
    130: "interrupted; the same command goes on from there",
    143: "ended by SIGTERM; the same command goes on from there",
}
