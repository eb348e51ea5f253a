"""Optical flow by OpenCV's DIS (Dense Inverse Search), for the `_dis` scorers.

Legend: T frames, H height, W width.
"""

from __future__ import annotations

import numpy as np

# Range of the shorter side. Below, DIS (patches of 8 pixels on a pyramid) misses small objects. At 720p it takes 0.5 s
# per pair.
SMALLEST, LARGEST = 128, 256


class DisFlow:
    """Flow in pixels of the frames returned by `prepare`. It is deterministic, because it uses one thread."""

    def __init__(self) -> None:
        import cv2

        # The order of sums within DIS depends on the number of threads.
        cv2.setNumThreads(1)
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    @staticmethod
    def prepare(frames_THWC: np.ndarray) -> np.ndarray:
        """Resize frames to a shorter side within 128..256: up by bilinear, down by area interpolation."""
        import cv2

        height, width = frames_THWC.shape[1:3]
        shorter = min(height, width)
        scale = min(max(shorter, SMALLEST), LARGEST) / shorter
        if scale == 1:
            return frames_THWC
        size = (round(width * scale), round(height * scale))
        method = cv2.INTER_LINEAR if scale > 1 else cv2.INTER_AREA
        return np.stack([cv2.resize(frame, size, interpolation=method) for frame in frames_THWC])

    @staticmethod
    def gray(frames_THWC: np.ndarray) -> np.ndarray:
        """Convert frames to luma [T, H, W], uint8."""
        import cv2

        return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames_THWC])

    def flow(self, source_HW: np.ndarray, target_HW: np.ndarray) -> np.ndarray:
        """Compute flow [H, W, (x, y)], float32: pixel p of the source is at p + flow in the target."""
        return np.asarray(self._dis.calc(source_HW, target_HW, None))


def look_up(image: np.ndarray, offset_HWC: np.ndarray) -> np.ndarray:
    """Sample the image at p + offset for every pixel p, float32, bilinear; edges repeat."""
    import cv2

    height, width = offset_HWC.shape[:2]
    x_HW, y_HW = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    x_HW, y_HW = x_HW + offset_HWC[..., 0], y_HW + offset_HWC[..., 1]
    moved = cv2.remap(image.astype(np.float32), x_HW, y_HW, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved)
