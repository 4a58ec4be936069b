"""Picture files spoilt in seeded ways, and a process that opens them one by one.

    python tests/support/mutants.py SEED COUNT [FOLDER]

prints one JSON line with how many became what, and dies, telling which, where one takes too long.
"""

import faulthandler
import io
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

SECONDS = 5.0
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def encoded(picture, form, **options):
    """A picture as a file."""
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def seed_files():
    """Name to content, of small pictures in every format and in the forms that differ inside."""
    coarse = np.random.default_rng(3).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    rgb = Image.fromarray(coarse).resize((61, 47), Image.Resampling.BICUBIC)
    frames = {"save_all": True, "append_images": [rgb.rotate(90), rgb.rotate(180)]}
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a note " * 20
    palette, grey16 = rgb.quantize(16), Image.fromarray(np.asarray(rgb.convert("L"), np.uint16) * 3)
    return {
        "jpeg": encoded(rgb, "JPEG", exif=exif),
        "jpeg progressive": encoded(rgb, "JPEG", progressive=True),
        "jpeg cmyk": encoded(rgb.convert("CMYK"), "JPEG"),
        "mpo": encoded(rgb, "MPO", **frames),
        "png": encoded(rgb, "PNG", exif=exif),
        "png palette": encoded(palette, "PNG", transparency=3),
        "png 16": encoded(grey16, "PNG"),
        "apng": encoded(rgb.convert("RGBA"), "PNG", **frames),
        "gif": encoded(palette, "GIF", **frames),
        "webp": encoded(rgb, "WEBP"),
        "webp animated": encoded(rgb, "WEBP", lossless=True, **frames),
        "bmp": encoded(rgb, "BMP"),
        "bmp palette": encoded(palette, "BMP"),
        "tiff": encoded(rgb, "TIFF", exif=exif),
        "tiff lzw": encoded(rgb, "TIFF", compression="tiff_lzw"),
        "tiff jpeg": encoded(rgb, "TIFF", compression="jpeg"),
        "tiff fax": encoded(rgb.convert("1"), "TIFF", compression="group4"),
        "tiff float": encoded(rgb.convert("F"), "TIFF"),
        "avif": encoded(rgb, "AVIF"),
    }


def mutant(files, chance):
    """One of the files, spoilt in one to three ways."""
    data = chance.choice(files)
    for _ in range(chance.randint(1, 3)):
        data = chance.choice(WAYS)(data, files, chance)
    return data


def flipped(data, _files, chance):
    """Up to twenty bits the other way, often in the header."""
    spoilt = bytearray(data)
    reach = chance.choice((64, 1024, len(data)))
    for _ in range(chance.randint(1, 20)):
        spoilt[chance.randrange(min(reach, len(data)))] ^= 1 << chance.randrange(8)
    return bytes(spoilt)


def truncated(data, _files, chance):
    """The beginning only."""
    return data[: max(1, chance.randrange(len(data)))]


def spliced(data, files, chance):
    """The header of one and the rest of another."""
    other = chance.choice(files)
    at = chance.randrange(min(len(data), 700))
    return data[: at + 1] + other[at + 1 :]


def swapped(data, _files, chance):
    """Two blocks in each other's place."""
    a, b, c = sorted(chance.randrange(len(data) + 1) for _ in range(3))
    return (data[:a] + data[b:c] + data[a:b] + data[c:]) or data


def repeated(data, _files, chance):
    """A block many times."""
    start = chance.randrange(len(data))
    block = data[start : start + chance.randint(1, 400)]
    return data[:start] + block * chance.randint(2, 200) + data[start:]


def resized(data, _files, chance):
    """A number, a length or a count perhaps, made extreme."""
    width = chance.choice((1, 2, 4))
    number = (chance.choice(EXTREMES) & ((1 << 8 * width) - 1)).to_bytes(
        width, chance.choice(("big", "little"))
    )
    at = chance.randrange(min(len(data), chance.choice((64, 1024, len(data)))))
    return data[:at] + number + data[at + width :]


WAYS = (flipped, truncated, spliced, swapped, repeated, resized)


def main(seed, count, folder=None):
    """Open so many mutants; what each became is counted, and the slowest one's seconds."""
    from extract.pictures import PictureProblem, open_picture

    if folder:
        files = [path.read_bytes() for path in sorted(Path(folder).glob("*.jpg"))[::100]]
    else:
        files = list(seed_files().values())
    found, slowest = Counter(), 0.0
    for number in range(int(count)):
        data = mutant(files, random.Random(f"{seed}-{number}"))
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        start = time.perf_counter()
        side = (None, 16)[number % 2]
        try:
            picture = open_picture(data, side)
            found[f"{np.asarray(picture).dtype} {picture.mode}"] += 1
        except PictureProblem as problem:
            found[problem.kind] += 1
        except BaseException as error:
            error.add_note(f"mutant {seed}-{number}")
            raise
        slowest = max(slowest, time.perf_counter() - start)
        faulthandler.cancel_dump_traceback_later()
    sys.stdout.write(json.dumps({"found": found, "files": len(files), "slowest": slowest}))


if __name__ == "__main__":
    main(*sys.argv[1:])
