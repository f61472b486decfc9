"""Published data sets, read from where the user keeps them, in the layouts they are published in.

:func:`sequences` gives their clips for training, :func:`items` what the papers score models on,
:class:`PictureReader` the pictures themselves.
"""

from vfi_cli.datasets.layouts import LAYOUTS, FrameSequence, Layout, sequences

__all__ = ["LAYOUTS", "FrameSequence", "Layout", "sequences"]
