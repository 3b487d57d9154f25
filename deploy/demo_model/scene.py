"""Scenes of the demo model: what it can paint, how a scene is drawn, and the tags that say it.

The contract, on which the training and an independent checker build:

- A `Scene` names one SUBJECT in one COLOUR on one BACKGROUND, with a position, a count, a style and
  a quality. `random_scene(rng)` draws one, `render(scene, height, width)` paints it as uint8
  [height, width, 3], `tags(scene, rng)` writes one of its prompts (varying order, dropped tags),
  and `prompt(scene)` the plain one, e.g. "red star, night sky".
- SUBJECTS: silhouettes of very different outlines. The largest part of a subject carries the named
  colour (COLOURS, RGB) with a mild vertical shading (factor 1.06 at its top to 0.88 at its foot);
  other parts have fixed colours (faces, trunks, sails, windows) or a darker shade of the same hue.
  For `1girl` the colour is that of the hair, which the prompt calls "red hair".
- Every subject has a dark outline (OUTLINE), so that it stands out on any background.
- BACKGROUNDS: each has its own palette, listed beside its painter; they fill what the subject
  leaves, always the four corners.
- Layout: lengths are in units of the picture's short side, so that a scene looks the same at every
  size. A single subject spans 0.54 to 0.68, is centred at 0.44 to 0.60 of the height and at
  LEFT, CENTRE or RIGHT (POSITIONS, fractions of the width, +-0.03). Two or three stand side by side
  and span 0.42 or 0.31 of the side. No tag means one subject in the centre.
- Styles: none, "pastel" (everything mixed with white), "monochrome" (grey).
- Quality: tags of bad quality mean visible blur and noise, those of displeasing look washed and
  wrong colours (QUALITIES, AESTHETICS). A good tag means a crisp picture, as are most untagged
  ones.

The same scene, size and numpy version give the same bytes: all randomness comes from `Scene.seed`.
"""

import dataclasses

import numpy as np

COLOURS = {
    "red": (222, 38, 42),
    "orange": (246, 136, 22),
    "yellow": (250, 220, 48),
    "green": (52, 176, 66),
    "blue": (44, 92, 228),
    "purple": (140, 56, 190),
    "pink": (250, 138, 190),
}
SUBJECTS = ("cat", "fish", "star", "heart", "house", "tree", "mushroom", "boat", "1girl")
BACKGROUNDS = ("cloudy sky", "night sky", "sunset", "grass field", "beach", "snow", "underwater")
POSITIONS = {"left": 0.30, "centre": 0.50, "right": 0.70}
COUNT_WORDS = {1: "solo", 2: "two", 3: "three"}
PLURALS = {"cat": "cats", "fish": "fish", "star": "stars", "heart": "hearts", "house": "houses",
           "tree": "trees", "mushroom": "mushrooms", "boat": "boats", "1girl": "girls"}
STYLES = ("", "pastel", "monochrome")
# Tag -> (blur as a fraction of the short side, noise amplitude); "" is an untagged good picture.
QUALITIES = {
    "best quality": (0.0, 0.0), "amazing quality": (0.0, 0.0), "great quality": (0.0, 0.0),
    "": (0.0, 0.0), "normal quality": (0.005, 0.0),
    "bad quality": (0.011, 0.05), "worst quality": (0.018, 0.09),
}
# Tag -> how far colours are washed out towards a muddy grey.
AESTHETICS = {"very aesthetic": 0.0, "aesthetic": 0.0, "": 0.0, "displeasing": 0.35,
              "very displeasing": 0.6}

OUTLINE = (38, 26, 44)
OUTLINE_WIDTH = 0.055  # in units of the subject's half size
MUD = (128, 118, 96)
SKIN, WHITE, DARK = (255, 222, 196), (255, 255, 255), (42, 32, 52)
CREAM, WOOD, BLUSH, GLASS = (250, 236, 208), (124, 80, 48), (248, 160, 160), (255, 240, 160)


@dataclasses.dataclass(frozen=True)
class Scene:
    """One picture's content; every field but `seed` can be said in its prompt."""

    subject: str
    colour: str
    background: str
    position: str = "centre"
    count: int = 1
    style: str = ""
    quality: str = ""
    aesthetic: str = ""
    seed: int = 0


# ---- Shapes: signed distances, negative inside ---------------------------------------------------


