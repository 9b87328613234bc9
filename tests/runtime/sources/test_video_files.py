# SPDX-License-Identifier: Apache-2.0
"""Videos, images and folders in, MP4 files out. Real encoders and files, damaged ones too."""

from __future__ import annotations

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from centermask_runtime.errors import DataError, UsageError
from centermask_runtime.images import read_image
from centermask_runtime.sinks.coco_json import CocoWriter
from centermask_runtime.sinks.video import VideoWriter
from centermask_runtime.sources.files import frames, image_frames, is_video, video_frames, video_info

SIZE_HW = (48, 64)


def picture(index, size_hw=SIZE_HW):
    """A flat colour that tells the index, with a bright upper left corner."""
    image = np.full((*size_hw, 3), (20 + 8 * index, 60, 200 - 8 * index), np.uint8)
    image[: size_hw[0] // 4, : size_hw[1] // 4] = 250
    return image


def write_video(path, count=12, size_hw=SIZE_HW, fps=Fraction(10)):
    with VideoWriter(path, size_hw, fps) as writer:
        for index in range(count):
            writer.write(picture(index, size_hw))
    return path


def leftovers(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_video_comes_back_as_it_was_written(tmp_path):
    """Within 6 grey levels in flat areas and 20 near an edge, because H.264 is lossy."""
    path = write_video(tmp_path / "v.mp4")
    found = list(frames(path))
    assert [frame.index for frame in found] == list(range(12))
    assert [frame.time_s for frame in found] == pytest.approx([i / 10 for i in range(12)], abs=1e-4)
    assert found[3].name == "v_000003"
    for index, frame in enumerate(found):
        difference = np.abs(frame.image.astype(int) - picture(index))
        assert difference[20:].max() <= 6 and difference[:8, :8].max() <= 20
    assert leftovers(tmp_path) == ["v.mp4"]


def test_info_is_what_the_frames_are(tmp_path):
    info = video_info(write_video(tmp_path / "v.mp4", fps=Fraction(30000, 1001)))
    assert (info.fps, info.count, info.size_hw) == (Fraction(30000, 1001), 12, SIZE_HW)


def test_uneven_times_are_kept(tmp_path):
    times = [5.0, 5.04, 5.5, 7.25]
    with VideoWriter(tmp_path / "v.mp4", SIZE_HW, Fraction(25)) as writer:
        for index, time_s in enumerate(times):
            writer.write(picture(index), time_s)
    found = [frame.time_s for frame in frames(tmp_path / "v.mp4")]
    assert found == pytest.approx([time_s - 5 for time_s in times], abs=1e-4)


def test_times_that_do_not_rise_still_make_a_video(tmp_path):
    with VideoWriter(tmp_path / "v.mp4", SIZE_HW, Fraction(25)) as writer:
        for index, time_s in enumerate([0.0, 0.1, 0.1, 0.05]):
            writer.write(picture(index), time_s)
    assert len(list(frames(tmp_path / "v.mp4"))) == 4


def test_browsers_can_play_it(tmp_path):
    """H.264 in yuv420p, the index before the data."""
    path = write_video(tmp_path / "v.mp4")
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
    content = path.read_bytes()
    assert 0 < content.find(b"moov") < content.find(b"mdat")


def test_odd_sides_are_made_even_by_repeating_the_edge(tmp_path):
    path = write_video(tmp_path / "v.mp4", size_hw=(47, 63))
    image = next(frames(path)).image
    assert image.shape == (48, 64, 3)
    assert np.abs(image[47, 30:].astype(int) - image[46, 30:]).max() <= 3


def test_an_error_inside_leaves_no_file_and_keeps_the_old_one(tmp_path):
    path = tmp_path / "v.mp4"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), VideoWriter(path, SIZE_HW, Fraction(10)) as writer:
        writer.write(picture(0))
        raise ZeroDivisionError
    assert leftovers(tmp_path) == ["v.mp4"] and path.read_text() == "old"


def test_a_video_without_frames_is_no_file(tmp_path):
    with VideoWriter(tmp_path / "v.mp4", SIZE_HW, Fraction(10)):
        pass
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("writer", [lambda p: VideoWriter(p, SIZE_HW, Fraction(10)), lambda p: CocoWriter(p, (), ())])
def test_an_output_that_cannot_be_written_is_a_usage_error(tmp_path, writer):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "out", tmp_path / "folder"):
        with pytest.raises(UsageError, match=r"cannot be written, .*: choose another output"):
            writer(path)


