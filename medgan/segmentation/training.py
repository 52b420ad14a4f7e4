"""Where :func:`medgan.segmentation.segmenter.segmenter_task` was."""

from medgan.segmentation.segmenter import segmenter_task

__all__ = ["segmenter_task"]