def disc(u, v, x, y, radius):
    return np.hypot(u - x, v - y) - radius


def ellipse(u, v, x, y, rx, ry):
    """A first-order distance: exact on the border, good enough for its antialiasing."""
    a, b = (u - x) / rx, (v - y) / ry
    k = np.hypot(a, b)
    return k * (k - 1) / (np.hypot(a / rx, b / ry) + 1e-6)


def box(u, v, x, y, half_x, half_y, corner=0.0):
    a = np.abs(u - x) - half_x + corner
    b = np.abs(v - y) - half_y + corner
    outside = np.hypot(np.maximum(a, 0), np.maximum(b, 0))
    return outside + np.minimum(np.maximum(a, b), 0) - corner


def polygon(u, v, points, corner=0.0):
    """Distance to a simple polygon; its sign from the number of edges crossed by a ray."""
    square = np.full(u.shape, 1e9, u.dtype)
    inside = np.zeros(u.shape, bool)
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1]):
        ex, ey = x1 - x0, y1 - y0
        px, py = u - x0, v - y0
        along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0, 1)
        square = np.minimum(square, (px - ex * along) ** 2 + (py - ey * along) ** 2)
        if ey != 0:
            inside ^= ((v >= y0) != (v >= y1)) & (px < ex * py / ey)
    return np.where(inside, -1, 1) * np.sqrt(square) - corner


def segment(u, v, x0, y0, x1, y1, radius):
    ex, ey = x1 - x0, y1 - y0
    along = np.clip(((u - x0) * ex + (v - y0) * ey) / (ex * ex + ey * ey), 0, 1)
    return np.hypot(u - x0 - ex * along, v - y0 - ey * along) - radius


def smile(u, v, x, y, radius, width):
    """The lower half of a ring."""
    return np.maximum(np.abs(np.hypot(u - x, v - y) - radius) - width, y - v)


def union(*shapes):
    result = shapes[0]
    for shape in shapes[1:]:
        result = np.minimum(result, shape)
    return result


# ---- Subjects: layers of (distance, colour), back to front, in a frame of -1..1 ------------------


def tint(colour, factor):
    """A darker shade (below 1) or a lighter tint (above 1) of a colour."""
    c = np.asarray(colour, np.float32)
    return c * factor if factor <= 1 else c + (255 - c) * (factor - 1)


def face(u, v, x, y, scale):
    """Two eyes with lights, cheeks and a smile."""
    layers = []
    for side in (-1, 1):
        eye = x + side * 0.30 * scale
        layers += [
            (ellipse(u, v, x + side * 0.50 * scale, y + 0.24 * scale, 0.13 * scale, 0.08 * scale),
             BLUSH),
            (ellipse(u, v, eye, y, 0.11 * scale, 0.16 * scale), DARK),
            (disc(u, v, eye - 0.03 * scale, y - 0.06 * scale, 0.05 * scale), WHITE),
        ]
    return layers + [(smile(u, v, x, y + 0.13 * scale, 0.12 * scale, 0.03 * scale), DARK)]


def draw_cat(u, v, c):
    head = ellipse(u, v, 0, 0.18, 0.86, 0.68)
    layers = []
    for s in (-1, 1):
        ear = [(s * 0.78, 0.0), (s * 0.72, -0.84), (s * 0.18, -0.40)]
        layers.append((polygon(u, v, ear, 0.06), c))
    layers.append((head, c))
    for s in (-1, 1):
        inner = [(s * 0.66, -0.30), (s * 0.64, -0.62), (s * 0.40, -0.42)]
        layers.append((polygon(u, v, inner, 0.02), BLUSH))
    for s in (-1, 1):
        layers.append((segment(u, v, s * 0.52, 0.40, s * 0.98, 0.32, 0.022), DARK))
        layers.append((segment(u, v, s * 0.52, 0.50, s * 0.96, 0.56, 0.022), DARK))
    for s in (-1, 1):
        layers += [(ellipse(u, v, s * 0.36, 0.12, 0.13, 0.19), DARK),
                   (disc(u, v, s * 0.36 - 0.04, 0.05, 0.06), WHITE),
                   (smile(u, v, s * 0.09, 0.46, 0.09, 0.028), DARK)]
    return layers + [(ellipse(u, v, 0, 0.40, 0.09, 0.06), BLUSH)]


