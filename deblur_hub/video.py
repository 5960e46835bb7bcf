"""Videos, frame by frame, through PyAV (extra `video`): what is heard and read in them is copied as it is.

    restore_video(generator, Path("clip.mp4"), Path("sharp.mp4"))

One frame is in memory at a time. Frames keep their times, so a variable frame rate stays one; rotation, shape of the
pixels, colour tags, bit depth and chroma sampling stay as they are.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from .atomic import replacing
from .errors import PictureError, reason_of
from .generator import DeblurGenerator
from .networks.base import gathered, reflect
from .pictures import Strip

# PyAV's own types say of a stream that it may be one of sound as well.
InputContainer: TypeAlias = Any
OutputContainer: TypeAlias = Any
Stream: TypeAlias = Any
VideoStream: TypeAlias = Any
VideoFrame: TypeAlias = Any

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
# Of each codec the encoder, and options by which nothing is lost that one sees.
ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"crf": "16", "preset": "medium"}),
    "hevc": ("libx265", {"crf": "18", "preset": "medium", "x265-params": "log-level=error"}),
    "vp9": ("libvpx-vp9", {"crf": "18", "b": "0", "row-mt": "1"}),
    "av1": ("libsvtav1", {"crf": "20", "preset": "6"}),
    "prores": ("prores_ks", {"profile": "3"}),
    "mjpeg": ("mjpeg", {"qmin": "1", "q": "2"}),
    "ffv1": ("ffv1", {}),
}
OTHERWISE = {"webm": "vp9"}  # the codec of containers that take few; h264 in the others
HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics of ITU-T H.273
ATTACHED_PICTURE = 0x400  # of a stream's disposition: the cover of an album
PLACES = ("location", "gps")  # parts of the names of metadata that say where it was taken
OF_THE_FILE = ("major_brand", "minor_version", "compatible_brands", "encoder")  # metadata that the container writes
BT709, BT601, BT2020 = 1, 5, 9  # matrices, as swscale numbers them
MATRICES = {1: BT709, 5: BT601, 6: BT601, 9: BT2020, 10: BT2020}  # by H.273's number
FULL_RANGE, LIMITED_RANGE = 2, 1


@dataclass
class Report:
    """What was written, and what is to be said about it."""

    frames: int = 0
    notes: list[str] = field(default_factory=list)


def restore_video(
    generator: DeblurGenerator,
    source: Path,
    target: Path,
    *,
    strip: Strip | None = None,
    progress: Callable[[float], None] | None = None,
    **options: Any,
) -> Report:
    """Restores the first video stream of a file into another, which is written whole or not at all.

    Args:
        source: whatever FFmpeg reads, with 8 to 16 bits a sample.
        target: whose suffix chooses the container, one of `CONTAINERS`. The codec is that of the source where it can
            be written there.
        strip: "gps" leaves out where it was taken, "metadata" all that is not about the streams.
        progress: called with the share that is done.
        options: as `DeblurGenerator.deblur` takes them; without a quality, "fast".

    Raises:
        PictureError: if PyAV is not installed, the file cannot be read or written, or is HDR or has alpha.
    """
    av = require_av(source)
    container = container_of(target)
    restore = generator.restorer(**{"quality": fast(generator), **options})

    def network(frame: Tensor) -> Tensor:
        return gathered(restore((frame.shape[-2], frame.shape[-1]), partial(reflect, frame), None), frame)

    report = Report()
    try:
        first = first_frame(source)
        with av.open(str(source)) as opened, replacing(target) as part:
            video = video_stream(opened, source)
            video.thread_type = "AUTO"
            settings = {"movflags": "+faststart+use_metadata_tags"} if container in ("mp4", "mov") else {}
            with av.open(str(part), "w", format=container, options=settings) as written:
                encoder = add_encoder(video, first, written, container, report)
                copies = add_copies(opened, video, written, container, report)
                if strip != "metadata":
                    keep_tags(opened, written, strip)
                for share in restored_frames(opened, video, written, encoder, copies, network):
                    report.frames += 1
                    if progress:
                        progress(share)
    except (av.FFmpegError, OSError) as error:
        raise PictureError(f"{source.name}: cannot be restored as a video ({reason_of(error)})") from error
    return report


def require_av(source: Path) -> Any:
    try:
        import av
    except ImportError:
        raise PictureError(
            f"{source.name}: is a video, which needs another package; install it with: pip install 'deblur-hub[video]'"
        ) from None
    # What is wrong is said in our own words; PyAV's own logging can wait for ever for a thread of the decoder.
    av.logging.restore_default_callback()
    av.logging.set_libav_level(av.logging.PANIC)
    return av


def container_of(target: Path) -> str:
    """Raises PictureError for a suffix of which no video is written."""
    container = CONTAINERS.get(target.suffix.lower())
    if container is None:
        raise PictureError(f"{target.name}: '{target.suffix}' is not written; name it {', '.join(CONTAINERS)}")
    return container


def fast(generator: DeblurGenerator) -> str | None:
    """A film has a thousand frames a minute: none takes the minute that a photo may."""
    return "fast" if "fast" in generator.qualities else None


def video_stream(opened: InputContainer, source: Path) -> VideoStream:
    """The one that is restored; raises PictureError if there is none or it is not to be restored."""
    films = [stream for stream in opened.streams.video if not int(stream.disposition) & ATTACHED_PICTURE]
    if not films or films[0].codec_context is None or films[0].codec_context.format is None:
        raise PictureError(f"{source.name}: holds no video that can be read; give another file")
    context = films[0].codec_context
    if context.color_trc in HDR:
        raise PictureError(
            f"{source.name}: is HDR ({HDR[context.color_trc]}), which the models do not know; convert it to SDR first"
        )
    if any(component.is_alpha for component in context.format.components):
        raise PictureError(f"{source.name}: has an alpha channel, which is not kept; export it without one first")
    return films[0]


def first_frame(source: Path) -> VideoFrame:
    """Which says how the film is turned: to be known before anything is written."""
    import av

    with av.open(str(source)) as opened:
        for frame in opened.decode(video_stream(opened, source)):
            return frame
    raise PictureError(f"{source.name}: holds no frame that can be read; give another file")


def restored_frames(
    opened: InputContainer,
    video: VideoStream,
    written: OutputContainer,
    encoder: VideoStream,
    copies: dict[Stream, Stream],
    network: Callable[[Tensor], Tensor],
) -> Iterator[float]:
    """Restores the frames, and copies the packets of the other streams; yields the share done after each frame."""
    count, length = 0, video.frames or int((opened.duration or 0) / 1e6 * float(video.average_rate or 25))
    for packet in opened.demux([video, *copies]):
        if packet.stream is not video:
            if packet.size:
                packet.stream = copies[packet.stream]
                written.mux(packet)
            continue
        for decoded in packet.decode():
            before = to_rgb(decoded)
            restored = to_samples(network(to_tensor(before)), before.dtype)
            written.mux(encoder.encode(changed(decoded, before, restored)))
            count += 1
            yield min(1.0, count / length) if length else 0.0
    written.mux(encoder.encode(None))


def add_encoder(
    video: VideoStream, first: VideoFrame, written: OutputContainer, container: str, report: Report
) -> VideoStream:
    import av

    context = video.codec_context
    default = OTHERWISE.get(container, "h264")
    for codec in dict.fromkeys((context.name if context.name in ENCODERS else default, default)):
        name, options = ENCODERS[codec]
        if name in av.codecs_available and codec in written.supported_codecs:
            break
    if codec != context.name:
        report.notes.append(f"is {context.name}, written as {codec}")
    encoder = written.add_stream(name, rate=video.guessed_rate or video.average_rate or 25, options=dict(options))
    encoder.width, encoder.height = context.width, context.height
    encoder.pix_fmt = pixel_format(context.format, av.Codec(name, "w").video_formats or [], report)
    encoder.codec_context.time_base = video.time_base or Fraction(1, 90_000)
    if shape := video.sample_aspect_ratio or context.sample_aspect_ratio:
        encoder.codec_context.sample_aspect_ratio = shape
    for tag in ("color_range", "color_primaries", "color_trc", "colorspace"):
        setattr(encoder.codec_context, tag, getattr(context, tag))
    if context.format.name.startswith("yuvj"):
        encoder.codec_context.color_range = FULL_RANGE
    encoder.metadata.update(video.metadata)
    if first.rotation:
        encoder.set_display_rotation(first.rotation)
    if first.interlaced_frame:
        report.notes.append("is interlaced; its frames were restored as if they were whole")
    return encoder


def pixel_format(wanted: Any, offered: list[Any], report: Report) -> str:
    """The source's own, or the nearest that the encoder takes; less of bits or chroma is said."""
    own = wanted.name.replace("yuvj", "yuv")
    names = [each.name for each in offered]
    if own in names:
        return str(own)

    def farness(each: Any) -> tuple[bool, bool, int]:
        fewer = depth(each) < depth(wanted)
        coarser = (each.chroma_width(64), each.chroma_height(64)) < (wanted.chroma_width(64), wanted.chroma_height(64))
        return fewer, coarser, depth(each)

    nearest = min((each for each in offered if not each.name.startswith("yuvj")), key=farness)
    if farness(nearest)[:2] != (False, False):
        report.notes.append(f"has {wanted.name} samples, written as {nearest.name}")
    return str(nearest.name)


