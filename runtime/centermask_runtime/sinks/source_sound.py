# SPDX-License-Identifier: Apache-2.0
"""What a drawn video takes along from the file that it was drawn from: its sound, and the shape of its pixels.

Sound that an MP4 can hold and browsers play is copied as it is; any other is encoded as AAC. Its times count from the
first picture, as those of frames do, so that both stay together whatever part of the video is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from centermask_runtime.closing import Closing
from centermask_runtime.errors import first_line, shown
from centermask_runtime.sources.decoding import pyav

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet

COPIED = ("aac", "mp3", "mp3float", "opus", "flac")  # browsers play these in an MP4
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
AAC_BIT_RATE, AAC_FORMAT = 160_000, "fltp"
EARLY_S = 0.1  # sound that begins so much before the picture is no lead: encoders need some


class SourceSound(Closing):
    """The sound of a video file, taken packet by packet as the pictures go on.

    aspect: width by height of a pixel as it is shown, 1 where the file does not say.
    lead_s: how long the sound begins before the first picture, 0 for less than EARLY_S.
    notes: sentences about sound that is lost.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.aspect, self.lead_s = Fraction(1), 0.0
        self.notes: list[str] = []
        self._av = pyav("reading a video")
        self._first_s = 0.0
        self._input: InputContainer | None = None
        self._sound: Any = None
        self._packets: Iterator[Packet[Any]] = iter(())
        self._waiting: list[Packet[Any]] = []
        self._end_dts: int | None = None  # of what was given
        self._open()

    @property
    def is_there(self) -> bool:
        """Whether the file has sound."""
        return self._sound is not None

    def begin(self, output: OutputContainer, start_s: float) -> None:
        """Adds the sound's stream to a container. start_s: time of the first picture that is taken; that becomes 0."""
        assert self._sound is not None, self.file
        self._shift_s = -start_s if start_s > 0 else self.lead_s
        context = self._sound.codec_context
        is_whole = context.name != "aac" or context.extradata  # AAC of a transport stream is framed otherwise
        if context.name in COPIED and is_whole:
            self._output: AudioStream = output.add_stream_from_template(self._sound, opaque=True)
            self._packets = self._copied()
        else:
            self._output = output.add_stream("aac", rate=_aac_rate(context.sample_rate))
            self._output.codec_context.layout = "mono" if context.layout.nb_channels == 1 else "stereo"
            self._output.codec_context.bit_rate = AAC_BIT_RATE
            self._packets = self._encoded()

    def until(self, time_s: float) -> Iterator[Packet[Any]]:
        """The packets up to a time of the output that were not given yet."""
        while True:
            packet = self._waiting.pop() if self._waiting else next(self._packets, None)
            if packet is None:
                return
            assert packet.pts is not None and packet.time_base is not None
            if float(packet.pts * packet.time_base) > time_s:
                self._waiting.append(packet)
                return
            yield packet

    def close(self) -> None:
        """Closes the file. Twice is as once."""
        if self._input is not None:
            self._input.close()

    def _open(self) -> None:
        """Looks at the first picture and at the first sound. A file that cannot be read has neither."""
        av = self._av
        try:
            with av.open(str(self.file), metadata_errors="replace") as look:
                picture = next(look.decode(video=0), None)
                if picture is None:
                    return
                self._first_s = picture.time or 0.0
                aspect = look.streams.video[0].sample_aspect_ratio or Fraction(1)
                is_sideways = round(picture.rotation / 90) % 2 == 1
                self.aspect = (1 / aspect if is_sideways else aspect) if aspect > 0 else Fraction(1)
            self._input = av.open(str(self.file), metadata_errors="replace")
            sounds = self._input.streams.audio
            place = next((place for place, one in enumerate(sounds) if one.codec_context is not None), None)
            if place is None:
                return
            first = next((packet for packet in self._input.demux(sounds[place]) if packet.pts is not None), None)
            if first is None:
                return
            lead_s = self._first_s - float(first.pts * first.time_base)
            self.lead_s = lead_s if lead_s > EARLY_S else 0.0
            self._input.close()  # not every file can be wound back
            self._input = av.open(str(self.file), metadata_errors="replace")
            self._sound = self._input.streams.audio[place]
        except (av.FFmpegError, OSError, ValueError) as error:
            self._sound = None
            self._lost(error)

    def _demuxed(self) -> Iterator[tuple[Packet[Any], float]]:
        """Each packet and its time in the output. What is damaged ends the sound, which is noted."""
        assert self._input is not None
        try:
            for packet in self._input.demux(self._sound):
                if packet.pts is None or packet.time_base is None:
                    continue
                time_s = float(packet.pts * packet.time_base) - self._first_s + self._shift_s
                if time_s > -EARLY_S:
                    yield packet, time_s
        except (self._av.FFmpegError, OSError) as error:
            self._lost(error)

    def _copied(self) -> Iterator[Packet[Any]]:
        for packet, time_s in self._demuxed():
            assert packet.time_base is not None
            ticks = round(time_s / packet.time_base)
            if self._end_dts is not None and ticks <= self._end_dts:
                continue  # a clock that goes back
            packet.pts = packet.dts = self._end_dts = ticks
            packet.stream = self._output
            yield packet

    def _encoded(self) -> Iterator[Packet[Any]]:
        context = self._output.codec_context
        samples = self._av.AudioResampler(
            format=AAC_FORMAT, layout=context.layout.name, rate=context.sample_rate,
            frame_size=1024,
        )  # fmt: skip
        for packet, time_s in self._demuxed():
            try:
                decoded: list[Any] = list(packet.decode())
            except self._av.FFmpegError:
                continue  # one packet is a few milliseconds
            for number, frame in enumerate(decoded):
                if frame.pts is None:
                    if number:
                        continue
                    frame.pts, frame.time_base = round(time_s * frame.sample_rate), Fraction(1, frame.sample_rate)
                else:
                    shift_s = self._shift_s - self._first_s
                    frame.pts = round((float(frame.pts * frame.time_base) + shift_s) / frame.time_base)
                for resampled in samples.resample(frame):
                    yield from self._rising(context.encode(resampled))
        for resampled in samples.resample(None):
            yield from self._rising(context.encode(resampled))
        yield from self._rising(context.encode(None))

    def _rising(self, packets: list[Packet[Any]]) -> Iterator[Packet[Any]]:
        for packet in packets:
            if packet.dts is not None and (self._end_dts is None or packet.dts > self._end_dts):
                self._end_dts = packet.dts
                packet.stream = self._output
                yield packet

    def _lost(self, error: BaseException) -> None:
        self.notes.append(
            f"The sound of {shown(self.file)} could not be taken along from there on: {first_line(error)}."
        )


def _aac_rate(rate: int) -> int:
    """The sample rate that AAC has, and is not below this one where there is such a one."""
    return min((known for known in AAC_RATES if known >= rate), default=AAC_RATES[0])
