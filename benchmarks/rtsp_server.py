# SPDX-License-Identifier: Apache-2.0
"""One RTSP camera of GStreamer's own server: a ball on a flat colour, H.264. Prints READY when it listens.

Runs under the system's Python, which has GStreamer (Debian: python3-gi gir1.2-gst-rtsp-server-1.0
gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly gstreamer1.0-rtsp):

    /usr/bin/python3 benchmarks/rtsp_server.py --port 8554 --colour 0xffff0000 --size 320x240 --loss 0.05
"""

import argparse

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", default="8554")
    parser.add_argument("--colour", default="0xffff0000", help="ARGB of the picture")
    parser.add_argument("--size", default="320x240", help="width x height")
    parser.add_argument("--fps", default=10, type=int)
    parser.add_argument("--loss", default=0.0, type=float, help="part of the encoded pictures that are never sent")
    given = parser.parse_args()
    width, height = given.size.split("x")
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(given.port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_shared(True)
    factory.set_launch(
        f"( videotestsrc is-live=true pattern=solid-color foreground-color={given.colour} "
        f"! video/x-raw,width={width},height={height},framerate={given.fps}/1 "
        f"! x264enc tune=zerolatency speed-preset=ultrafast key-int-max={given.fps} "
        f"! identity drop-probability={given.loss} ! rtph264pay name=pay0 pt=96 config-interval=1 )"
    )
    server.get_mount_points().add_factory("/camera", factory)
    assert server.attach(None), f"port {given.port} is taken"
    print("READY", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