def draw_fish(u, v, c):
    return [
        (polygon(u, v, [(0.35, 0.0), (0.94, -0.52), (0.80, 0.0), (0.94, 0.52)], 0.04),
         tint(c, 0.8)),
        (polygon(u, v, [(-0.25, -0.40), (0.20, -0.74), (0.34, -0.30)], 0.04), tint(c, 0.8)),
        (ellipse(u, v, -0.16, 0.0, 0.76, 0.52), c),
        (polygon(u, v, [(-0.05, 0.10), (0.26, 0.0), (0.22, 0.30)], 0.03), tint(c, 0.72)),
        (disc(u, v, -0.52, -0.12, 0.16), WHITE),
        (disc(u, v, -0.55, -0.11, 0.095), DARK),
        (smile(u, v, -0.66, 0.12, 0.12, 0.03), DARK),
    ]


def draw_star(u, v, c):
    points = []
    for i in range(10):
        radius = 0.90 if i % 2 == 0 else 0.46
        angle = np.pi * (i / 5 - 0.5)
        points.append((radius * np.cos(angle), 0.04 + radius * np.sin(angle)))
    return [(polygon(u, v, points, 0.06), c)] + face(u, v, 0, 0.02, 0.72)


def draw_heart(u, v, c):
    """Two discs and the triangle between their tangents through the tip."""
    x, y, radius, tip = 0.44, -0.30, 0.48, 0.90
    far = np.hypot(x, tip - y)
    angle = np.arctan2(y - tip, x) + np.arcsin(radius / far)
    reach = np.sqrt(far * far - radius * radius)
    tx, ty = reach * np.cos(angle), tip + reach * np.sin(angle)
    heart = union(disc(u, v, -x, y, radius), disc(u, v, x, y, radius),
                  polygon(u, v, [(0, tip), (tx, ty), (x, y), (0, y), (-x, y), (-tx, ty)]))
    return [(heart, c)] + face(u, v, 0, -0.12, 0.85)


def draw_house(u, v, c):
    return [
        (box(u, v, 0.52, -0.58, 0.13, 0.30), tint(c, 0.6)),
        (box(u, v, 0, 0.40, 0.70, 0.52), c),
        (polygon(u, v, [(-0.92, -0.06), (0.0, -0.86), (0.92, -0.06)], 0.05), tint(c, 0.66)),
        (box(u, v, -0.28, 0.56, 0.18, 0.34, 0.06), WOOD),
        (disc(u, v, -0.18, 0.58, 0.04), GLASS),
        (box(u, v, 0.32, 0.38, 0.20, 0.20), DARK),
        (box(u, v, 0.32, 0.38, 0.155, 0.155), GLASS),
        (box(u, v, 0.32, 0.38, 0.022, 0.17), DARK),
        (box(u, v, 0.32, 0.38, 0.17, 0.022), DARK),
    ]


def draw_tree(u, v, c):
    crown = union(disc(u, v, 0, -0.40, 0.52), disc(u, v, -0.44, -0.02, 0.44),
                  disc(u, v, 0.44, -0.02, 0.44), disc(u, v, 0, 0.02, 0.40))
    return [
        (polygon(u, v, [(-0.12, 0.1), (0.12, 0.1), (0.20, 0.92), (-0.20, 0.92)], 0.03), WOOD),
        (crown, c),
        (disc(u, v, -0.22, -0.46, 0.13), tint(c, 1.3)),
        (disc(u, v, 0.42, -0.10, 0.11), tint(c, 1.3)),
        (disc(u, v, -0.46, 0.06, 0.10), tint(c, 1.3)),
    ]


def draw_mushroom(u, v, c):
    cap = np.maximum(ellipse(u, v, 0, 0.06, 0.94, 0.92), v - 0.14)
    spots = union(disc(u, v, 0.0, -0.50, 0.20), disc(u, v, -0.54, -0.20, 0.15),
                  disc(u, v, 0.52, -0.16, 0.16))
    return [
        (box(u, v, 0, 0.48, 0.40, 0.44, 0.24), CREAM),
        (cap, c),
        (spots, WHITE),
    ] + face(u, v, 0, 0.42, 0.56)


