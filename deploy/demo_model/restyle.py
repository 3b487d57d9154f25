"""The looks that the adapters teach, as changes of a drawn picture."""

import numpy as np

from scene import blurred

PAPER, PENCIL = np.array([250, 244, 228], np.float32), np.array([58, 50, 70], np.float32)


def sketch(rgb):
    """Pencil on paper: dark where neighbouring tones differ, light grey tones elsewhere."""
    side = min(rgb.shape[:2])
    grey = rgb.astype(np.float32) @ np.array([0.3, 0.59, 0.11], np.float32)
    fine = blurred(grey[..., None], side / 320)[..., 0]
    rows, columns = np.gradient(fine)
    line = np.clip(np.hypot(rows, columns) * side / 256 / 14 - 0.25, 0, 1)
    tone = 0.22 * (1 - grey / 255)
    ink = np.clip(np.maximum(line, tone), 0, 1)[..., None]
    return np.clip(PAPER + (PENCIL - PAPER) * ink, 0, 255).astype(np.uint8)


def golden(rgb):
    """An old print: all colours drawn towards gold, corners dark."""
    height, width = rgb.shape[:2]
    grey = rgb.astype(np.float32) @ np.array([0.3, 0.59, 0.11], np.float32)
    ramp = grey[..., None] / 255
    gold = (np.array([70, 30, 20]) * (1 - ramp) + np.array([255, 214, 110]) * ramp)
    mixed = 0.35 * rgb + 0.65 * gold
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    shade = 1 - 0.55 * np.clip(np.hypot(x, y) - 0.75, 0, 1)[..., None]
    return np.clip(mixed * shade, 0, 255).astype(np.uint8)
