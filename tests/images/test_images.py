"""Every kind of source and file, and that no picture disappears without a word."""

import contextlib
import hashlib
import os
import pickle
import resource
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

import vtcav.images.batches
import vtcav.images.decoding
from vtcav.errors import ImageError, SystemLimitError
from vtcav.images.batches import Batches, computed_ahead
from vtcav.images.decoding import as_rgb
from vtcav.images.listing import collect, subfolders
from vtcav.images.preprocess import Preprocess
from vtcav.images.references import ImageRef, Skipped, SkippedImageWarning, read

RED, GREEN, BLUE, WHITE, BLACK = (
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 255),
    (0, 0, 0),
)


def save(path, colour=RED, size=(4, 3), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)
    return path


def names(source, **options):
    return [ref.name for ref in collect(source, **options)]


def below(folder, **options):
    return [Path(name).relative_to(folder).as_posix() for name in names(folder, **options)]


def reading(source):
    (ref,) = collect(source)
    return read(ref)


def pixels(source):
    return np.asarray(reading(source))


def tensor(image):
    return torch.from_numpy(np.array(image, np.float32)).permute(2, 0, 1)


def batches_of(refs, preprocess=tensor, batch_size=1, **options):
    return Batches(refs, preprocess, batch_size, **options)


def pairs(batches):
    return [pair for batch in batches for pair in zip(batch.refs, batch.pictures, strict=True)]


def chunk(kind, data):
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def png(width, height, depth, colour_type, rows, *extra):
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    parts = chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.fixture
def photo():
    rows, columns = np.mgrid[0:30, 0:40]
    channels = rows * 8, columns * 6, (rows + columns) * 3
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


# --- listing ----------------------------------------------------------------------------------


