"""Published data sets, read from where the user keeps them, in the layouts they are published in.

:func:`sequences` gives their clips for training, :func:`~vfi_cli.datasets.benchmarks.items` what
the papers score models on, :class:`~vfi_cli.datasets.pictures.PictureReader` the pictures.
"""

from vfi_cli.datasets.clips import FrameSequence
from vfi_cli.datasets.layouts import LAYOUTS, Layout, sequences

__all__ = ["LAYOUTS", "FrameSequence", "Layout", "sequences"]
