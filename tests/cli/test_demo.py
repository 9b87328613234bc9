# SPDX-License-Identifier: Apache-2.0
"""`centermask demo`: an export, pictures, a drawn clip and a speed, all in its output folder."""

from __future__ import annotations

import json
import shutil

import av
import cv2
import numpy as np
import pytest

from centermask.cli import main
from tests.support.places import ROOT


@pytest.mark.slow
def test_the_demo_leaves_a_model_pictures_a_video_and_its_results(tmp_path, capsys, monkeypatch):
    """On a corner of one sample image, twelve frames that slide over it, and the clip of a person."""
    monkeypatch.setenv("COLUMNS", "200")
    image = cv2.imread(str(ROOT / "samples" / "images" / "fluorescence.png"))
    samples, output = tmp_path / "samples", tmp_path / "out"
    (samples / "images").mkdir(parents=True)
    cv2.imwrite(str(samples / "images" / "corner.png"), image[:160, :160])
    with av.open(str(samples / "nuclei_scan.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for step in range(12):
            frame = np.ascontiguousarray(image[50:170, 10 * step : 10 * step + 160])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        container.mux(stream.encode())
    shutil.copy(ROOT / "samples" / "person.mp4", samples)
    main(["demo", "--samples", str(samples), "--output", str(output)])
    shown = capsys.readouterr().out
    assert (output / "nuclei_dla_46c.onnx").is_file() and "FAILED" not in shown and "7 frames" in shown
    drawn = cv2.imread(str(output / "images" / "corner.png"))
    assert drawn.shape == (160, 160, 3) and not np.array_equal(drawn, image[:160, :160])
    results = json.loads((output / "nuclei" / "predictions.json").read_text())
    assert len(results["images"]) == 12 and len(results["annotations"]) > 12
    with av.open(str(output / "nuclei" / "nuclei_scan.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 12
    assert cv2.imread(str(output / "contact_sheet.png")).std() > 5
    persons = json.loads((output / "persons" / "predictions.json").read_text())
    in_view = {image["id"] for image in persons["images"][20:]}  # she walks in, then stands at the table
    assert len({entry["image_id"] for entry in persons["annotations"]} & in_view) == len(in_view) == 60


def test_samples_that_are_not_there_are_one_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["demo", "--samples", str(tmp_path / "gone")])
    assert stopped.value.code == 3 and f"The samples are not in {tmp_path / 'gone'}" in capsys.readouterr().err