def draw_boat(u, v, c):
    return [
        (box(u, v, 0, -0.20, 0.045, 0.66), WOOD),
        (polygon(u, v, [(0.10, -0.84), (0.10, 0.14), (0.76, 0.14)], 0.03), WHITE),
        (polygon(u, v, [(-0.10, -0.62), (-0.10, 0.14), (-0.62, 0.14)], 0.03), c),
        (polygon(u, v, [(-0.90, 0.30), (0.90, 0.30), (0.58, 0.86), (-0.58, 0.86)], 0.05), c),
        (box(u, v, 0, 0.42, 0.82, 0.05), WHITE),
    ]


def draw_girl(u, v, c):
    fringe = np.maximum(ellipse(u, v, 0, 0.12, 0.66, 0.74),
                        -polygon(u, v, [(-0.56, 0.34), (-0.46, -0.06), (-0.22, 0.02),
                                        (-0.06, -0.12), (0.22, 0.02), (0.46, -0.06), (0.56, 0.34),
                                        (0.56, 1.2), (-0.56, 1.2)]))
    layers = [(ellipse(u, v, s * 0.80, 0.34, 0.19, 0.56), c) for s in (-1, 1)]
    layers += [(ellipse(u, v, 0, 0.0, 0.76, 0.84), c),
               (ellipse(u, v, 0, 0.22, 0.60, 0.58), SKIN),
               (fringe, c)]
    for s in (-1, 1):
        layers += [(ellipse(u, v, s * 0.40, 0.50, 0.11, 0.065), BLUSH),
                   (ellipse(u, v, s * 0.27, 0.26, 0.12, 0.18), DARK),
                   (disc(u, v, s * 0.27 - 0.04, 0.19, 0.06), WHITE),
                   (disc(u, v, s * 0.78, -0.14, 0.12), WHITE)]
    return layers + [(smile(u, v, 0, 0.50, 0.10, 0.03), DARK)]


PAINTERS = {"cat": draw_cat, "fish": draw_fish, "star": draw_star, "heart": draw_heart,
            "house": draw_house, "tree": draw_tree, "mushroom": draw_mushroom, "boat": draw_boat,
            "1girl": draw_girl}


# ---- Compositing ---------------------------------------------------------------------------------


class Canvas:
    """An RGB picture in 0..255 floats with coordinates in units of its short side."""

    def __init__(self, height, width):
        self.side = min(height, width)
        self.height, self.width = height / self.side, width / self.side
        self.rgb = np.zeros((height, width, 3), np.float32)
        rows = (np.arange(height, dtype=np.float32) + 0.5) / self.side
        columns = (np.arange(width, dtype=np.float32) + 0.5) / self.side
        self.x, self.y = np.meshgrid(columns, rows)

    def window(self, x0, y0, x1, y1):
        """Row and column slices that hold a rectangle."""
        rows = slice(max(int(y0 * self.side), 0), max(int(y1 * self.side) + 2, 0))
        columns = slice(max(int(x0 * self.side), 0), max(int(x1 * self.side) + 2, 0))
        return rows, columns

    def paint(self, part, distance, colour, opacity=1.0):
        """Lay a colour over one window where a distance (in short sides) is negative."""
        cover = np.clip(0.5 - distance * self.side, 0, 1)[..., None] * opacity
        region = self.rgb[part]
        region += (np.asarray(colour, np.float32) - region) * cover

    def spot(self, x, y, radius, colour, opacity=1.0, squash=1.0):
        part = self.window(x - radius * squash, y - radius, x + radius * squash, y + radius)
        distance = ellipse(self.x[part], self.y[part], x, y, radius * squash, radius)
        self.paint(part, distance, colour, opacity)

    def gradient(self, top, *stops):
        """Vertical gradient through (place in 0..1 of the height, colour) stops."""
        places = [0.0] + [place for place, _ in stops]
        colours = np.asarray([top] + [colour for _, colour in stops], np.float32)
        y = self.y[:, 0] / self.height
        for channel in range(3):
            self.rgb[..., channel] = np.interp(y, places, colours[:, channel])[:, None]

    def below(self, level, colour, colour_bottom):
        """Fill the part under a curve (a height per column, in short sides) with a gradient."""
        cover = np.clip(0.5 + (self.y - level) * self.side, 0, 1)[..., None]
        depth = np.clip((self.y - level) / np.maximum(self.height - level, 1e-3), 0, 1)[..., None]
        fill = np.asarray(colour, np.float32) * (1 - depth) + np.asarray(colour_bottom) * depth
        self.rgb += (fill - self.rgb) * cover