def test_a_folder_is_listed_recursively_in_sorted_order(tmp_path):
    for name in ("b.png", "a/z.png", "a/b/c.png", "a.png", "Z.png", "ä/日本.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    listed = below(tmp_path)
    assert listed == sorted(listed)
    assert listed == [
        *("Z.png", "a.png", "a/b/c.png", "a/z.png", "b.png", "notes.txt", "ä/日本.png"),
    ]
    assert names(str(tmp_path)) == names(tmp_path)


def test_hidden_files_and_resource_forks_are_left_out(tmp_path):
    for name in ("a.png", ".hidden.png", ".cache/b.png", "__MACOSX/a.png", "x/.y/c.png"):
        save(tmp_path / name)
    made = ("@eaDir", "$RECYCLE.BIN", "lost+found", "System Volume Information", "#snapshot")
    made += (
        "@Recycle",
        "FOUND.000",
        "Icon\r",
        "Temporary Items",
        "a.png:Zone.Identifier",
        "~$a.doc",
    )
    for name in made:
        save(tmp_path / name / "a.png")
        (tmp_path / name).joinpath("b.png").touch()
    (tmp_path / "Thumbs.db").touch()
    assert subfolders(tmp_path).keys() == {"x"}
    assert len(collect(str(tmp_path / "**/*.png"))) == 1
    assert below(tmp_path) == ["a.png"]
    assert len(collect(tmp_path / ".cache")) == 1  # asked for by name


def test_linked_folders_are_followed_once_and_loops_end(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    save(inside / "real" / "a.png")
    save(outside / "b.png")
    (inside / "a-link").symlink_to(inside / "real", target_is_directory=True)
    (inside / "loop").symlink_to(inside, target_is_directory=True)
    (inside / "real" / "up").symlink_to("..", target_is_directory=True)
    (inside / "other").symlink_to(outside, target_is_directory=True)
    (inside / "other2").symlink_to(outside, target_is_directory=True)
    assert below(inside) == ["other/b.png", "real/a.png"]


def test_a_broken_link_is_listed_and_named_when_read(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    batches = batches_of(collect(tmp_path))
    with pytest.warns(SkippedImageWarning, match=r"2 of 3 images.*gone.png.*no such file"):
        assert len(list(batches)) == 1
    assert [Path(skip.name).name for skip in batches.skipped] == ["gone.png", "self.png"]


def test_one_file_is_one_image_with_its_name_as_given(tmp_path, monkeypatch):
    save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    assert names("./a.png") == ["./a.png"]
    assert names(Path("a.png")) == ["a.png"]


def test_a_missing_path_is_named_with_the_closest_sibling(tmp_path):
    save(tmp_path / "zebras" / "zebra_01.png")
    with pytest.raises(ImageError, match=r"zebra_02.png' does not exist; did you mean .*zebra_01"):
        collect(tmp_path / "zebras" / "zebra_02.png")
    with pytest.raises(ImageError, match=r"does not exist; did you mean '.*zebras'\?"):
        collect(str(tmp_path / "zebra" / "train" / "x.png"))
    with pytest.raises(ImageError, match=r"qqqq' does not exist$"):
        collect([tmp_path / "zebras", tmp_path / "qqqq"])
    with pytest.raises(ImageError, match="empty path"):
        collect("")
    with pytest.raises(ImageError, match=r"cannot look up|does not exist"):
        collect("a" * 5000)


@pytest.mark.parametrize("empty", [[], (), iter([]), np.zeros((0, 4, 4, 3), np.uint8)])
def test_nothing_is_an_error(empty):
    with pytest.raises(ImageError, match="no images"):
        collect(empty)


def test_an_empty_folder_is_an_error(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / ".DS_Store").touch()
    with pytest.raises(ImageError, match=r"no images in '.*': the folder holds no files"):
        collect(tmp_path)
    with pytest.raises(ImageError, match="no images in"):
        collect([np.zeros((4, 4, 3), np.uint8), tmp_path])


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path, monkeypatch):
    save(tmp_path / "a.png")
    scan = os.scandir

    def refuse(path):
        if Path(path).name == "secret":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    (tmp_path / "secret").mkdir()
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ImageError, match=r"cannot list the folder '.*secret': permission denied"):
        collect(tmp_path)


def test_a_mixed_list_keeps_its_order(tmp_path):
    for name in ("d/2.png", "d/1.png", "z.png"):
        save(tmp_path / name)
    array, image = np.zeros((4, 4, 3), np.uint8), Image.new("L", (2, 2))
    mixed = [tmp_path / "z.png", array, str(tmp_path / "d"), image, np.stack([array, array])]
    expected = ["z.png", "array[1]", "1.png", "2.png", "image[3]", "array[4][0]", "array[4][1]"]
    assert [Path(name).name for name in names(mixed)] == expected
    assert [Path(name).name for name in names(entry for entry in mixed)] == expected


def test_paths_in_a_numpy_array_are_paths(tmp_path):
    paths = [str(save(tmp_path / name)) for name in ("b.png", "a.png")]
    assert names(np.array(paths)) == paths
    assert names(np.array(paths, dtype=object)) == paths


def test_a_single_picture_and_stacks():
    assert names(Image.new("RGB", (2, 2))) == ["image[0]"]
    assert names(np.zeros((5, 6), np.uint8)) == ["array[0]"]
    assert names(np.zeros((5, 6, 1), np.uint8)) == ["array[0]"]
    assert names(np.zeros((5, 6, 3), np.uint8)) == ["array[0]"]
    assert names(np.zeros((2, 5, 6, 1), np.uint8)) == ["array[0]", "array[1]"]
    stack = np.arange(2 * 5 * 6 * 3, dtype=np.uint8).reshape(2, 5, 6, 3)
    for index, ref in enumerate(collect(stack)):
        assert (np.asarray(ref.load()) == stack[index]).all()
    grey = np.arange(30, dtype=np.uint8).reshape(5, 6)
    for one in (grey, grey[..., None], grey[None, ..., None]):
        assert (pixels(one) == grey[..., None]).all()
    assert (pixels(stack[0, :, ::-1]) == stack[0, :, ::-1]).all()  # not contiguous


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.full((4, 4, 3), 0.5, np.float32),
            r"uint8 in 0\.\.255, got float32 in \[0.5, 0.5\]; mul",
        ),
        (np.ones((4, 4, 3), bool), r"got bool in \[1, 1\]; multiply by 255 and cast"),
        (
            np.full((4, 4, 3), 300, np.int64),
            r"got int64 in \[300, 300\]; scale to 0\.\.255 and cast",
        ),
        (np.zeros((4, 4, 3), complex), "got complex128; pass the pixels as uint8"),
        (np.zeros((0, 4, 4, 3)), "got float64; pass"),
        (np.zeros((3, 8, 8), np.uint8), r"got \[3, 8, 8\]; move the channels last"),
        (np.zeros((2, 3, 8, 8), np.uint8), r"got \[2, 3, 8, 8\]; move the channels last"),
        (np.zeros((7, 8, 8), np.uint8), r"got \[7, 8, 8\]; give grey pictures a channel"),
        (np.zeros((7, 8, 8, 4), np.uint8), r"got \[7, 8, 8, 4\]; drop the alpha channel"),
        (np.zeros((7, 8, 8, 2), np.uint8), "put the channels last"),
        (np.zeros(7, np.uint8), r"got \[7\]"),
    ],
)
def test_arrays_of_the_wrong_kind_say_what_to_do(array, message):
    with pytest.raises(ImageError, match=message):
        collect(array)
    with pytest.raises(ImageError, match=message):
        collect([array])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"a.png", "expected a folder, an image file.*got an object of type bytes"),
        (None, "type NoneType"),
        (7, "type int"),
        ([7], "type int at position 0"),
        ([["a.png"]], "type list at position 0"),
        ([b"a.png"], "type bytes at position 0"),
        ({"a.png"}, "type set; its order is not fixed"),
        ({"striped": "a.png"}, "type dict; pass one of its values"),
        (torch.zeros(2, 3, 8, 8), "a torch Tensor; pass the pictures as they were"),
        ([torch.zeros(3, 8, 8)], "a torch Tensor; .* at position 0"),
    ],
)
def test_other_types_are_named(source, message):
    with pytest.raises(ImageError, match=message):
        collect(source)


