import hashlib
import struct
import threading
import tracemalloc
from random import Random
from typing import Any

import pytest
from PIL import Image, ImageCms

from app.core.errors import Refusal
from app.features.media import animations, images
from app.features.media.images import Picture, PictureUnreadable, PictureUnsupported, Rendition, TooManyPixels
from app.features.media.names import file_name
from tests import pictures

MAX_PIXELS = 50_000_000


def inspect(content: bytes, max_pixels: int = MAX_PIXELS) -> Picture:
    return images.inspect(content, max_pixels=max_pixels)


def render(content: bytes) -> list[Rendition]:
    return list(images.render(content, inspect(content)))


def widest(content: bytes) -> Image.Image:
    return pictures.decode(render(content)[-1].content)


def is_near(pixel: object, expected: tuple[int, ...], tolerance: int = 6) -> bool:
    assert isinstance(pixel, tuple)
    return all(abs(one - other) <= tolerance for one, other in zip(pixel, expected, strict=True))


class TestInspect:
    @pytest.mark.parametrize(
        ("name", "media_type"),
        [
            ("JPEG", "image/jpeg"),
            ("PNG", "image/png"),
            ("WEBP", "image/webp"),
            ("GIF", "image/gif"),
            ("AVIF", "image/avif"),
            ("MPO", "image/jpeg"),
        ],
    )
    def test_tells_the_type_and_the_size_by_the_content(self, name: str, media_type: str) -> None:
        picture = inspect(pictures.photo(48, 32, format=name))

        assert picture == Picture(media_type=media_type, width=48, height=32, is_animated=False)

    @pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "AVIF"])
    def test_tells_an_animation(self, name: str) -> None:
        assert inspect(pictures.animation(format=name)).is_animated

    def test_takes_several_pictures_in_a_jpeg_for_one(self) -> None:
        assert not inspect(pictures.animation(format="MPO")).is_animated

    @pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
    @pytest.mark.parametrize(("orientation", "size"), [(1, (48, 32)), (3, (48, 32)), (6, (32, 48)), (8, (32, 48))])
    def test_gives_the_size_as_shown(self, name: str, orientation: int, size: tuple[int, int]) -> None:
        picture = inspect(pictures.photo(48, 32, format=name, exif=pictures.exif(orientation=orientation)))

        assert (picture.width, picture.height) == size

    @pytest.mark.parametrize(
        "content",
        [
            pictures.HEIC,
            pictures.SVG,
            pictures.HTML,
            pictures.PDF,
            b"",
            b"\xff",
            pictures.flat("red", format="BMP"),
            pictures.flat("red", format="TIFF"),
            pictures.HTML + pictures.animation(),
        ],
        ids=["heic", "svg", "html", "pdf", "empty", "byte", "bmp", "tiff", "html-before-gif"],
    )
    def test_refuses_other_content(self, content: bytes) -> None:
        with pytest.raises(PictureUnsupported) as refused:
            inspect(content)

        assert refused.value.data == {"accepted": list(images.TAKEN)}

    @pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
    def test_refuses_a_signature_without_a_picture(self, name: str) -> None:
        with pytest.raises(PictureUnreadable):
            inspect(pictures.photo(48, 32, format=name)[:32])

    @pytest.mark.parametrize("size", [(50_000, 50_000), (10_000, 10_000), (7_072, 7_072)])
    def test_refuses_a_bomb_without_decoding_it(self, size: tuple[int, int]) -> None:
        content = pictures.bomb(*size)

        with pytest.raises(TooManyPixels):
            inspect(content)

        assert len(content) < 1024

    def test_takes_as_many_pixels_as_are_allowed(self) -> None:
        content = pictures.photo(40, 30)

        assert inspect(content, 1200).width == 40
        with pytest.raises(TooManyPixels):
            inspect(content, 1199)

    @pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "AVIF"])
    def test_counts_the_pixels_of_all_frames(self, name: str) -> None:
        content = pictures.animation((32, 24), frames=3, format=name)

        assert inspect(content, 3 * 32 * 24).is_animated
        with pytest.raises(TooManyPixels):
            inspect(content, 3 * 32 * 24 - 1)

    def test_refuses_a_side_that_is_too_long(self) -> None:
        assert inspect(pictures.bomb(65_535, 1)).width == 65_535
        with pytest.raises(TooManyPixels):
            inspect(pictures.bomb(65_536, 1))

    def test_refuses_too_many_frames(self) -> None:
        frame = struct.pack("<B4HB", 0x2C, 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
        head = b"GIF89a" + struct.pack("<2H3B", 1, 1, 0x80, 0, 0) + bytes(6)

        assert inspect(head + frame * images.MAX_FRAMES + b";").is_animated
        with pytest.raises(TooManyPixels):
            inspect(head + frame * (images.MAX_FRAMES + 1) + b";")

    def test_reads_no_more_frames_than_are_allowed(self) -> None:
        assert animations.outline_gif(pictures.animation(frames=9), max_frames=5).frames == 6

    def test_refuses_a_frame_beyond_the_canvas(self) -> None:
        content = bytearray(pictures.animation((32, 24)))
        struct.pack_into("<2H", content, 6, 31, 24)

        with pytest.raises(PictureUnreadable):
            inspect(bytes(content))

    def test_refuses_a_text_that_explodes(self) -> None:
        content = pictures.text_bomb()
        tracemalloc.start()

        try:
            with pytest.raises(PictureUnreadable):
                inspect(content)
            assert tracemalloc.get_traced_memory()[1] < 8_000_000
        finally:
            tracemalloc.stop()

    def test_refuses_a_jpeg_of_endless_scans(self) -> None:
        content = pictures.photo(48, 32, progressive=True)
        start = content.rindex(b"\xff\xda")
        scan = content[start:-2]

        assert inspect(content[:-2] + scan * 100 + content[-2:]).width == 48
        with pytest.raises(PictureUnreadable):
            inspect(content[:-2] + scan * images.MAX_SCANS + content[-2:])

    def test_takes_what_only_looks_like_scans_in_metadata_and_behind_the_end(self) -> None:
        content, noise = pictures.photo(48, 32), b"\xff\xda" * images.MAX_SCANS * 2

        assert inspect(content + noise).width == 48
        comment = b"\xff\xfe" + (len(noise) + 2).to_bytes(2, "big") + noise
        assert inspect(content[:2] + comment + content[2:]).width == 48

    @pytest.mark.parametrize("kind", ["markers", "padding", "junk", "chunks", "profiles", "extensions", "blocks"])
    def test_refuses_what_is_cut_into_countless_parts_before_it_is_read(
        self, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def cut(count: int) -> bytes:
            return pictures.cut_up(kind, count)

        assert inspect(cut(1)).width == 48
        monkeypatch.setattr(images, "_open", lambda *_: pytest.fail("Pillow reads each part"))
        with pytest.raises(PictureUnreadable):
            inspect(cut(30_000))

    @pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
    def test_shows_a_picture_whose_exif_is_broken(self) -> None:
        content = pictures.photo(48, 32, exif=b"Exif\0\0II*\0\xff\xff\xff\xff broken")

        assert (inspect(content).width, inspect(content).height) == (48, 32)


class TestPlan:
    @pytest.mark.parametrize(
        ("size", "sizes"),
        [
            ((100, 50), [(100, 50)]),
            ((160, 90), [(160, 90)]),
            ((400, 200), [(160, 80), (320, 160), (400, 200)]),
            ((2000, 1000), [(160, 80), (320, 160), (640, 320), (1280, 640), (2000, 1000)]),
            ((4000, 3000), [(160, 120), (320, 240), (640, 480), (1280, 960), (2000, 1500)]),
            ((60_000, 10), [(160, 1), (320, 1), (640, 1), (1280, 1), (2000, 1)]),
            ((400, 30_000), [(160, 12_000)]),
            ((1, 60_000), [(1, 16_383)]),
        ],
    )
    def test_has_the_widths_up_to_the_original(self, size: tuple[int, int], sizes: list[tuple[int, int]]) -> None:
        picture = Picture(media_type="image/png", width=size[0], height=size[1], is_animated=False)

        assert images.plan(picture) == sizes


class TestRender:
    @pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
    def test_makes_what_is_planned(self, name: str) -> None:
        content = pictures.photo(400, 300, format=name)

        renditions = render(content)

        assert [(each.width, each.height) for each in renditions] == images.plan(inspect(content))
        for each in renditions:
            made = pictures.decode(each.content)
            assert (made.format, made.size) == ("WEBP", (each.width, each.height))
            assert each.media_type == "image/webp"

    @pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "AVIF"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_applies_the_orientation(self, name: str, orientation: int) -> None:
        upright = pictures.canvas(200, 120, seed=7)
        # What the camera stores, by the inverse of what a viewer does.
        turns = {
            2: Image.Transpose.FLIP_LEFT_RIGHT,
            3: Image.Transpose.ROTATE_180,
            4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_90,
            7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270,
        }
        stored = upright.transpose(turns[orientation]) if orientation in turns else upright

        shown = widest(pictures.encode(stored, name, exif=pictures.exif(orientation=orientation)))

        assert shown.size == upright.size
        corners = [(20, 15), (180, 15), (20, 105), (180, 105)]
        assert all(is_near(shown.getpixel(at), upright.getpixel(at), 30) for at in corners)  # type: ignore[arg-type] # pixels of RGB are tuples

    @pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "AVIF"])
    def test_carries_no_metadata(self, name: str) -> None:
        xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + pictures.PLACE + b"</x:xmpmeta>"
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        options: dict[str, Any] = {"xmp": xmp} if name in {"JPEG", "WEBP", "AVIF"} else {}
        content = pictures.photo(200, 100, format=name, exif=pictures.exif(), icc_profile=profile, **options)
        assert pictures.PLACE in content

        for each in render(content):
            assert not {b"EXIF", b"XMP ", b"ICCP"} & chunks_of(each.content)
            assert pictures.PLACE not in each.content

    def test_drops_the_comments_of_a_jpeg_and_the_texts_of_a_png(self) -> None:
        text = b"Comment\0" + pictures.PLACE
        commented = pictures.photo(48, 32, comment=pictures.PLACE)
        described = pictures.with_png_chunk(pictures.photo(48, 32, format="PNG"), b"tEXt", text)

        assert all(pictures.PLACE not in each.content for each in [*render(commented), *render(described)])

    def test_drops_what_is_appended(self) -> None:
        (rendition,) = render(pictures.photo(48, 32) + pictures.HTML)

        assert b"script" not in rendition.content

    def test_converts_the_profile_to_srgb(self) -> None:
        # Grey of the middle in a space that is linear is light in sRGB.
        linear = pictures.linear_profile()

        shown = widest(pictures.flat((128, 128, 128), icc_profile=linear))

        assert is_near(shown.getpixel((5, 5)), (188, 188, 188), 8)

    def test_ignores_a_profile_of_other_channels_and_one_that_is_broken(self) -> None:
        grey_with_colours = pictures.flat(90, mode="L", icc_profile=pictures.linear_profile())
        broken = pictures.flat((90, 90, 90), icc_profile=b"no profile")

        assert is_near(widest(grey_with_colours).getpixel((5, 5)), (90, 90, 90))
        assert is_near(widest(broken).getpixel((5, 5)), (90, 90, 90))

    def test_reads_cmyk(self) -> None:
        # Pillow writes what Adobe does: inverted, with a marker that says so.
        shown = widest(pictures.flat((0, 255, 255, 0), mode="CMYK", format="JPEG"))

        assert is_near(shown.getpixel((5, 5)), (255, 0, 0), 10)

    @pytest.mark.parametrize("value", [0x0300, 0x8000, 0xF000])
    def test_scales_sixteen_bits(self, value: int) -> None:
        row = b"\0" + struct.pack(">H", value) * 8
        coloured = b"\0" + struct.pack(">3H", value, value, value) * 8
        level = value >> 8

        for content in (
            pictures.png(8, 8, row * 8, depth=16, colour_type=0),
            pictures.png(8, 8, coloured * 8, depth=16, colour_type=2),
        ):
            assert is_near(widest(content).getpixel((4, 4)), (level, level, level))

    def test_keeps_the_alpha(self) -> None:
        half = Image.new("RGBA", (40, 30), (200, 30, 30, 255))
        half.paste((0, 0, 0, 0), (0, 0, 20, 30))
        palette = half.quantize(4)
        grey = Image.merge("LA", (Image.new("L", (40, 30), 90), half.getchannel("A")))

        for content in (
            pictures.encode(half, "PNG"),
            pictures.encode(half, "WEBP", lossless=True),
            pictures.encode(palette, "PNG"),
            pictures.encode(half, "GIF"),
            pictures.encode(grey, "PNG"),
        ):
            shown = widest(content)
            assert shown.mode == "RGBA"
            alphas = [shown.getchannel("A").getpixel(at) for at in ((5, 15), (35, 15))]
            assert alphas == [0, 255]

    def test_lets_no_transparent_colour_bleed(self) -> None:
        # Between red and a transparent green the edge is red.
        image = Image.new("RGBA", (800, 60), (0, 255, 0, 0))
        image.paste((255, 0, 0, 255), (403, 0, 800, 60))

        narrow = pictures.decode(render(pictures.encode(image, "PNG"))[0].content)

        edge = [narrow.getpixel((x, 6)) for x in range(75, 90)]
        assert all(pixel[1] < 60 for pixel in edge if isinstance(pixel, tuple) and pixel[3] > 40)

    @pytest.mark.parametrize(("mode", "colour"), [("1", 1), ("L", 255), ("P", 0)])
    def test_reads_pictures_of_few_colours(self, mode: str, colour: int) -> None:
        image = Image.new(mode, (40, 30), colour)
        if mode == "P":
            image.putpalette([255, 255, 255])

        assert is_near(widest(pictures.encode(image, "PNG")).getpixel((5, 5)), (255, 255, 255))

    @pytest.mark.parametrize("mode", ["RGB", "RGBA"])
    def test_resamples_in_bands_as_if_in_one(self, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(images, "_BAND_PIXELS", 150 * 20)
        noise = Image.frombytes(mode, (150, 130), Random(5).randbytes(150 * 130 * len(mode)))

        in_bands = images._shrink(noise, (60, 52))

        assert in_bands.tobytes() == noise.resize((60, 52), Image.Resampling.LANCZOS).tobytes()

    def test_decodes_no_more_of_a_jpeg_than_is_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        decoded: list[tuple[int, int]] = []
        shrink = images._shrink

        def observe(image: Image.Image, size: tuple[int, int]) -> Image.Image:
            decoded.append(image.size)
            return shrink(image, size)

        monkeypatch.setattr(images, "_shrink", observe)

        render(pictures.photo(4000, 40))

        assert decoded == [(2000, 20)]

    @pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
    def test_refuses_a_truncated_picture(self, name: str) -> None:
        content = pictures.photo(300, 200, format=name)
        picture = inspect(content)

        with pytest.raises(PictureUnreadable):
            list(images.render(pictures.truncated(content), picture))

    def test_refuses_broken_bytes_and_nothing_else_comes_out(self) -> None:
        random = Random(3)
        refused = 0
        for name in ("JPEG", "PNG", "WEBP", "GIF", "AVIF"):
            content = bytearray(
                pictures.animation((20, 16), format=name) if name == "GIF" else pictures.photo(20, 16, format=name)
            )
            for _ in range(60):
                broken = content.copy()
                for _ in range(4):
                    broken[random.randrange(len(broken))] = random.randrange(256)
                try:
                    list(images.render(bytes(broken), inspect(bytes(broken))))
                except Refusal:
                    refused += 1

        assert refused > 30

    def test_decodes_one_picture_at_a_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        content = pictures.photo(40, 30)
        inside, most = [], []
        original = Image.Image.convert
        monkeypatch.setattr(images, "_convert_to_srgb", lambda image, profile: observe(image))

        def observe(image: Image.Image) -> Image.Image:
            inside.append(1)
            most.append(len(inside))
            threading.Event().wait(0.02)
            inside.pop()
            return original(image, "RGB")

        threads = [threading.Thread(target=render, args=(content,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert most == [1, 1, 1, 1]

    def test_leaves_the_decoder_to_others_between_renditions(self) -> None:
        content = pictures.photo(400, 300)
        started = images.render(content, inspect(content))
        next(started)

        assert len(render(content)) == 3
        assert len(list(started)) == 2


class TestAnimations:
    @pytest.mark.parametrize(("name", "extension"), [("GIF", "gif"), ("WEBP", "webp"), ("PNG", "png")])
    def test_are_kept_as_they_are(self, name: str, extension: str) -> None:
        content = pictures.animation(format=name)

        (rendition,) = render(content)

        assert hashlib.sha256(rendition.content).digest() == hashlib.sha256(content).digest()
        assert file_name("0", rendition.width, rendition.media_type) == f"0-32.{extension}"
        assert (rendition.width, rendition.height) == (32, 24)

    @pytest.mark.parametrize(
        "content",
        [
            pictures.animation(comment=pictures.PLACE),
            pictures.animation()[:-1]
            + b"\x21\xff\x0bXMP DataXMP"
            + bytes([len(pictures.PLACE)])
            + pictures.PLACE
            + b"\0;",
            pictures.animation() + pictures.PLACE,
            pictures.animation(format="WEBP", exif=pictures.exif()),
            pictures.animation(format="WEBP", xmp=pictures.PLACE),
            pictures.animation(format="WEBP") + pictures.PLACE,
            pictures.animation(format="WEBP") + b"ICCP" + struct.pack("<I", 17) + pictures.PLACE + b"\0",
            pictures.animation(format="PNG", exif=pictures.exif()),
            pictures.with_png_chunk(pictures.animation(format="PNG"), b"tEXt", b"Comment\0" + pictures.PLACE),
            pictures.with_png_chunk(pictures.animation(format="PNG"), b"prVt", pictures.PLACE),
            pictures.animation(format="PNG") + pictures.PLACE,
            pictures.animation(format="AVIF", exif=pictures.exif()),
        ],
        ids=[
            *(
                "gif-comment",
                "gif-xmp",
                "gif-appended",
                "webp-exif",
                "webp-xmp",
                "webp-appended",
                "webp-beyond",
                "png-exif",
            ),
            *("png-text", "png-private", "png-appended", "avif"),
        ],
    )
    def test_are_written_anew_if_they_carry_more(self, content: bytes) -> None:
        assert pictures.PLACE in content

        (rendition,) = render(content)

        assert pictures.PLACE not in rendition.content
        assert rendition.media_type == "image/webp"
        made = pictures.decode(rendition.content)
        assert (getattr(made, "n_frames", 1), made.size) == (3, (32, 24))

    def test_keep_their_timing_when_they_are_written_anew(self) -> None:
        content = pictures.animation(duration=[50, 200, 0], comment=pictures.PLACE, loop=0)

        (rendition,) = render(content)

        with pictures.decode(rendition.content) as made:
            shown = []
            for number in range(3):
                made.seek(number)
                made.load()
                shown.append(made.info["duration"])
        assert shown == [50, 200, 100]
        assert made.info["loop"] == 0

    @pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG"])
    def test_are_refused_when_truncated(self, name: str) -> None:
        content = pictures.animation(format=name)

        with pytest.raises(PictureUnreadable):
            list(images.render(pictures.truncated(content), inspect(content)))

    def test_are_refused_when_their_first_frame_is_broken(self) -> None:
        content = bytearray(pictures.animation(format="PNG"))
        place = content.index(b"IDAT") + 20
        content[place : place + 20] = bytes(20)

        with pytest.raises(PictureUnreadable):
            render(bytes(content))


class TestFindColour:
    @pytest.mark.parametrize("colour", [(200, 30, 30), (255, 255, 255), (10, 60, 140)])
    def test_is_that_of_a_flat_picture(self, colour: tuple[int, int, int]) -> None:
        found = images.find_colour(render(pictures.flat(colour))[0])

        assert is_near(tuple(bytes.fromhex(found[1:])), colour)

    def test_is_that_of_the_largest_part(self) -> None:
        image = Image.new("RGB", (60, 60), (10, 60, 140))
        image.paste((250, 240, 20), (0, 0, 60, 20))

        found = images.find_colour(render(pictures.encode(image, "PNG"))[0])

        assert is_near(tuple(bytes.fromhex(found[1:])), (10, 60, 140), 10)

    def test_does_not_see_what_is_transparent(self) -> None:
        image = Image.new("RGBA", (60, 60), (0, 255, 0, 0))
        image.paste((200, 30, 30, 255), (0, 0, 60, 20))

        assert is_near(
            tuple(bytes.fromhex(images.find_colour(render(pictures.encode(image, "PNG"))[0])[1:])), (200, 30, 30), 10
        )

    def test_is_white_where_nothing_is_seen(self) -> None:
        assert images.find_colour(render(pictures.flat((9, 9, 9, 0), mode="RGBA"))[0]) == "#ffffff"

    @pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG"])
    def test_is_found_of_an_animation(self, name: str) -> None:
        assert images.find_colour(render(pictures.animation(format=name))[0]).startswith("#")


def chunks_of(webp: bytes) -> set[bytes]:
    kinds, at = set(), 12
    while at < len(webp):
        kinds.add(webp[at : at + 4])
        length = int.from_bytes(webp[at + 4 : at + 8], "little")
        at += 8 + length + length % 2
    return kinds
