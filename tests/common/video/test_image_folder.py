"""Folders of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageFile

from common.errors import FrameUnreadable, VideoUnreadable
from common.video import image_folder
from common.video.reader import open_source
from tests.common.video.clips import number, picture


def save(folder: Path, name: str, n: int, mode: str = "RGB", size: tuple[int, int] = (96, 64), **options: object) -> Path:  # fmt: skip
    folder.mkdir(exist_ok=True)
    Pillow.fromarray(picture(n, *size)).convert(mode, dither=Pillow.Dither.NONE).save(folder / name, **options)
    return folder / name


@pytest.mark.parametrize(
    "names",
    [
        ["1.png", "2.png", "10.png", "100.png"],
        ["000001.jpg", "000002.JPG", "000005.Jpeg"],
        ["cam2_9.bmp", "cam2_10.bmp", "cam10_1.bmp"],
        ["a.png", "a (2).png", "a (10).png", "b1.png"],
        ["x.tif", "y.webp", "z.ppm"],
    ],
)
def test_natural_order_and_kinds(tmp_path: Path, names: list[str]) -> None:
    for n, name in reversed(list(enumerate(names))):
        save(tmp_path / "f", name, n)
    for other in ("notes.txt", "._1.png", ".hidden.jpg", "labels.json", "Thumbs.db"):
        (tmp_path / "f" / other).write_text("x")
    (tmp_path / "f" / "masks.png").mkdir()
    source = open_source(tmp_path / "f")
    expected = sorted(range(len(names)), key=lambda n: n)
    if names[0] == "a.png":  # a blank before the bracket sorts before the dot
        expected = [1, 2, 0, 3]
    count = source.info.frames
    assert [number(i) for i in source.stream(0, count)] == expected
    assert [number(i) for i in source.stream(count - 1, -1)] == expected[::-1]
    assert (source.info.width, source.info.height, source.info.fps, source.info.damage) == (96, 64, 0.0, None)


@pytest.mark.parametrize(
    ("mode", "name"), [("L", "a.png"), ("P", "a.png"), ("RGBA", "a.png"), ("CMYK", "a.jpg"), ("LA", "a.png"), ("1", "a.png")]
)  # fmt: skip
def test_colour_modes(tmp_path: Path, mode: str, name: str) -> None:
    save(tmp_path / "f", name, 77, mode)
    image = open_source(tmp_path / "f").read(0)
    assert image.shape == (64, 96, 3) and image.dtype == np.uint8 and image.flags["C_CONTIGUOUS"]
    assert number(image) == 77


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    deep = np.arange(64 * 96, dtype=np.uint16).reshape(64, 96) * 10
    (tmp_path / "f").mkdir()
    Pillow.fromarray(deep).save(tmp_path / "f" / "a.png")
    image = open_source(tmp_path / "f").read(0)
    assert np.array_equal(image[..., 1], np.rint(deep / 257).astype(np.uint8))


@pytest.mark.parametrize(("orientation", "back"), [(3, 2), (6, 1), (8, 3)])
def test_exif_orientation(tmp_path: Path, orientation: int, back: int) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    save(tmp_path / "f", "a.jpg", 9, exif=exif)
    source = open_source(tmp_path / "f")
    image = source.read(0)
    assert image.shape == (source.info.height, source.info.width, 3)
    assert number(np.rot90(image, back)) == 9


@pytest.mark.parametrize("budget", [image_folder.CHECK_WHOLE_PIXELS, -1])
def test_a_broken_and_an_odd_one(tmp_path: Path, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_folder, "CHECK_WHOLE_PIXELS", budget)
    for n in range(4):
        save(tmp_path / "f", f"{n}.png", n)
    save(tmp_path / "f", "2.png", 2, size=(100, 64))
    (tmp_path / "f" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    source = open_source(tmp_path / "f")
    assert source.info.frames == 4
    assert source.info.damage is not None and "2 of 4" in source.info.damage and "1.png" in source.info.damage
    assert [number(source.read(i)) for i in (0, 3)] == [0, 3]
    with pytest.raises(FrameUnreadable, match=r"1\.png") as error:
        list(source.stream(0, 4))
    assert error.value.index == 1
    with pytest.raises(FrameUnreadable, match="100 x 64"):
        source.read(2)
    for beyond in (-1, 4):
        with pytest.raises(FrameUnreadable):
            source.read(beyond)


@pytest.mark.parametrize("lenient", [False, True])
def test_an_image_cut_short(tmp_path: Path, lenient: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)  # the SDK turns it on when it is imported
    path = save(tmp_path / "f", "1.png", 1)
    save(tmp_path / "f", "0.png", 0)
    path.write_bytes(path.read_bytes()[:200])
    source = open_source(tmp_path / "f")
    assert source.info.damage is not None and "1.png" in source.info.damage
    with pytest.raises(FrameUnreadable):
        source.read(1)


@pytest.mark.parametrize("names", [[], ["notes.txt"]])
def test_no_images(tmp_path: Path, names: list[str]) -> None:
    (tmp_path / "f").mkdir()
    for name in names:
        (tmp_path / "f" / name).write_text("x")
    with pytest.raises(VideoUnreadable, match="no images"):
        open_source(tmp_path / "f")


def test_no_image_that_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a.jpg").write_bytes(b"nothing")
    with pytest.raises(VideoUnreadable, match=r"a\.jpg"):
        open_source(tmp_path / "f")