def depth(pixels: Any) -> int:
    return max(int(component.bits) for component in pixels.components)


def add_copies(
    opened: InputContainer, video: VideoStream, written: OutputContainer, container: str, report: Report
) -> dict[Stream, Stream]:
    """The streams of sound and subtitles, each with its copy; what has no place is reported."""
    copies = {stream: copy for stream in opened.streams if stream is not video and (copy := copied(stream, written))}
    left = [f"{stream.type} ({name_of(stream)})" for stream in opened.streams if stream not in {video, *copies}]
    if left:
        report.notes.append(f"left out, as {container} has no place for it: {', '.join(left)}")
    return copies


def copied(stream: Stream, written: OutputContainer) -> Stream | None:
    """The stream's copy; None if the container has no place for it."""
    try:
        codec = getattr(stream.codec_context, "name", None)
        if stream.type not in ("audio", "subtitle") or codec is None:
            return None
        if codec not in written.supported_codecs and stream.type == "subtitle":
            return None
        copy = written.add_stream_from_template(stream)
    except (ValueError, TypeError, AttributeError, OSError):
        return None
    copy.metadata.update(stream.metadata)
    return copy


def name_of(stream: Stream) -> str:
    return str(getattr(stream.codec_context, "name", None) or "unknown")


def keep_tags(opened: InputContainer, written: OutputContainer, strip: Strip | None) -> None:
    for name, value in opened.metadata.items():
        if name.lower() not in OF_THE_FILE and (strip != "gps" or not any(place in name.lower() for place in PLACES)):
            written.metadata[name] = value
    if chapters := opened.chapters():
        written.set_chapters(chapters)