def test_missing_folders_of_an_output_are_made(tmp_path):
    assert write_video(tmp_path / "a" / "b" / "v.mp4").is_file()


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
def test_a_video_cut_off_gives_what_can_be_decoded_and_then_raises(tmp_path, part):
    rng = np.random.default_rng(0)
    path = tmp_path / "v.mp4"
    with VideoWriter(path, SIZE_HW, Fraction(10)) as writer:
        for _ in range(40):
            writer.write(rng.integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    found = []
    with pytest.raises(DataError, match=r"v\.mp4 (is damaged|ends after)"):
        found.extend(frame.index for frame in frames(path))
    assert found == list(range(len(found))) and len(found) < 40
    if part > 0.2:
        assert found


def test_a_clip_cut_without_encoding_again_is_whole(tmp_path):
    """From frame 30 of keyframes 0, 24, 48: the file holds 24 to 29 too, and its edit list hides them."""
    path, cut = tmp_path / "v.mp4", tmp_path / "cut.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "24", "bf": "0", "sc_threshold": "0"})
        stream.height, stream.width = SIZE_HW
        stream.pix_fmt = "yuv420p"
        for index in range(60):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(index % 12), format="bgr24")))
        container.mux(stream.encode())
    with av.open(str(path)) as source, av.open(str(cut), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        start = round(3 / source.streams.video[0].time_base)
        source.seek(start, stream=source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts - start, packet.dts - start, stream
                target.mux(packet)
    found = list(frames(cut))
    with av.open(str(cut)) as container:
        assert container.streams.video[0].frames == 36 > len(found), "this file hides nothing"
    assert len(found) == 30
    assert np.abs(found[0].image[20:].astype(int) - picture(30 % 12)[20:]).max() <= 6


def test_a_video_without_its_index_is_a_data_error(tmp_path):
    path = write_video(tmp_path / "v.mp4")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"v\.mp4"):
        list(frames(path))
    with pytest.raises(DataError, match=r"v\.mp4"):
        video_info(path)


def test_what_is_no_video_is_a_data_error(tmp_path):
    (tmp_path / "notes.mp4").write_text("these are notes" * 100)
    with pytest.raises(DataError, match=r"notes\.mp4 cannot be opened as a video"):
        list(frames(tmp_path / "notes.mp4"))
    with pytest.raises(DataError, match="no file or folder"):
        frames(tmp_path / "none.mp4")
    with pytest.raises(DataError, match=r"none\.mp4 cannot be opened"):
        list(video_frames(tmp_path / "none.mp4"))


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(DataError, match="no pictures in it"):
        list(frames(path))


def test_a_phone_video_is_turned_as_it_is_seen(tmp_path):
    """A display matrix of 90 degrees counterclockwise moves the bright upper left corner to the lower left."""
    stream_type = av.video.stream.VideoStream
    if not hasattr(stream_type, "set_display_rotation"):
        pytest.skip("this PyAV cannot write a display matrix")
    path = tmp_path / "phone.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width = SIZE_HW
        stream.pix_fmt = "yuv420p"
        stream.set_display_rotation(90)
        for packet in stream.encode(av.VideoFrame.from_ndarray(picture(0), format="bgr24")):
            container.mux(packet)
        container.mux(stream.encode(None))
    image = next(frames(path)).image
    assert image.shape == (64, 48, 3) and video_info(path).size_hw == (64, 48)
    assert image[-8:, :6].min() > 230 and image[:8, :6, 1].max() < 100


def test_a_folder_gives_its_images_by_name(tmp_path):
    for index, name in enumerate(["b.png", "a.JPG", "ünïcödé 猫.bmp"]):
        suffix = name[-4:].lower()
        (tmp_path / name).write_bytes(cv2.imencode(suffix, picture(index))[1].tobytes())
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "sub.png").mkdir()
    found = list(frames(tmp_path))
    assert [frame.name for frame in found] == ["a.JPG", "b.png", "ünïcödé 猫.bmp"]
    np.testing.assert_array_equal(found[1].image, picture(0))
    assert all(frame.time_s is None for frame in found)