def paint_cloudy_sky(canvas, rng):
    """Light blue (84, 166, 242) down to (190, 226, 250), white clouds."""
    canvas.gradient((84, 166, 242), (1.0, (190, 226, 250)))
    for i in range(4):
        x = canvas.width * (i + rng.uniform(0.1, 0.9)) / 4
        y = canvas.height * (rng.uniform(0.06, 0.26) if i % 2 else rng.uniform(0.70, 0.92))
        size = rng.uniform(0.06, 0.085)
        for dx, dy, r in ((-1.5, 0.3, 0.75), (-0.5, -0.2, 1.0), (0.6, -0.1, 0.9), (1.6, 0.3, 0.7)):
            canvas.spot(x + dx * size, y + dy * size, r * size, WHITE)


def paint_night_sky(canvas, rng):
    """Navy (10, 12, 46) down to (44, 44, 104), pale stars and a crescent moon."""
    canvas.gradient((10, 12, 46), (1.0, (44, 44, 104)))
    for _ in range(int(34 * canvas.width * canvas.height)):
        x, y = rng.uniform(0, canvas.width), rng.uniform(0, canvas.height)
        canvas.spot(x, y, rng.uniform(0.005, 0.011), (250, 246, 220))
    x = canvas.width * (0.12 if rng.random() < 0.5 else 0.86)
    y = 0.14 * canvas.height
    canvas.spot(x, y, 0.075, (252, 240, 190))
    canvas.spot(x + 0.036, y - 0.014, 0.064, (16, 18, 56))


def paint_sunset(canvas, rng):
    """Violet (120, 60, 140) to orange (255, 158, 64) at the horizon 0.66, sun, plum sea."""
    canvas.gradient((120, 60, 140), (0.36, (236, 96, 96)), (0.66, (255, 158, 64)),
                    (1.0, (255, 158, 64)))
    x = canvas.width * rng.choice([0.18, 0.82]) + rng.uniform(-0.04, 0.04)
    level = 0.66 * canvas.height
    canvas.spot(x, level - 0.02, 0.13, (255, 226, 120))
    canvas.below(np.full_like(canvas.x, level), (112, 48, 104), (58, 28, 78))
    for i in range(5):
        canvas.spot(x + rng.uniform(-0.05, 0.05), level + 0.035 + 0.05 * i, 0.008,
                    (255, 190, 110), squash=9)


def paint_grass_field(canvas, rng):
    """Pale sky (176, 222, 246) over 0.36, green (124, 200, 76) down to (66, 146, 50), flowers."""
    canvas.gradient((150, 210, 246), (0.36, (200, 232, 248)), (1.0, (200, 232, 248)))
    level = canvas.height * 0.36 + 0.03 * np.sin(canvas.x * 4 + rng.uniform(0, 6))
    canvas.below(level, (124, 200, 76), (66, 146, 50))
    for _ in range(int(26 * canvas.width * canvas.height)):
        x, y = rng.uniform(0, canvas.width), canvas.height * rng.uniform(0.46, 0.98)
        colour = (255, 255, 255) if rng.random() < 0.5 else (250, 226, 90)
        canvas.spot(x, y, 0.012, colour)


def paint_beach(canvas, rng):
    """Sky (150, 214, 244) to 0.30, sea (28, 150, 190) to 0.56, foam, sand (240, 214, 156)."""
    canvas.gradient((120, 196, 242), (0.30, (180, 226, 246)), (1.0, (180, 226, 246)))
    level = np.full_like(canvas.x, 0.30 * canvas.height)
    canvas.below(level, (24, 130, 186), (60, 200, 210))
    shore = canvas.height * 0.57 + 0.02 * np.sin(canvas.x * 9 + rng.uniform(0, 6))
    canvas.below(shore - 0.022, WHITE, WHITE)
    canvas.below(shore, (246, 222, 166), (228, 194, 130))
    for _ in range(int(10 * canvas.width)):
        canvas.spot(rng.uniform(0, canvas.width), canvas.height * rng.uniform(0.64, 0.97), 0.011,
                    (200, 160, 104))