# Samples ---------------------------------------------------------------------------------------------------------


def to_rgb(frame: VideoFrame) -> np.ndarray:
    """(H, W, 3) of uint8, or uint16 of a frame with more bits, by the frame's own matrix and range."""
    name = "rgb48le" if depth(frame.format) > 8 else "rgb24"
    samples: np.ndarray = frame.reformat(
        format=name, src_colorspace=matrix_of(frame), interpolation=carefully()
    ).to_ndarray()
    return samples


def to_tensor(samples: np.ndarray) -> Tensor:
    """(1, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(samples.astype(np.float32)).permute(2, 0, 1)[None] / (np.iinfo(samples.dtype).max / 2) - 1


def to_samples(restored: Tensor, dtype: np.dtype) -> np.ndarray:
    """(H, W, 3) of what `to_tensor` takes."""
    scaled = (restored[0].clamp(-1, 1) + 1) * (np.iinfo(dtype).max / 2)
    return np.ascontiguousarray(scaled.round_().permute(1, 2, 0).cpu().numpy().astype(dtype))


def changed(frame: VideoFrame, before: np.ndarray, after: np.ndarray) -> VideoFrame:
    """The frame with the difference of two pictures of it added.

    Only the difference goes through the conversion, whose rounding and whose way with chroma would else change what
    the network leaves alone.
    """
    import av

    old, new = (to_planes(picture, frame) for picture in (before, after))
    try:
        own = frame.to_ndarray()
        moved = own.astype(np.int32) + new.to_ndarray().astype(np.int32) - old.to_ndarray()
        top = 2 ** depth(frame.format) - 1
        made = av.VideoFrame.from_ndarray(moved.clip(0, top).astype(own.dtype), format=frame.format.name)
    except ValueError:  # a layout that PyAV gives no array of
        made = new
    made.pts, made.time_base = frame.pts, frame.time_base
    made.colorspace, made.color_range = frame.colorspace, frame.color_range
    return made


def to_planes(samples: np.ndarray, like: VideoFrame) -> VideoFrame:
    """A frame of the same kind as another."""
    import av

    full = like.format.name.startswith("yuvj") or like.color_range == FULL_RANGE
    return av.VideoFrame.from_ndarray(samples, format="rgb24" if samples.dtype == np.uint8 else "rgb48le").reformat(
        format=like.format.name,
        dst_colorspace=matrix_of(like),
        dst_color_range=FULL_RANGE if full else LIMITED_RANGE,
        interpolation=carefully(),
    )


def carefully() -> int:
    """How colours are converted: chroma by bicubic interpolation, without shortcuts in rounding."""
    from av.video.reformatter import Interpolation

    return int(Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT)


def matrix_of(frame: VideoFrame) -> int:
    """As tagged, or as players take it where it is not: BT.709 from 720 rows on."""
    return MATRICES.get(int(frame.colorspace), BT709 if frame.height >= 720 else BT601)
