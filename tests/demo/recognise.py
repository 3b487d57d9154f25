"""Says what a picture of the demo model shows, by template matching alone: no network, nothing
learnt. The templates are the scene painter's own silhouettes in every colour and size; the picture
is searched for the one that fits best, at every place. The background is told by the colours of the
picture's rim, row by row.

    seen = Recogniser(scene_module).look(rgb)      # rgb: uint8 [height, width, 3]
    seen.subject, seen.colour, seen.background
"""

import dataclasses

import numpy as np
from PIL import Image, ImageFilter

SIDE = 64  # the short side everything is compared at
# Half sizes, in short sides: the painter's range.
HALVES = (0.155, 0.21, 0.27, 0.28, 0.29, 0.30, 0.31, 0.32, 0.33, 0.34)
RIM = 0.10  # width of the rim on either side that the background is told by


@dataclasses.dataclass(frozen=True)
class Seen:
    subject: str
    colour: str
    background: str
    error: float  # root mean square over the template, 0..255


def shrink(rgb, side=SIDE):
    """Box-filter to a short side of `side` (sides must be multiples of it); float [h, w, 3]."""
    factor = min(rgb.shape[:2]) // side
    height, width = rgb.shape[0] // factor, rgb.shape[1] // factor
    cut = rgb[: height * factor, : width * factor].astype(np.float32)
    return cut.reshape(height, factor, width, factor, 3).mean(axis=(1, 3))


class Recogniser:
    def __init__(self, scene):
        self.scene = scene
        self.templates = [self._template(subject, colour, half, mirrored)
                          for subject in scene.SUBJECTS for colour in scene.COLOURS
                          for half in HALVES
                          for mirrored in ((False, True) if subject == "fish" else (False,))]
        self.rims = {}
        self.spectra = {}

    # ---- Templates ------------------------------------------------------------------------------

    def _template(self, subject, colour, half, mirrored):
        """(subject, colour, mask [n, n], colours [n, n, 3]) of one silhouette with its outline."""
        scale, length = 2, int(np.ceil(2 * half * 1.12 * SIDE)) + 2
        canvas = scene_canvas(self.scene, length, scale)
        middle = length / 2 / SIDE
        self.scene.paint_subject(canvas, subject, self.scene.COLOURS[colour], middle, middle, half,
                                 mirrored)
        u = (canvas.x - middle) / half * (-1 if mirrored else 1)
        v = (canvas.y - middle) / half
        layers = self.scene.PAINTERS[subject](u, v, np.zeros(3, np.float32))
        inside = self.scene.union(*[d for d, _ in layers]) < self.scene.OUTLINE_WIDTH
        cover = shrink(np.repeat(inside[..., None], 3, axis=2), length)[..., 0]
        mask = (cover > 0.98).astype(np.float32)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        return subject, colour, mask[box], (shrink(canvas.rgb, length) * mask[..., None])[box]

    def _spectra_of(self, height, width):
        """The templates' transforms for one picture size, made once."""
        if (height, width) not in self.spectra:
            shape = (height, width)
            self.spectra[shape] = [
                (np.conj(np.fft.rfft2(mask, shape)),
                 np.conj(np.fft.rfft2(colours.transpose(2, 0, 1), shape)),
                 float((colours ** 2).sum()), float(mask.sum()), mask.shape)
                for _, _, mask, colours in self.templates]
        return self.spectra[height, width]

    def _rims_of(self, height, width):
        """Mean and spread of every background's rim rows, from forty paintings of it alone."""
        if (height, width) not in self.rims:
            found = {}
            for name, paint in self.scene.SCENERY.items():
                rows = []
                for seed in range(40):
                    canvas = self.scene.Canvas(height, width)
                    paint(canvas, np.random.default_rng(seed))
                    rows.append(rim(np.clip(canvas.rgb, 0, 255)))
                found[name] = np.mean(rows, axis=0)
            self.rims[height, width] = found
        return self.rims[height, width]

    # ---- Looking --------------------------------------------------------------------------------

    def look(self, rgb):
        """The template and place that explain most of what the background leaves unexplained."""
        small = shrink(rgb)
        height, width = small.shape[:2]
        here = rim(small)
        background = min(self._rims_of(height, width).items(),
                         key=lambda item: np.abs(item[1] - here).mean())[0]
        planes = np.fft.rfft2(small.transpose(2, 0, 1))
        squares = (small ** 2).sum(axis=2)
        unexplained = ((small - here[:, None]) ** 2).sum(axis=2)
        rest = np.fft.rfft2(squares - unexplained)
        best = None
        for template, (mask, colours, energy, area, (tall, wide)) in zip(
                self.templates, self._spectra_of(height, width)):
            spectrum = rest * mask - 2 * (planes * colours).sum(axis=0)
            score = np.fft.irfft2(spectrum, (height, width)) + energy
            score = score[: height - tall + 1, : width - wide + 1]
            if best is None or score.min() < best[0]:
                best = float(score.min()), template, np.unravel_index(score.argmin(), score.shape)
        _, (subject, colour, mask, colours), (top, left) = best
        part = small[top: top + mask.shape[0], left: left + mask.shape[1]]
        error = np.sqrt((((part - colours) ** 2) * mask[..., None]).sum() / (3 * mask.sum()))
        return Seen(subject, colour, background, float(error))


def scene_canvas(scene, length, scale):
    """A square canvas of `length` comparison pixels at `scale` times their resolution; its unit is
    the comparison picture's short side."""
    canvas = scene.Canvas(length * scale, length * scale)
    canvas.side = SIDE * scale
    canvas.x *= length / SIDE
    canvas.y *= length / SIDE
    return canvas


def rim(small):
    """[height, 3]: per row the median colour of the left and right rims, so that a moon, a cloud or
    a subject that reaches out on one side does not decide."""
    width = max(int(small.shape[1] * RIM), 2)
    sides = np.concatenate([small[:, :width], small[:, -width:]], axis=1)
    return np.median(sides, axis=1)


def sharpness(rgb):
    """Mean of the steepest hundredth of the steps between neighbouring pixels, in grey levels, after
    a median over 5x5: blur flattens the steps, and grain, which would pass for detail in a plain
    Laplacian, is gone before they are looked at."""
    calm = Image.fromarray(rgb).filter(ImageFilter.MedianFilter(5)).convert("L")
    grey = np.asarray(calm).astype(np.float32)
    steps = np.concatenate([np.abs(np.diff(grey, axis=a)).ravel() for a in (0, 1)])
    count = len(steps) // 100
    return float(np.partition(steps, -count)[-count:].mean())
