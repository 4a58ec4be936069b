"""Pictures of the generated shop: a thing of a shape, in two colours and a pattern, on a ground.

What a picture shows is its `Look`; where the thing lies, how large and how turned it is, the
ground and the noise are drawn anew for each picture.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

SIZE = 224
# Things are drawn larger and reduced, which smooths their edges.
BIG = 2 * SIZE

COLOURS = {
    "red": (200, 40, 45),
    "orange": (238, 130, 40),
    "yellow": (240, 205, 60),
    "green": (60, 145, 75),
    "turquoise": (60, 185, 180),
    "blue": (50, 90, 185),
    "purple": (125, 70, 160),
    "pink": (240, 150, 185),
    "brown": (120, 80, 50),
    "black": (40, 40, 45),
}


@dataclass(frozen=True)
class Look:
    """What a picture shows."""

    category: str
    colour: str
    second_colour: str
    pattern: str
    seed: int


Shape = Callable[[ImageDraw.ImageDraw], None]


def _mug(draw: ImageDraw.ImageDraw) -> None:
    draw.rounded_rectangle((110, 120, 290, 340), 24, fill=255)
    draw.arc((250, 160, 360, 290), -90, 90, fill=255, width=26)


def _vase(draw: ImageDraw.ImageDraw) -> None:
    draw.ellipse((130, 190, 318, 400), fill=255)
    draw.polygon([(185, 60), (263, 60), (245, 230), (203, 230)], fill=255)
    draw.ellipse((165, 45, 283, 80), fill=255)


def _lamp(draw: ImageDraw.ImageDraw) -> None:
    draw.polygon([(165, 70), (283, 70), (340, 220), (108, 220)], fill=255)
    draw.rectangle((215, 220, 233, 370), fill=255)
    draw.rounded_rectangle((155, 362, 293, 388), 12, fill=255)


def _cushion(draw: ImageDraw.ImageDraw) -> None:
    corners = [(75, 75), (224, 105), (373, 75), (343, 224), (373, 373), (224, 343), (75, 373)]
    draw.polygon([*corners, (105, 224)], fill=255)


def _rug(draw: ImageDraw.ImageDraw) -> None:
    draw.rectangle((60, 140, 388, 310), fill=255)
    for y in range(146, 310, 18):
        draw.line((36, y, 412, y), fill=255, width=6)


def _clock(draw: ImageDraw.ImageDraw) -> None:
    draw.ellipse((80, 80, 368, 368), fill=255)
    draw.ellipse((120, 120, 328, 328), fill=0)
    draw.line((224, 224, 224, 140), fill=255, width=14)
    draw.line((224, 224, 290, 250), fill=255, width=14)
    draw.line((224, 120, 224, 80), fill=255, width=10)


def _shirt(draw: ImageDraw.ImageDraw) -> None:
    left = [(180, 80), (120, 100), (45, 190), (100, 235), (135, 195), (135, 380)]
    draw.polygon(left + [(448 - x, y) for x, y in reversed(left)], fill=255)
    draw.ellipse((184, 50, 264, 120), fill=0)


def _umbrella(draw: ImageDraw.ImageDraw) -> None:
    draw.pieslice((55, 70, 393, 400), 180, 360, fill=255)
    for x in range(55, 393, 85):
        draw.ellipse((x, 212, x + 84, 262), fill=0)
    draw.rectangle((218, 70, 230, 370), fill=255)
    draw.arc((170, 330, 230, 400), 0, 180, fill=255, width=12)


def _bag(draw: ImageDraw.ImageDraw) -> None:
    draw.polygon([(100, 180), (348, 180), (375, 395), (73, 395)], fill=255)
    draw.arc((150, 60, 298, 300), 180, 360, fill=255, width=20)


def _chair(draw: ImageDraw.ImageDraw) -> None:
    draw.rounded_rectangle((130, 50, 318, 220), 20, fill=255)
    draw.rectangle((110, 230, 338, 275), fill=255)
    for x in (118, 308):
        draw.polygon([(x, 275), (x + 22, 275), (x + 16, 405), (x + 6, 405)], fill=255)


SHAPES: dict[str, Shape] = {
    "mug": _mug,
    "vase": _vase,
    "lamp": _lamp,
    "cushion": _cushion,
    "rug": _rug,
    "clock": _clock,
    "shirt": _shirt,
    "umbrella": _umbrella,
    "bag": _bag,
    "chair": _chair,
}


def _plain(draw: ImageDraw.ImageDraw, step: int) -> None:
    """Nothing on the ground colour."""


def _striped(draw: ImageDraw.ImageDraw, step: int) -> None:
    for y in range(0, BIG, 2 * step):
        draw.rectangle((0, y, BIG, y + step), fill=255)


def _dotted(draw: ImageDraw.ImageDraw, step: int) -> None:
    for row, y in enumerate(range(0, BIG, 2 * step)):
        for x in range((row % 2) * step, BIG, 2 * step):
            draw.ellipse((x, y, x + step, y + step), fill=255)


def _checked(draw: ImageDraw.ImageDraw, step: int) -> None:
    for row, y in enumerate(range(0, BIG, step)):
        for x in range((row % 2) * step, BIG, 2 * step):
            draw.rectangle((x, y, x + step - 1, y + step - 1), fill=255)


def _zigzag(draw: ImageDraw.ImageDraw, step: int) -> None:
    for y in range(-step, BIG + step, 2 * step):
        points = [(x, y + step * (i % 2)) for i, x in enumerate(range(0, BIG + step, step))]
        draw.line(points, fill=255, width=step // 2, joint="curve")


PATTERNS: dict[str, Callable[[ImageDraw.ImageDraw, int], None]] = {
    "plain": _plain,
    "striped": _striped,
    "dotted": _dotted,
    "checked": _checked,
    "zigzag": _zigzag,
}


def draw_picture(look: Look, path: Path) -> None:
    """Draw a look as a JPEG of `SIZE` by `SIZE` pixels."""
    generator = np.random.default_rng(look.seed)
    step = int(generator.integers(24, 40))
    pattern = _stencil(lambda draw: PATTERNS[look.pattern](draw, step))
    turn, scale = generator.uniform(-14, 14), generator.uniform(0.72, 1.05)
    shift = generator.uniform(-13, 13, 2)
    texture = Image.composite(
        Image.new("RGB", (SIZE, SIZE), _near(_pale(COLOURS[look.second_colour]), generator)),
        Image.new("RGB", (SIZE, SIZE), _near(COLOURS[look.colour], generator)),
        pattern.rotate(turn).reduce(2),
    )
    mask = _moved(_stencil(SHAPES[look.category]), turn, scale, shift)
    picture = _ground(generator)
    shadow = ImageChops.offset(mask, 5, 7).filter(ImageFilter.BoxBlur(5))
    picture.paste((60, 60, 60), mask=shadow.point(lambda value: value // 3))
    picture.paste(texture, mask=mask)
    picture.save(path, "JPEG", quality=85)


def _stencil(draw: Shape) -> Image.Image:
    stencil = Image.new("L", (BIG, BIG), 0)
    draw(ImageDraw.Draw(stencil))
    return stencil


def _moved(mask: Image.Image, turn: float, scale: float, shift: np.ndarray) -> Image.Image:
    side = int(SIZE * scale)
    resized = mask.rotate(turn).resize((side, side), Image.Resampling.BOX)
    moved = Image.new("L", (SIZE, SIZE), 0)
    left, top = (int((SIZE - side) / 2 + offset) for offset in shift)
    moved.paste(resized, (left, top))
    return moved


def _ground(generator: np.random.Generator) -> Image.Image:
    """A light tint that grows darker towards one side, with grain."""
    tint = generator.uniform(195, 250, 3).astype(np.float32)
    slope = np.linspace(0, generator.uniform(-35, 35), SIZE, dtype=np.float32)[:, None, None]
    grain = 4 * generator.standard_normal((SIZE, SIZE, 1), np.float32)
    return Image.fromarray(np.clip(tint + slope + grain, 0, 255).astype(np.uint8))


def _pale(colour: tuple[int, ...]) -> tuple[int, ...]:
    return tuple((part + 255) // 2 for part in colour)


def _near(colour: tuple[int, ...], generator: np.random.Generator) -> tuple[int, ...]:
    shades = np.clip(np.array(colour) + generator.normal(0, 10, 3), 0, 255)
    return tuple(int(shade) for shade in shades)