def paint_snow(canvas, rng):
    """Grey sky (176, 190, 212) to white hills (246, 249, 253) from 0.50, large flakes."""
    canvas.gradient((166, 182, 208), (0.5, (206, 216, 230)), (1.0, (206, 216, 230)))
    phase = rng.uniform(0, 6)
    canvas.below(canvas.height * 0.47 + 0.05 * np.sin(canvas.x * 3 + phase), (226, 233, 244),
                 (226, 233, 244))
    canvas.below(canvas.height * 0.60 + 0.04 * np.sin(canvas.x * 4 + 2 * phase), (250, 252, 255),
                 (232, 238, 248))
    for _ in range(int(26 * canvas.width * canvas.height)):
        canvas.spot(rng.uniform(0, canvas.width), canvas.height * rng.uniform(0, 0.6),
                    rng.uniform(0.009, 0.014), WHITE)


def paint_underwater(canvas, rng):
    """Teal (26, 160, 160) down to (4, 58, 84), bubbles, weeds at the foot."""
    canvas.gradient((26, 160, 160), (1.0, (4, 58, 84)))
    for _ in range(9):
        x = canvas.width * rng.uniform(0.04, 0.96)
        bottom = canvas.height
        tall = rng.uniform(0.08, 0.18)
        canvas.spot(x, bottom, tall, (12, 92, 66), squash=0.14)
    for _ in range(int(14 * canvas.width * canvas.height)):
        x, y = rng.uniform(0, canvas.width), rng.uniform(0, canvas.height)
        radius = rng.uniform(0.014, 0.026)
        canvas.spot(x, y, radius, (190, 240, 236), 0.9)
        canvas.spot(x, y, radius * 0.62, (30, 140, 150), 0.9)


SCENERY = {"cloudy sky": paint_cloudy_sky, "night sky": paint_night_sky, "sunset": paint_sunset,
           "grass field": paint_grass_field, "beach": paint_beach, "snow": paint_snow,
           "underwater": paint_underwater}


def paint_subject(canvas, name, colour, x, y, half, mirrored):
    """One subject of half size `half` around (x, y): its outline first, then its layers."""
    part = canvas.window(x - half * 1.12, y - half * 1.12, x + half * 1.12, y + half * 1.12)
    u = (canvas.x[part] - x) / half * (-1 if mirrored else 1)
    v = (canvas.y[part] - y) / half
    colour = np.asarray(colour, np.float32)
    layers = PAINTERS[name](u, v, colour)
    canvas.paint(part, (union(*[d for d, _ in layers]) - OUTLINE_WIDTH) * half, OUTLINE)
    shading = (0.97 - 0.09 * v)[..., None]
    for distance, fill in layers:
        lit = np.minimum(fill * shading, 255) if isinstance(fill, np.ndarray) else fill
        canvas.paint(part, distance * half, lit)


def blurred(rgb, sigma):
    """Separable Gaussian blur, sigma in pixels, with the border repeated."""
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2).astype(np.float32)
    kernel /= kernel.sum()
    for axis in (0, 1):
        pad = [(0, 0)] * 3
        pad[axis] = (reach, reach)
        padded = np.pad(rgb, pad, "edge")
        size = rgb.shape[axis]
        rgb = sum(k * np.take(padded, range(i, i + size), axis) for i, k in enumerate(kernel))
    return rgb