def test_a_limit_is_a_seeded_sample_in_order():
    stack = np.zeros((50, 2, 2, 3), np.uint8)
    drawn = [int(name[6:-1]) for name in names(stack, limit=10, seed=3)]
    assert len(set(drawn)) == 10
    assert drawn == sorted(drawn)
    assert drawn != list(range(10))
    assert names(stack, limit=10, seed=3) == names(stack, limit=10, seed=3)
    assert names(stack, limit=10, seed=3) != names(stack, limit=10, seed=4)
    assert len(collect(stack, limit=50)) == len(collect(stack, limit=99)) == 50
    for limit in (0, -1):
        with pytest.raises(ImageError, match="limit to be a whole number of at least 1"):
            collect(stack, limit=limit)


def test_a_name_that_is_no_unicode_can_be_written(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.png")).touch()
    except (OSError, UnicodeError):
        pytest.skip("the file system takes only unicode names")
    (name,) = names(tmp_path)
    assert name.encode("utf-8").endswith(rb"caf\udce9.png")


# --- one file ---------------------------------------------------------------------------------

LOSSLESS = [
    ("x.png", {}),
    ("x.webp", {"lossless": True}),
    ("x.tif", {}),
    ("x.tif", {"compression": "tiff_lzw"}),
    ("x.bmp", {}),
    ("x.ppm", {}),
    ("x.tga", {}),
    ("x.qoi", {}),
]
LOSSY = [
    ("x.jpg", {}),
    ("x.jpg", {"progressive": True}),
    ("x.webp", {}),
    ("x.gif", {}),
    ("x.tif", {"compression": "jpeg"}),
]


@pytest.mark.parametrize(("name", "options"), LOSSLESS)
def test_lossless_formats_keep_every_pixel(tmp_path, photo, name, options):
    photo.save(tmp_path / name, **options)
    image = reading(tmp_path / name)
    assert image.mode == "RGB"
    assert (np.asarray(image) == np.asarray(photo)).all()


@pytest.mark.parametrize(("name", "options"), LOSSY)
def test_lossy_formats_come_close(tmp_path, photo, name, options):
    photo.save(tmp_path / name, **options)
    difference = pixels(tmp_path / name).astype(float) - np.asarray(photo)
    assert np.abs(difference).mean() < 12


@pytest.mark.parametrize(("name", "options"), LOSSLESS + LOSSY)
def test_a_truncated_file_never_gives_another_picture(tmp_path, photo, name, options):
    photo.save(tmp_path / name, **options)
    whole, content = pixels(tmp_path / name), (tmp_path / name).read_bytes()
    part = tmp_path / f"part-{name}"
    refused = 0
    for end in range(0, len(content), max(1, len(content) // 25)):
        part.write_bytes(content[:end])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")  # TIFF: Truncated File Read
            try:
                assert (pixels(part) == whole).all()
            except ImageError:
                refused += 1
    assert refused >= 20


@pytest.mark.parametrize("where", ["jpg", "png", "webp", "tif", "memory"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(tmp_path, orientation, where):
    upright = Image.new("RGB", (32, 16), WHITE)
    upright.paste(RED, (0, 0, 16, 8))  # upper left
    upright.paste(BLUE, (16, 0, 32, 8))  # upper right
    undo = {5: 5, 6: 2, 7: 6, 8: 4, 2: 0, 3: 3, 4: 1}  # the transposes that turn it away
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x.{'png' if where == 'memory' else where}"
    quality = {"jpg": {"quality": 95}, "webp": {"lossless": True}}.get(where, {})
    stored.save(path, exif=exif, **quality)
    with Image.open(path) as opened:
        image = reading(opened if where == "memory" else path)
    assert image.size == (32, 16)
    for point, colour in (((4, 4), RED), ((28, 4), BLUE), ((4, 12), WHITE), ((28, 12), WHITE)):
        assert np.abs(np.subtract(image.getpixel(point), colour)).max() < 30
    assert not image.info  # nobody can turn it a second time
    assert image.getexif().get(0x0112) is None


def test_an_exif_block_that_cannot_be_parsed_counts_as_upright(tmp_path):
    save(tmp_path / "x.png", size=(4, 3), exif=b"Exif\0\0not an exif block at all")
    assert reading(tmp_path / "x.png").size == (4, 3)


@pytest.mark.parametrize("name", ["x.gif", "x.tif", "x.webp"])
def test_the_first_frame_is_taken(tmp_path, name):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if name == "x.webp" else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    assert reading(tmp_path / name).getpixel((4, 4)) == RED
    with Image.open(tmp_path / name) as opened:
        assert opened.n_frames == 3
        opened.seek(2)
        assert reading(opened).getpixel((4, 4)) == BLUE  # in memory: the frame it stands at


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, WHITE),
        ("L", 100, (100, 100, 100)),
        ("LA", (100, 0), WHITE),
        ("LA", (100, 255), (100, 100, 100)),
        ("La", (0, 0), WHITE),
        ("La", (100, 255), (100, 100, 100)),
        ("PA", (0, 0), WHITE),
        ("RGBA", (10, 20, 30, 0), WHITE),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (0, 0, 0, 51), (204, 204, 204)),
        ("RGBa", (0, 0, 0, 51), (204, 204, 204)),
        ("RGBX", (10, 20, 30, 0), (10, 20, 30)),
        ("CMYK", (255, 0, 255, 0), GREEN),
        ("YCbCr", (0, 128, 128), BLACK),
        ("HSV", (0, 255, 255), RED),
        ("LAB", (255, 128, 128), WHITE),
        ("I;16", 32768, (128, 128, 128)),
        ("I;16B", 65535, WHITE),
        ("I", 65535, WHITE),
        ("I", 257, (1, 1, 1)),
        ("F", 0.5, (128, 128, 128)),
    ],
)
@pytest.mark.filterwarnings("ignore:.* has 16 bits and no value above 257")
def test_every_mode_becomes_rgb(mode, colour, expected):
    before = Image.new(mode, (3, 2), colour)
    image = reading(before)
    assert (image.mode, image.size) == ("RGB", (3, 2))
    assert np.abs(np.subtract(image.getpixel((1, 1)), expected)).max() <= 1
    assert before.mode == mode


@pytest.mark.parametrize(
    ("mode", "value", "reason"),
    [
        ("I", 65536, r"values in 0\.\.65535, got \[65536, 65536\]"),
        ("I", -1, r"got \[-1, -1\]"),
        ("F", 1.5, r"values in 0\.\.1, got \[1.5, 1.5\]"),
        ("F", float("nan"), r"got \[nan, nan\]"),
        ("F", -0.25, r"got \[-0.25, -0.25\]"),
    ],
)
def test_values_out_of_range_are_refused_not_rescaled(tmp_path, mode, value, reason):
    image = Image.new(mode, (2, 2), value)
    with pytest.raises(ImageError, match=rf"cannot read 'image\[0\]': .*{reason}"):
        reading(image)
    with pytest.raises(ImageError, match=reason):
        as_rgb(image)
    image.save(tmp_path / "x.tif")
    with pytest.raises(ImageError, match=reason):
        reading(tmp_path / "x.tif")


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_sixteen_bits_are_scaled_by_a_fixed_number(tmp_path, name):
    values = np.array([[0, 128, 129, 1000, 32768, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / name)
    expected = np.rint(values.astype(float) / 65535 * 255)
    assert (pixels(tmp_path / name) == expected[..., None]).all()
    Image.fromarray(values[:, :4]).save(tmp_path / name)  # a dark picture stays dark
    with pytest.warns(UserWarning, match=rf"{name}' has 16 bits and no value above 1000: .* 4 of"):
        assert pixels(tmp_path / name).max() == 4


def test_metadata_that_pillow_refuses_come_with_the_remedy(tmp_path):
    note = PngImagePlugin.PngInfo()
    note.add_itxt("Source", "x" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
    Image.new("L", (4, 4)).save(tmp_path / "x.png", pnginfo=note)
    with pytest.raises(ImageError, match=r"metadata are larger .*raise PIL\.PngImagePlugin\.MAX"):
        reading(tmp_path / "x.png")


def test_cmyk_jpeg_and_palettes(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "x.jpg", quality=95)
    assert np.abs(np.subtract(reading(tmp_path / "x.jpg").getpixel((8, 8)), RED)).max() < 6
    palette = Image.new("P", (2, 1))
    palette.putpalette([*RED, *BLUE])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "opaque.png")
    palette.save(tmp_path / "clear.png", transparency=0)
    palette.save(tmp_path / "alphas.png", transparency=b"\x00\xff")
    palette.save(tmp_path / "clear.gif", transparency=0)
    assert pixels(tmp_path / "opaque.png").tolist() == [[list(RED), list(BLUE)]]
    for name in ("clear.png", "alphas.png", "clear.gif"):
        assert pixels(tmp_path / name).tolist() == [[list(WHITE), list(BLUE)]], name


def test_a_transparent_colour_becomes_white(tmp_path):
    key = struct.pack(">HHH", *RED)
    (tmp_path / "rgb.png").write_bytes(
        png(2, 1, 8, 2, bytes((0, *RED, *GREEN)), chunk(b"tRNS", key))
    )
    rows = b"\0" + struct.pack(">HH", 1000, 40000)
    (tmp_path / "grey.png").write_bytes(png(2, 1, 16, 0, rows, chunk(b"tRNS", rows[1:3])))
    assert pixels(tmp_path / "rgb.png").tolist() == [[list(WHITE), list(GREEN)]]
    assert pixels(tmp_path / "grey.png").tolist() == [[list(WHITE), [156] * 3]]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.png", b"", "the file is empty"),
        ("text.jpg", b"this is a text", "not a picture in a format that Pillow can read"),
        ("tiny.jpg", b"{}", "not a picture"),
        ("half.bmp", b"BM", "not a picture"),
        ("page.pdf", b"%PDF-1.4 ...", "not a picture"),
        ("vector.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n", "not a picture"),
        ("head.jpg", b"\xff\xd8\xff\xe0", "header is damaged"),
        ("zero.png", png(0, 5, 8, 2, b""), "not a picture|no pixels|cannot be decoded"),
        ("broken.png", png(4, 4, 8, 2, b"\0" * 5), "cannot be decoded: "),
    ],
)
def test_unreadable_files_say_why(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=rf"cannot read '.*{name}': .*({reason})"):
        reading(tmp_path / name)


def test_a_folder_named_like_a_picture(tmp_path):
    (tmp_path / "x.jpg").mkdir()
    with pytest.raises(ImageError, match=r"x.jpg': it is a folder"):
        ImageRef("x.jpg", tmp_path / "x.jpg").load()
    save(tmp_path / "x.jpg" / "a.png")
    assert below(tmp_path) == ["x.jpg/a.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_named_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="not a regular file"):
        reading(tmp_path / "pipe.png")


def test_permission_denied_is_a_reason(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png")

    def refuse(self, mode):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match=r"a.png': permission denied"):
        reading(path)
    with pytest.raises(ImageError, match=r"a.png': permission denied"):
        collect(path)[0].digest()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all files")
def test_a_file_without_read_permission(tmp_path):
    path = save(tmp_path / "a.png")
    path.chmod(0)
    with pytest.raises(ImageError, match="permission denied"):
        reading(path)


@pytest.mark.parametrize("side", [9500, 20000])  # Pillow warns of the first, refuses the second
def test_a_decompression_bomb_is_refused_before_decoding(tmp_path, side, monkeypatch):
    rows = (b"\0" + bytes((side + 7) // 8)) * 50  # far fewer rows than it claims
    (tmp_path / "bomb.png").write_bytes(png(side, side, 1, 0, rows))
    reason = (
        rf"{side} x {side} = {side * side} pixels, more than the limit of \d+.*MAX_IMAGE_PIXELS"
    )
    with pytest.raises(ImageError, match=rf"bomb.png': it has {reason}"):
        reading(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 11)
    with pytest.raises(ImageError, match="4 x 3 = 12 pixels, more than the limit of 11"):
        reading(save(tmp_path / "a.png"))
    assert reading(Image.new("RGB", (4, 3))).size == (4, 3)  # it is in memory already
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    with pytest.raises(ImageError, match=r"a.webp': .*12 pixels.*MAX_IMAGE_PIXELS"):
        reading(save(tmp_path / "a.webp"))  # Pillow itself refuses this one
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert reading(tmp_path / "a.png").size == (4, 3)


def test_pictures_without_pixels_are_refused():
    for empty in (Image.new("RGB", (0, 5)), np.zeros((5, 0, 3), np.uint8)):
        with pytest.raises(ImageError, match="the picture has no pixels"):
            reading(empty)


def test_a_closed_picture_is_named(tmp_path):
    image = Image.open(save(tmp_path / "a.png"))
    image.close()
    with pytest.raises(ImageError, match=r"cannot read 'image\[0\]'"):
        reading(image)


def test_reading_leaves_pictures_and_pillow_as_they_were(tmp_path, photo):
    array = np.asarray(photo).copy()
    for source in (photo, array):
        reading(source).putpixel((0, 0), RED)  # independent of its source
    assert photo.getpixel((0, 0)) == BLACK
    assert not array[0, 0].any()
    state = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    list(batches_of(collect([save(tmp_path / "a.png"), photo]), Preprocess(8)))
    assert state == (Image.MAX_IMAGE_PIXELS, list(warnings.filters))


def test_digests(tmp_path, photo):
    photo.save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    assert collect(tmp_path / "a.png")[0].digest() == hashlib.sha256(content).hexdigest()
    array = np.asarray(photo)
    digest = collect(array)[0].digest()
    assert digest == collect(photo)[0].digest() == collect(array.copy())[0].digest()
    assert digest != collect(array[::-1])[0].digest()
    assert digest != collect(array.reshape(40, 30, 3))[0].digest()
    with pytest.raises(ImageError, match=r"gone.png': no such file"):
        ImageRef("gone.png", tmp_path / "gone.png").digest()


# --- many files -------------------------------------------------------------------------------


def refs_of(count):
    return collect(np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3))


def test_skipped_pictures_are_named_with_their_reasons(tmp_path):
    for index in range(4):
        save(tmp_path / f"{index}.png")
    for index in range(7):
        (tmp_path / f"bad{index}.jpg").write_bytes(b"text" * (index > 0))
    batches = batches_of(collect(tmp_path), batch_size=3)
    with pytest.warns(SkippedImageWarning) as caught:
        read_ones = pairs(batches)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert message.startswith("7 of 11 images are left out: ")
    assert message.count("bad") == 5
    assert "bad0.jpg' (the file is empty)" in message
    assert message.count("format that Pillow can read") == 1  # a reason is told once
    assert "bad4.jpg' and 2 more (it is not" in message
    assert caught[0].filename == __file__  # the loop, not the library
    assert [ref.name for ref, _ in read_ones] == batches.used == names(tmp_path)[:4]
    assert [Path(skip.name).name for skip in batches.skipped] == [f"bad{i}.jpg" for i in range(7)]
    assert batches.skipped[0] == Skipped(str(tmp_path / "bad0.jpg"), "the file is empty")


def test_strict_raises_at_the_first_bad_file(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "b.png").touch()
    save(tmp_path / "c.png")
    batches = batches_of(collect(tmp_path), strict=True)
    with pytest.raises(ImageError, match=r"cannot read '.*b.png': the file is empty"):
        list(batches)
    assert len(batches.used) == 1


def test_too_few_descriptors_are_no_pictures_fault(tmp_path):
    """Left out, all others would stand for a set that nobody asked for."""
    for i in range(4):
        save(tmp_path / f"{i}.png")
    batches, held = batches_of(collect(tmp_path)), []
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        with pytest.raises(SystemLimitError, match="opens no more files for this process"):
            list(batches)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for each in held:
            os.close(each)
    assert not batches.skipped


def test_no_readable_picture_at_all_is_an_error(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    batches = batches_of(collect(tmp_path))
    with pytest.raises(ImageError, match=r"none of the 2 images can be read: '.*b.png' \(the file"):
        list(batches)
    assert len(batches.skipped) == 2


@given(count=st.integers(0, 40), ahead=st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_the_order_does_not_depend_on_the_threads(count, ahead):
    results = computed_ahead(lambda item: item**2, range(count), ahead)
    assert list(results) == [item**2 for item in range(count)]


@given(count=st.integers(0, 40), batch_size=st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_batches_hold_every_picture_in_order(count, batch_size):
    refs = refs_of(count) if count else []
    batches = batches_of(refs, batch_size=batch_size)
    for _ in range(2):  # iterating again starts over
        sizes, colours = [], []
        for batch in batches:
            sizes.append(len(batch.refs))
            colours += batch.x[:, 0, 0, 0].int().tolist()
        assert colours == list(range(count))
        assert sizes == [min(batch_size, count - i) for i in range(0, count, batch_size)]
        assert batches.used == [ref.name for ref in refs]


def test_slow_pictures_keep_their_place_and_few_are_in_flight():
    started, handed_out, most = 0, 0, 0
    lock = threading.Lock()

    def slow(item):
        nonlocal started, most
        with lock:
            started += 1
            most = max(most, started - handed_out)
        time.sleep(0.01 if item == 0 else 0.001)
        return item

    for index, item in enumerate(computed_ahead(slow, range(30), 5)):
        assert item == index
        handed_out += 1
    assert 2 <= most <= 6


class Slow:
    """A preprocess that takes a while and counts its calls."""

    def __init__(self):
        self.begun = self.ended = 0

    def __call__(self, image):
        self.begun += 1
        time.sleep(0.005)
        x = tensor(image)
        self.ended += 1
        return x

    def idle(self):
        """Return whether nothing runs, and nothing that waits begins later."""
        begun = self.begun
        time.sleep(0.05)
        return self.begun == self.ended == begun < 50


def test_leaving_the_loop_ends_the_work(tmp_path):
    (tmp_path / "empty.png").touch()
    slow = Slow()
    batches = batches_of(collect(tmp_path) + refs_of(50), slow)
    iterator = iter(batches)
    next(iterator)
    iterator.close()  # without a warning: the loop did not end
    assert slow.idle()
    assert batches.used == ["array[0]"]
    assert len(batches.skipped) == 1


def test_an_error_in_the_loop_ends_the_work():
    slow = Slow()

    def consume():
        for _ in batches_of(refs_of(50), slow):
            raise KeyError("consumer")

    with pytest.raises(KeyError, match="consumer"):
        consume()
    assert slow.idle()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
def test_loops_share_threads_and_a_forked_process_has_its_own():
    def names(_):
        time.sleep(0.001)
        return threading.current_thread().name

    here = set(computed_ahead(names, range(30), 8)) | set(computed_ahead(names, range(30), 8))
    assert len(here) <= 4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12: threads and forks
        child = os.fork()
    if not child:
        signal.alarm(30)  # a lost thread would be waited for without end
        os._exit(0 if not here & set(computed_ahead(names, range(9), 2)) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_an_error_that_is_no_pictures_fault_comes_through_in_order(monkeypatch):
    load = ImageRef.load

    def fail(ref):
        if ref.name == "array[2]":
            raise KeyboardInterrupt
        return load(ref)

    monkeypatch.setattr(ImageRef, "load", fail)
    batches = batches_of(refs_of(9))
    with pytest.raises(KeyboardInterrupt):
        list(batches)
    assert batches.used == ["array[0]", "array[1]"]


def test_pictures_are_preprocessed_in_the_threads_and_an_image_error_skips_one():
    threads = set()

    def preprocess(image):
        threads.add(threading.current_thread())
        if image.getpixel((0, 0)) == (1, 1, 1):
            raise ImageError("too plain")
        return tensor(image)

    batches = batches_of(refs_of(3), preprocess)
    with pytest.warns(SkippedImageWarning, match=r"1 of 3 .* 'array\[1\]' .*: too plain\)"):
        assert [ref.name for ref, _ in pairs(batches)] == ["array[0]", "array[2]"]
    assert threading.main_thread() not in threads
    with pytest.raises(ImageError, match=r"cannot read 'array\[1\]': .*: too plain"):
        list(batches_of(refs_of(3), preprocess, strict=True))


def test_one_lazily_opened_picture_many_times(tmp_path, photo):
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "a.jpg", exif=exif)
    for _ in range(5):
        with Image.open(tmp_path / "a.jpg") as opened:
            read_ones = pairs(batches_of(collect([opened] * 20)))
        assert {image.size for _, image in read_ones} == {(30, 40)}


def test_errors_survive_pickling(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(ImageError) as caught:
        reading(tmp_path / "a.png")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_files_can_be_removed_after_reading(tmp_path):
    save(tmp_path / "d" / "a.png")
    save(tmp_path / "d" / "b.tif", compression="tiff_lzw")
    list(batches_of(collect(tmp_path / "d")))
    shutil.rmtree(tmp_path / "d")  # on Windows an open file would prevent it


def test_importing_loads_no_torch():
    code = (
        "import sys, vtcav.images.references, vtcav.images.preprocess; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_picture_too_large_for_the_memory_is_named(monkeypatch):
    def exhaust(image):
        raise MemoryError

    monkeypatch.setattr(vtcav.images.decoding, "as_rgb", exhaust)
    with pytest.raises(ImageError, match=r"image\[0\]': there is not enough memory"):
        reading(Image.new("RGB", (2, 2)))


def test_a_format_that_this_pillow_lacks_is_named(tmp_path, monkeypatch):
    def accept(prefix):
        return "support for NEW is not installed" if prefix.startswith(b"NEW") else False

    monkeypatch.setattr(Image, "OPEN", {**Image.OPEN, "NEW": (None, accept)})
    monkeypatch.setattr(Image, "ID", [*Image.ID, "NEW"])
    (tmp_path / "x.new").write_bytes(b"NEW picture " + BytesIO(b"1234").read())
    with pytest.raises(ImageError, match="support for NEW is not installed"):
        reading(tmp_path / "x.new")


def test_a_link_to_nothing_is_named_as_one(tmp_path):
    (tmp_path / "x.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(ImageError, match=r"is a link to '.*gone\.png', which is not there"):
        collect(tmp_path / "x.png")