def test_a_damaged_image_gives_one_sentence_and_no_lines_of_opencv(tmp_path, capfd):
    cv2.imwrite(str(tmp_path / "a.png"), picture(0))
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    (tmp_path / "b.png").write_text("no image")
    (tmp_path / "c.tif").write_bytes(b"II*\0" + bytes(20))
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(DataError, match=path.name):
            read_image(path)
    assert capfd.readouterr() == ("", "")


def test_an_unreadable_image_in_a_folder_is_reported_and_skipped(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), picture(0))
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    (tmp_path / "c.png").write_bytes(b"")
    cv2.imwrite(str(tmp_path / "d.png"), picture(1))
    reports = []
    assert [frame.name for frame in frames(tmp_path, reports.append)] == ["a.png", "d.png"]
    assert len(reports) == 2 and "b.png is not an image" in reports[0] and "c.png" in reports[1]
    with pytest.raises(DataError, match=r"b\.png"):
        list(frames(tmp_path))
    with pytest.raises(DataError, match=r"b\.png"):
        list(image_frames(tmp_path / "b.png", reports.append))


def test_a_folder_without_images_and_a_missing_image_are_data_errors(tmp_path):
    with pytest.raises(DataError, match="holds no images"):
        list(frames(tmp_path))
    with pytest.raises(DataError, match=r"none\.png cannot be read"):
        read_image(tmp_path / "none.png")


def test_grey_deep_and_transparent_images_become_bgr(tmp_path):
    images = {
        "grey": np.full((5, 6), 77, np.uint8),
        "deep": np.full((5, 6, 3), 77 * 257, np.uint16),
        "alpha": np.full((5, 6, 4), 77, np.uint8),
    }
    for name, image in images.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
        found = read_image(tmp_path / f"{name}.png")
        assert found.dtype == np.uint8 and (found == np.full((5, 6, 3), 77)).all(), name


def test_exif_turns_what_people_look_at_and_not_data_sets(tmp_path):
    """Orientation 6, shown turned 90 degrees clockwise: the bright upper left corner goes to the upper right."""
    jpeg = cv2.imencode(".jpg", picture(0))[1].tobytes()
    tiff = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    segment = b"Exif\x00\x00" + tiff
    path = tmp_path / "phone.jpg"
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:])
    shown, stored = read_image(path), read_image(path, exif=False)
    assert stored.shape == (48, 64, 3) and stored[:8, :12].min() > 230
    assert shown.shape == (64, 48, 3) and shown[:8, -8:].min() > 230
    assert next(frames(path)).image.shape == (64, 48, 3)


def test_videos_and_images_are_told_apart_by_name(tmp_path):
    video = write_video(tmp_path / "v.mp4", count=1)
    cv2.imwrite(str(tmp_path / "a.png"), picture(0))
    assert is_video(video) and is_video("rtsp://camera/1")
    assert not is_video(tmp_path / "a.png") and not is_video(tmp_path)


def test_real_videos_have_as_many_frames_as_they_declare(shared_data):
    path = shared_data / "videos" / "highway-720p.mp4"
    info = video_info(path)
    found = list(frames(path))
    assert (info.count, info.size_hw, info.fps) == (len(found), (720, 1280), 25)
    assert [frame.time_s for frame in found] == pytest.approx([i / 25 for i in range(38)])