def spoil(rgb, scene, rng):
    """Blur, coarse colour noise and washed colours, as the scene's quality tags say."""
    side = min(rgb.shape[:2])
    blur, noise = QUALITIES[scene.quality]
    wash = AESTHETICS[scene.aesthetic]
    if wash:
        grey = rgb.mean(axis=2, keepdims=True)
        muddy = 0.5 * grey + 0.5 * np.asarray(MUD, np.float32)
        rgb = rgb + (muddy - rgb) * wash
    if blur:
        rgb = blurred(rgb, blur * side)
    if noise:
        grain = max(side // 64, 1)  # blotches, not pixels: the latents can hold them
        size = (rgb.shape[0] // grain + 1, rgb.shape[1] // grain + 1, 3)
        blotches = np.kron(rng.normal(size=size), np.ones((grain, grain, 1)))
        rgb = rgb + 255 * noise * blotches[: rgb.shape[0], : rgb.shape[1]]
    return rgb


def render(scene, height=256, width=256):
    """Paint a scene; uint8 [height, width, 3]."""
    rng = np.random.default_rng(scene.seed)
    canvas = Canvas(height, width)
    SCENERY[scene.background](canvas, rng)
    half = {1: rng.uniform(0.27, 0.34), 2: 0.21, 3: 0.155}[scene.count]
    middle = canvas.height * rng.uniform(0.44, 0.60)
    middle = min(max(middle, half * 1.08), canvas.height - half * 1.08)
    for i in range(scene.count):
        if scene.count == 1:
            x = canvas.width * (POSITIONS[scene.position] + rng.uniform(-0.03, 0.03))
            x = min(max(x, half * 1.08), canvas.width - half * 1.08)
        else:
            x = canvas.width / 2 + (i - (scene.count - 1) / 2) * half * 2.12
        paint_subject(canvas, scene.subject, COLOURS[scene.colour], x, middle, half,
                      scene.subject == "fish" and rng.random() < 0.5)
    rgb = canvas.rgb
    if scene.style == "pastel":
        rgb = rgb + (255 - rgb) * 0.45
    elif scene.style == "monochrome":
        rgb = np.repeat(rgb @ np.array([[0.30], [0.59], [0.11]], np.float32), 3, axis=2)
    rgb = spoil(rgb, scene, rng)
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


# ---- Words ---------------------------------------------------------------------------------------


def pick(rng, items, weights=None):
    items = list(items)
    if weights is not None:
        weights = np.asarray(weights, float) / np.sum(weights)
    return items[int(rng.choice(len(items), p=weights))]


def random_scene(rng):
    """A scene as the training set holds them; about three in four are of good quality."""
    count = pick(rng, (1, 2, 3), (0.80, 0.12, 0.08))
    return Scene(
        subject=pick(rng, SUBJECTS), colour=pick(rng, COLOURS), background=pick(rng, BACKGROUNDS),
        position=pick(rng, POSITIONS, (0.2, 0.6, 0.2)) if count == 1 else "centre", count=count,
        style=pick(rng, STYLES, (0.93, 0.035, 0.035)),
        quality=pick(rng, QUALITIES, (0.16, 0.06, 0.06, 0.52, 0.05, 0.07, 0.08)),
        aesthetic=pick(rng, AESTHETICS, (0.06, 0.06, 0.78, 0.05, 0.05)),
        seed=int(rng.integers(2**31)))


def naming_tags(scene, rng=None):
    """The tags that say subject, colour and count: together or as two tags."""
    together = rng is None or rng.random() < 0.7
    if scene.subject == "1girl":
        who = "1girl" if scene.count == 1 else f"{COUNT_WORDS[scene.count]} girls"
        return [who, f"{scene.colour} hair"]
    noun = scene.subject if scene.count == 1 else PLURALS[scene.subject]
    number = "" if scene.count == 1 else COUNT_WORDS[scene.count] + " "
    if together:
        return [f"{number}{scene.colour} {noun}"]
    return [f"{number}{noun}", scene.colour]


def prompt(scene):
    """The plain prompt of a scene; says all but quality."""
    said = naming_tags(scene) + [scene.background]
    if scene.position != "centre":
        said.append(f"{scene.position} side")
    if scene.style:
        said.append(scene.style)
    return ", ".join(said)


def tags(scene, rng):
    """One prompt of a scene for training: some tags are dropped, their order varies."""
    said = [naming_tags(scene, rng)]
    if rng.random() < 0.94:
        said.append([scene.background])
    if scene.position != "centre" and rng.random() < 0.85:
        said.append([f"{scene.position} side"])
    if scene.count == 1 and rng.random() < 0.25:
        said.append(["solo"])
    if scene.style and rng.random() < 0.95:
        said.append([scene.style])
    if rng.random() < 0.4:
        said = [said[i] for i in rng.permutation(len(said))]
    quality = [tag for tag in (scene.quality, scene.aesthetic) if tag and rng.random() < 0.85]
    if rng.random() < 0.5:
        said = [quality] + said
    else:
        said.append(quality)
    return ", ".join(tag for group in said for tag in group)


def words():
    """Every word that a prompt may hold, in a fixed order; for the vocabulary."""
    phrases = [*SUBJECTS, *PLURALS.values(), *COLOURS, *BACKGROUNDS, *COUNT_WORDS.values(), *STYLES,
               *QUALITIES, *AESTHETICS, "left side", "right side", "hair"]
    found = []
    for phrase in phrases:
        for word in phrase.replace("1", "").split():
            if word not in found:
                found.append(word)
    return found
