"""The files of the sweep, as data: a codec, container, clock, orientation and so on for each.

Each factor is a table. `cases` draws combinations with a fixed seed and prefers those with pairs of values that no
earlier case has.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from itertools import combinations

SEED, CANDIDATES = 15, 30
COMMON = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg2")  # codecs with twice as many cases
ANY = "mov mkv avi nut"
MP4S = "mp4 mov mkv"
BROADCAST = "mp4 mov mkv ts m2ts avi nut"


@dataclass(frozen=True)
class Codec:
    """One way to encode.

    Args:
        arguments: the encoder and its options.
        containers: file name extensions, separated by spaces.
        pixels: pixel formats.
        sizes: WIDTHxHEIGHT.
        has_colours: the bit stream stores the colour matrix and range.
        first_pass: needs two passes.
    """

    arguments: str
    containers: str
    pixels: str = "yuv420p"
    sizes: str = "96x64 98x66 64x48 160x120"
    has_colours: bool = False
    first_pass: bool = False


_H264 = "mp4 mov mkv ts m2ts avi nut flv 3gp h264"
_HEVC = "mp4 mov mkv ts m2ts nut hevc"
_VP = "webm mkv nut ivf avi"
_MPEG4 = "mp4 mov mkv avi nut 3gp ts m4v"
_ODD = "96x64 97x65 33x17 160x120"
_CIF = "128x96 176x144"
_FIELDS = "96x64 160x120"  # fields of an even height


def _x264(parameters: str, containers: str = _H264, pixels: str = "yuv420p", *, sizes: str = Codec.sizes) -> Codec:
    arguments = f"-c:v libx264 -preset veryfast -crf 16 -x264-params {parameters}:threads=1"
    return Codec(arguments, containers, pixels, sizes, has_colours=True)


def _x265(parameters: str, containers: str = _HEVC, pixels: str = "yuv420p") -> Codec:
    arguments = f"-c:v libx265 -preset ultrafast -crf 14 -x265-params {parameters}:log-level=none:pools=none"
    return Codec(arguments, containers, pixels, has_colours=True)


CODECS: dict[str, Codec] = {
    "h264-pyramid": _x264("keyint=16:bframes=3:b-adapt=0:b-pyramid=normal"),
    "h264-no-b": _x264("keyint=10:bframes=0"),
    "h264-open-gop": _x264("keyint=12:min-keyint=12:scenecut=0:bframes=3:b-adapt=0:open-gop=1"),
    "h264-refresh": _x264("keyint=20:intra-refresh=1:bframes=0"),
    "h264-one-gop": _x264("keyint=infinite:bframes=5:b-adapt=0:b-pyramid=strict"),
    "h264-mbaff": _x264("keyint=16:bframes=2:b-adapt=0:tff=1", pixels="yuv420p yuv422p", sizes=_FIELDS),
    "h264-slices": _x264("keyint=12:slices=3:aud=1:bframes=1:b-adapt=0:cabac=0"),
    "h264-fake-interlaced": _x264("keyint=12:fake-interlaced=1:bframes=1:b-adapt=0", sizes=_FIELDS),
    "h264-deep": _x264("keyint=16:bframes=3", MP4S + " ts nut h264", "yuv420p10le yuv422p yuv422p10le yuv444p gray"),
    "h264-full-range": _x264("keyint=16:bframes=3", MP4S + " flv ts h264", "yuvj420p yuvj444p"),
    "h264-rgb": Codec("-c:v libx264rgb -preset ultrafast -crf 10 -g 12", MP4S + " nut", "bgr0 rgb24"),
    "h264-zero-latency": Codec("-c:v libx264 -preset ultrafast -tune zerolatency -g 15", _H264, has_colours=True),
    "hevc-open-gop": _x265("keyint=12:min-keyint=12:bframes=4:b-adapt=0:open-gop=1"),
    "hevc-closed": _x265("keyint=12:bframes=3:b-adapt=0:open-gop=0:repeat-headers=1"),
    "hevc-radl": _x265("keyint=12:min-keyint=12:bframes=3:b-adapt=0:open-gop=0:radl=2"),
    "hevc-no-b": _x265("keyint=10:bframes=0"),
    "hevc-layers": _x265("keyint=16:bframes=3:b-adapt=0:temporal-layers=1"),
    "hevc-hvc1": Codec("-c:v libx265 -preset ultrafast -crf 14 -tag:v hvc1 -x265-params log-level=none", "mp4 mov"),
    "hevc-deep": _x265("keyint=12:bframes=3", MP4S + " ts hevc", "yuv420p10le yuv420p12le yuv422p10le yuv444p gray"),
    "hevc-full-range": _x265("keyint=12:bframes=2:range=full", MP4S + " ts", "yuvj420p yuvj422p"),
    "vp8": Codec("-c:v libvpx -b:v 2M -cpu-used 8 -deadline realtime -g 20 -auto-alt-ref 0", _VP, sizes=_ODD),
    "vp8-alt-ref": Codec(
        "-c:v libvpx -b:v 1M -cpu-used 4 -g 60 -auto-alt-ref 1 -lag-in-frames 16", _VP, sizes=_ODD, first_pass=True
    ),
    "vp8-alpha": Codec("-c:v libvpx -b:v 2M -cpu-used 8 -auto-alt-ref 0", "webm mkv", "yuva420p"),
    "vp9": Codec(
        "-c:v libvpx-vp9 -b:v 2M -cpu-used 8 -deadline realtime -g 20", _VP + " mp4", sizes=_ODD, has_colours=True
    ),
    "vp9-alt-ref": Codec(
        "-c:v libvpx-vp9 -b:v 1M -cpu-used 5 -g 60 -auto-alt-ref 1 -lag-in-frames 16",
        _VP + " mp4",
        sizes=_ODD,
        first_pass=True,
    ),
    "vp9-split": Codec(
        "-c:v libvpx-vp9 -b:v 1M -cpu-used 5 -g 60 -auto-alt-ref 1 -lag-in-frames 16 -bsf:v vp9_superframe_split",
        "webm mkv nut ivf",
        first_pass=True,
    ),
    "vp9-deep": Codec(
        "-c:v libvpx-vp9 -b:v 2M -cpu-used 8 -g 20", "webm mkv mp4", "yuv420p10le yuv422p yuv444p gbrp", sizes=_ODD
    ),
    "vp9-alpha": Codec("-c:v libvpx-vp9 -b:v 2M -cpu-used 8 -auto-alt-ref 0", "webm mkv", "yuva420p"),
    "av1-svt": Codec("-c:v libsvtav1 -preset 12 -crf 20 -g 20", "mp4 mkv webm ivf obu", sizes="96x64 64x64 160x120"),
    "av1-aom": Codec(
        "-c:v libaom-av1 -cpu-used 8 -usage realtime -crf 20 -g 20",
        "mp4 mkv webm ivf obu avi",
        sizes=_ODD,
        has_colours=True,
    ),
    "av1-alt-ref": Codec(
        "-c:v libaom-av1 -cpu-used 8 -crf 20 -g 40 -lag-in-frames 19 -auto-alt-ref 1",
        "mp4 mkv webm ivf obu",
        "yuv420p yuv420p10le",
    ),
    "av1-deep": Codec(
        "-c:v libaom-av1 -cpu-used 8 -usage realtime -crf 20 -g 20", "mp4 mkv webm", "yuv444p yuv422p10le gray"
    ),
    "mpeg4-b": Codec("-c:v mpeg4 -qscale 2 -g 12 -bf 2", _MPEG4, sizes=_ODD),
    "mpeg4-no-b": Codec("-c:v mpeg4 -qscale 2 -g 12", _MPEG4, sizes=_ODD),
    "mpeg4-packed": Codec("-c:v mpeg4 -qscale 2 -g 12 -bf 1 -vtag DX50", "avi"),
    "mpeg4-interlaced": Codec("-c:v mpeg4 -qscale 2 -g 12 -bf 2 -flags +ilme+ildct -top 1", _MPEG4, sizes=_FIELDS),
    "mpeg4-xvid": Codec("-c:v libxvid -qscale 2 -g 12 -bf 2", _MPEG4),
    "mpeg2-b": Codec(
        "-c:v mpeg2video -qscale 2 -g 12 -bf 2", "mpg vob ts m2ts mp4 mov mkv avi nut m2v mxf", has_colours=True
    ),
    "mpeg2-422": Codec("-c:v mpeg2video -qscale 2 -g 12 -bf 2", "ts mkv mov mxf", "yuv422p"),
    "mpeg2-intra": Codec("-c:v mpeg2video -qscale 2 -g 1", "mpg ts mkv mxf", "yuv422p yuv420p"),
    "mpeg2-interlaced": Codec(
        "-c:v mpeg2video -qscale 2 -g 12 -bf 2 -flags +ilme+ildct -top 1", "mpg vob ts mp4 mkv mxf", sizes=_FIELDS
    ),
    "mpeg1": Codec("-c:v mpeg1video -qscale 2 -g 12 -bf 2", "mpg mp4 mkv avi ts m1v"),
    "msmpeg4v2": Codec("-c:v msmpeg4v2 -qscale 2 -g 12", "avi mkv wmv nut"),
    "msmpeg4v3": Codec("-c:v msmpeg4 -qscale 2 -g 12", "avi mkv wmv asf nut"),
    "wmv1": Codec("-c:v wmv1 -qscale 2 -g 12", "wmv asf mkv avi"),
    "wmv2": Codec("-c:v wmv2 -qscale 2 -g 12", "wmv asf mkv avi mov"),
    "h261": Codec("-c:v h261 -qscale 2", "avi mov mkv", sizes="176x144"),
    "h263": Codec("-c:v h263 -qscale 2 -g 12", "3gp avi mov mkv", sizes=_CIF),
    "h263p": Codec("-c:v h263p -qscale 2 -g 12", "avi mov", sizes=_CIF),
    "flv1": Codec("-c:v flv -qscale 2 -g 12", "flv avi mkv"),
    "flashsv": Codec("-c:v flashsv -g 12", "flv avi", "bgr24"),
    "theora": Codec("-c:v libtheora -qscale 9 -g 16", "ogv mkv", "yuv420p yuv444p"),
    "mjpeg": Codec("-c:v mjpeg -qscale 2", "avi mov mkv mp4 nut mjpeg mxf", "yuvj420p yuvj422p yuvj444p", sizes=_ODD),
    "ljpeg": Codec("-c:v ljpeg", "avi mov", "yuvj420p bgr24"),
    "prores": Codec("-c:v prores_ks -profile:v 2", "mov mkv", "yuv422p10le", has_colours=True),
    "prores-alpha": Codec("-c:v prores_ks -profile:v 4", "mov mkv", "yuva444p10le yuv444p10le"),
    "dnxhr": Codec("-c:v dnxhd -profile:v dnxhr_sq", "mov mkv mxf", "yuv422p", sizes="256x120"),
    "dnxhr-deep": Codec("-c:v dnxhd -profile:v dnxhr_hqx", "mov mxf", "yuv422p10le", sizes="256x120"),
    "cineform": Codec("-c:v cfhd", "mov mkv avi", "yuv422p10le gbrp12le", sizes="96x64 160x120"),
    "ffv1": Codec(
        "-c:v ffv1 -level 3 -g 8",
        "mkv avi mov nut",
        "yuv420p yuv422p10le yuv444p16le gray gray16le bgra gbrp10le yuva444p gray10le",
        sizes=_ODD,
    ),
    "huffyuv": Codec("-c:v huffyuv", "avi mkv mov nut", "yuv422p rgb24 bgra"),
    "ffvhuff": Codec("-c:v ffvhuff", "avi mkv nut", "yuv420p yuv444p gray yuv420p10le"),
    "utvideo": Codec("-c:v utvideo", "avi mkv mov", "yuv420p gbrp gbrap yuv422p"),
    "magicyuv": Codec("-c:v magicyuv", "avi mkv", "yuv420p gbrp gray"),
    "png": Codec("-c:v png", "mov mkv avi nut", "rgb24 rgba gray rgb48be pal8 gray16be monob ya8", sizes=_ODD),
    "apng": Codec("-c:v apng -plays 0", "apng", "rgb24 rgba gray", sizes=_ODD),
    "gif": Codec("-c:v gif", "gif", "rgb8 bgr8 gray", sizes=_ODD),
    "qtrle": Codec("-c:v qtrle -g 12", "mov", "rgb24 argb rgb555be", sizes=_ODD),
    "rawvideo": Codec("-c:v rawvideo", ANY, "yuv420p rgb24 yuyv422 uyvy422 bgr24 rgb565le nv12"),
    "y4m": Codec("-c:v wrapped_avframe", "y4m", "yuv420p yuv422p yuv444p gray", sizes=_ODD),
    "y4m-deep": Codec("-c:v wrapped_avframe -strict -1", "y4m", "yuv420p10le gray16le yuv444p12le"),
    "v210": Codec("-c:v v210", "mov avi mkv", "yuv422p10le"),
    "r210": Codec("-c:v r210", "mov", "gbrp10le"),
    "cinepak": Codec("-c:v cinepak -g 12", "avi mov", "rgb24", sizes="96x64 64x48"),
    "dv": Codec("-c:v dvvideo", "avi mov dv mxf", "yuv420p", sizes="720x576"),
    "jpeg2000": Codec("-c:v jpeg2000", "mov mkv mxf", "yuv420p rgb24 yuv422p10le", sizes="64x48"),
    "dirac": Codec("-c:v vc2 -strict -1", "mov mkv ts drc", "yuv420p yuv422p10le", sizes="96x64 160x120"),
    "snow": Codec("-c:v snow -qscale 3", "avi mkv nut", "yuv420p", sizes="96x64 160x120"),
    "svq1": Codec("-c:v svq1 -qscale 2", "mov", "yuv410p", sizes="96x64 160x120"),
    "rv10": Codec("-c:v rv10 -qscale 2 -g 12", "rm", sizes="96x64 160x128"),
    "rv20": Codec("-c:v rv20 -qscale 2 -g 12", "rm", sizes="96x64 160x128"),
    "zmbv": Codec("-c:v zmbv -g 12", "avi mkv", "rgb565le bgr0"),
    "msvideo1": Codec("-c:v msvideo1 -g 12", "avi", "rgb555le", sizes="96x64 64x48"),
    "asv1": Codec("-c:v asv1 -qscale 2", "avi"),
    "hap": Codec("-c:v hap", "mov", "rgba", sizes="96x64 160x120"),
}

# -- timestamps, and which frames are shown ----------------------------------------------------------------------------

_EDITABLE, _JUMPING = "mp4 mov", "mp4 mov mkv webm ts m2ts flv nut"
CLOCKS: dict[str, str | None] = {  # name -> containers; None means all
    "plain": None,
    "ntsc": None,
    "starts-at-100": "mkv webm ts m2ts nut flv mp4 mov mpg vob",
    "starts-below-0": "mkv webm nut mp4 mov",
    "vfr": "mp4 mov mkv webm nut flv wmv asf ts m2ts avi 3gp gif apng ivf ogv",
    "jumps": _JUMPING,
    "twice": "ts m2ts mpg vob mkv webm flv h264 hevc m4v m2v m1v mjpeg obu ogv dv",
    "1-fps": "mp4 mov mkv webm avi ts flv nut wmv 3gp gif apng ivf y4m",
    "1000-fps": "mp4 mov mkv webm avi nut ivf y4m ts",
    "2000-fps": "mp4 mov mkv webm avi nut",
    "coarse": _EDITABLE,
    "cut-by-edit": _EDITABLE,
    "cut-by-copy": "mkv webm ts avi nut flv wmv mpg",
    "early-end": _EDITABLE,
    "two-edits": _EDITABLE,
    "no-edits": _EDITABLE,
    "negative-cts": _EDITABLE,
    "copyts": "mkv mp4 mov ts nut flv",
}
PACKINGS: dict[str, str | None] = {
    "plain": None,
    "faststart": "mp4 mov 3gp",
    "fragments": "mp4 mov",
    "fragment-per-frame": "mp4 mov",
    "dash": "mp4",
    "fragments-from-second": "mp4 mov",
    "big-atoms": "mp4 mov",
    "live": "mkv webm",
    "small-clusters": "mkv webm",
    "cues-first": "mkv webm",
    "block-groups": "mkv webm",
    "mid-gop": "ts",
    "no-duration": "flv",
    "no-index": "avi",
    "small-pages": "ogv",
    "headers-resent": "ts m2ts",
}
AUDIO_CODECS = {
    "mp4": "aac", "mov": "pcm_s16le", "mkv": "ac3", "webm": "libopus", "avi": "mp2", "ts": "mp2", "m2ts": "ac3",
    "mpg": "mp2", "vob": "ac3", "flv": "aac", "wmv": "wmav2", "asf": "wmav2", "ogv": "flac", "3gp": "aac",
    "nut": "mp2", "rm": "ac3",
}  # fmt: skip
SUBTITLE_CODECS = {"mkv": "srt", "mp4": "mov_text", "mov": "mov_text", "webm": "webvtt"}
EXTRAS: dict[str, str | None] = {
    "alone": None,
    "audio": " ".join(AUDIO_CODECS),
    "late-audio": " ".join(set(AUDIO_CODECS) - {"ogv"}),
    "long-audio": " ".join(AUDIO_CODECS),
    "late-picture": "mp4 mov mkv webm ts m2ts avi flv nut",
    "long-subtitles": " ".join(SUBTITLE_CODECS),
    "small-second": "mp4 mov mkv ts nut",
    "large-second": "mp4 mov mkv ts nut",
    "default-second": "mkv mov mp4",
    "cover": "mp4 mkv",
    "time-code": "mov",
}
# x' = a x + c y, y' = b x + d y; y points down (ISO/IEC 14496-12). ORIENTATIONS[name] is (a, b, c, d).
MATRICES: dict[str, tuple[float, float, float, float]] = {
    "clockwise": (0, 1, -1, 0),
    "half-turn": (-1, 0, 0, -1),
    "anticlockwise": (0, -1, 1, 0),
    "mirror": (-1, 0, 0, 1),
    "flip": (1, 0, 0, -1),
    "transpose": (0, 1, 1, 0),
    "antitranspose": (0, -1, -1, 0),
    "doubled": (2, 0, 0, 2),
    "squeezed-clockwise": (0, 0.5, -2, 0),
}
ODD_MATRICES: dict[str, tuple[float, float, float, float]] = {  # none of these may turn the picture
    "zero": (0, 0, 0, 0),
    "singular": (1, 1, 1, 1),
    "by-45": (0.7071, 0.7071, -0.7071, 0.7071),
    "sheared": (1, 0.2, 0, 1),
    "no-height": (1, 0, 0, 0),
}
_TURNABLE = "mp4 mov 3gp"
ORIENTATIONS: dict[str, str | None] = {
    "upright": None,
    **dict.fromkeys([*MATRICES, *ODD_MATRICES], _TURNABLE),
    "movie-clockwise": _TURNABLE,
}
COLOURS = ("unsaid", "bt709", "bt2020", "full-range", "smpte170m")


@dataclass(frozen=True)
class Case:
    """One file: a value for each factor."""

    number: int
    codec: str
    container: str
    pixels: str
    size: str
    frames: int
    clock: str
    packing: str
    orientation: str
    colour: str
    extra: str

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.number:04d}-{self.codec}.{self.container}"

    def __str__(self) -> str:
        values = (self.pixels, self.size, self.frames, self.clock, self.packing, self.orientation, self.colour)
        return " ".join(map(str, (self.name, *values, self.extra)))


_EDITS = "cut-by-edit cut-by-copy early-end two-edits copyts"
_LONG_GOPS = "h264-one-gop hevc-hvc1 vp9-alt-ref av1-alt-ref dv"
UNSUITABLE: tuple[dict[str, str], ...] = (  # values of factors, as patterns, that do not go together
    {"packing": "frag* dash", "clock": f"{_EDITS} jumps no-edits 2000-fps"},
    {"packing": "frag* dash", "extra": "cover time-code"},
    {"packing": "fragment-per-frame", "clock": "vfr"},  # the muxer takes times from the frame before
    {"packing": "fragment-per-frame", "codec": "*jpeg"},  # FFmpeg 8 loses a frame that FFmpeg 5 finds
    {"packing": "fragments-from-second", "extra": "*-second"},
    {"packing": "fragments-from-second", "codec": _LONG_GOPS},
    {"packing": "fragments-from-second", "clock": "1-fps 1000-fps"},
    {"packing": "fragments-from-second", "orientation": "[!u]*"},
    {"packing": "mid-gop", "extra": "*-second"},
    {"packing": "mid-gop", "clock": "[!p]*"},
    {"packing": "live", "extra": "long-subtitles"},
    {"packing": "live", "codec": "av1-*"},
    {"packing": "live", "clock": "1000-fps 2000-fps"},
    {"packing": "[!p]*", "clock": "twice jumps"},
    {"clock": _EDITS, "extra": "late-picture late-audio cover time-code default-second"},
    {"clock": "twice jumps", "extra": "[!a]* a[!l]*"},
    {"clock": "starts-*", "extra": "[!a]*"},
    {"clock": "starts-below-0", "container": "nut"},
    {"clock": "1-fps 1000-fps 2000-fps", "extra": "*-second"},
    {"clock": "2000-fps", "codec": "mpeg*"},
    {"clock": "*-fps", "codec": "mpeg1* mpeg2*"},
    {"clock": "1000-fps 2000-fps", "codec": "av1-svt"},
    {"clock": "*-fps ntsc vfr jumps two-edits cut* copyts", "codec": "dv"},
    {"clock": "two-edits", "codec": "hevc-open-gop hevc-layers"},  # FFmpeg 8 loses frames that FFmpeg 5 finds
    {"clock": "twice", "codec": "theora"},  # FFmpeg 5 reads the first stream of a chain only
    {"clock": "[!pn]*", "extra": "time-code"},
    {"clock": "n[!t]* negative-cts", "extra": "time-code"},
    {"codec": "h261 h263 h263p dnx* dv av1-svt vp8-alt-ref vp9-alt-ref vp9-split", "extra": "*-second"},
    {"codec": "hevc-hvc1 vp8-alt-ref vp9-alt-ref vp9-split", "extra": "cover"},
    # ffmpeg turns the picture before it converts the colours of each field.
    {"codec": "h264-mbaff mpeg4-interlaced mpeg2-interlaced dv", "orientation": "[!u]*"},
    {"container": "avi", "extra": "late-picture"},  # AVI cannot store it
    {"container": "mov", "pixels": "nv12"},
    {"container": "mkv", "codec": "rawvideo", "pixels": "rgb24"},
)
FACTORS = ("codec", "container", "pixels", "size", "clock", "packing", "orientation", "colour", "extra")


def cases(count: int) -> list[Case]:
    """Return `count` different cases, the same ones each time."""
    chosen: list[Case] = []
    covered: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)  # pairs, by codec
    taken: set[tuple[str, ...]] = set()
    names = [*CODECS, *(name for name in CODECS if name.startswith(COMMON))]
    while len(chosen) < count:
        number = len(chosen)
        rng = random.Random(f"{SEED} {number}")
        drawn = [_draw(rng, names[number % len(names)], number) for _ in range(CANDIDATES)]
        fresh = [case for case in drawn if case is not None and _values(case) not in taken]
        if not fresh:  # all combinations of this codec are taken
            names = [name for name in names if name != names[number % len(names)]]
            continue
        best = max(fresh, key=lambda case: len(_pairs(case) - covered[case.codec]))
        covered[best.codec] |= _pairs(best)
        taken.add(_values(best))
        chosen.append(best)
    return chosen


def _values(case: Case) -> tuple[str, ...]:
    return tuple(getattr(case, factor) for factor in FACTORS)


def _pairs(case: Case) -> set[tuple[str, ...]]:
    return {(a, getattr(case, a), b, getattr(case, b)) for a, b in combinations(FACTORS, 2)}


def _draw(rng: random.Random, name: str, number: int) -> Case | None:
    codec = CODECS[name]
    container = rng.choice(codec.containers.split())
    case = Case(
        number=number,
        codec=name,
        container=container,
        pixels=rng.choice(codec.pixels.split()),
        size=rng.choice(codec.sizes.split()),
        frames=12 if name == "dv" else rng.choice([20, 31, 40, 40, 52, 75, 120]),
        clock=_pick(rng, CLOCKS, container, plain=0.35),
        packing=_pick(rng, PACKINGS, container, plain=0.5),
        orientation=_pick(rng, ORIENTATIONS, container, plain=0.4),
        colour="unsaid" if rng.random() < 0.5 else rng.choice(COLOURS),
        extra=_pick(rng, EXTRAS, container, plain=0.4),
    )
    return case if is_sensible(case) else None


def _pick(rng: random.Random, table: dict[str, str | None], container: str, *, plain: float) -> str:
    first, *others = (name for name, which in table.items() if which is None or container in which.split())
    return first if not others or rng.random() < plain else rng.choice(others)


def is_sensible(case: Case) -> bool:
    """Return whether the values of a case make sense together."""
    has_colours = CODECS[case.codec].has_colours and case.pixels.startswith(("yuv4", "yuv2"))
    if case.colour != "unsaid" and not has_colours:
        return False
    return not any(
        all(_matches(getattr(case, factor), patterns) for factor, patterns in rule.items()) for rule in UNSUITABLE
    )


@cache
def _matches(value: str, patterns: str) -> bool:
    return any(fnmatchcase(value, pattern) for pattern in patterns.split())
