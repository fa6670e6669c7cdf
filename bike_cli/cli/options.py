"""Flags that commands share. What a flag is when not given stands in `config.py`; here it is None."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from bike_cli.config import ClassifyConfig, Decoder, Pool, Precision, Sampling, Spot
from bike_cli.settings import flatten

Format = Literal["table", "jsonl", "json", "csv", "tsv"]

DEFAULTS = flatten(ClassifyConfig())


def fields_of(config: type) -> list[str]:
    """Return the names of all values of a config, which are those of its command's flags."""
    return list(flatten(config()))


MODEL, FRAMES, DECODING, TEXTS = "Model", "Frames", "Decoding and cache", "Labels and scores"
DATA, LEARNING, OUTPUT = "Data", "Learning", "Output"


def _default(name: str) -> str:
    return str(DEFAULTS[name])


Videos = Annotated[
    list[str] | None,
    typer.Argument(help="Videos, folders (searched through), globs, frame folders; - reads paths from stdin."),
]
LabelFile = Annotated[
    Path | None,
    typer.Option("-l", "--labels", help="Labels, one per line; # comments; or CSV id,name.", show_default=False),
]
LabelList = Annotated[
    str | None, typer.Option("-L", metavar="A,B,…", help="Labels, separated by commas.", show_default=False)
]
ClassifierFile = Annotated[
    Path | None,
    typer.Option(
        "--classifier",
        help="A classifier that bike fewshot --save kept: its labels, its model, its settings.",
        show_default=False,
    ),
]
Also = Annotated[
    str | None,
    typer.Option(
        "--also",
        metavar="A,B,…",
        help="Labels beside a classifier's own, which the text alone tells.",
        show_default=False,
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Do one of N parts of the videos, from 1/N to N/N; give each its own -o.",
        show_default=False,
    ),
]
Nul = Annotated[
    bool, typer.Option("-0", help="Paths on stdin, or of --files-from, end with NUL, as find -print0 writes them.")
]
FilesFrom = Annotated[
    Path | None,
    typer.Option("--files-from", help="Read paths from this file, one per line; - is stdin.", show_default=False),
]

Model = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        help="Alias, ARCH,TAG of open_clip, a file or a folder; see bike models.",
        show_default=_default("model"),
        rich_help_panel=MODEL,
    ),
]
Device = Annotated[
    str | None,
    typer.Option("--device", help="auto, cuda, cuda:1, mps, cpu.", show_default="auto", rich_help_panel=MODEL),
]
PrecisionOption = Annotated[
    Precision | None,
    typer.Option("--precision", help="auto: half on CUDA, fp32 elsewhere.", show_default="auto", rich_help_panel=MODEL),
]
Offline = Annotated[
    bool | None,
    typer.Option("--offline", help="Never touch the network.", show_default=False, rich_help_panel=MODEL),
]

Compile = Annotated[
    bool | None,
    typer.Option(
        "--compile",
        help="Compile the image tower: half a minute at the start, faster after.",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]

Frames = Annotated[
    int | None,
    typer.Option("--frames", help="Frames read from a clip.", show_default=_default("frames"), rich_help_panel=FRAMES),
]
Clips = Annotated[
    int | None,
    typer.Option("--clips", help="Clips in time, averaged.", show_default=_default("clips"), rich_help_panel=FRAMES),
]
Crops = Annotated[
    int | None,
    typer.Option("--crops", help="Crops of a frame: 1 or 3.", show_default=_default("crops"), rich_help_panel=FRAMES),
]
SamplingOption = Annotated[
    Sampling | None,
    typer.Option(
        "--sampling",
        help="uniform: the exact frames; keyframe: keyframes near them, much faster; dense: 128 neighbours a clip.",
        show_default=_default("sampling"),
        rich_help_panel=FRAMES,
    ),
]
Draft = Annotated[
    bool | None,
    typer.Option(
        "--draft",
        help="Skip frames that no other needs, and the loop filter: faster, a little off.",
        show_default=False,
        rich_help_panel=FRAMES,
    ),
]
PoolOption = Annotated[
    Pool | None,
    typer.Option(
        "--pool",
        help="tcs: the label weighs the frames; mean: all alike.",
        show_default=_default("pool"),
        rich_help_panel=FRAMES,
    ),
]
SpotOption = Annotated[
    Spot | None,
    typer.Option(
        "--spot",
        help="What weighs the frames: the label's words, the end of text, or all positions as official BIKE.",
        show_default="the model's own",
        rich_help_panel=FRAMES,
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        help="Sharpness of spotting; smaller is sharper.",
        show_default="the model's own",
        rich_help_panel=FRAMES,
    ),
]

DecoderOption = Annotated[
    Decoder | None,
    typer.Option(
        "--decoder",
        help="auto: the fastest that reads a file exactly.",
        show_default=_default("decoder"),
        rich_help_panel=DECODING,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", help="Processes that decode.", show_default="one a core", rich_help_panel=DECODING),
]
DecodeTimeout = Annotated[
    float | None,
    typer.Option(
        "--decode-timeout",
        metavar="SECONDS",
        help="A video that takes longer fails.",
        show_default=_default("decode_timeout"),
        rich_help_panel=DECODING,
    ),
]
DecodeMemory = Annotated[
    int | None,
    typer.Option(
        "--decode-memory",
        metavar="MIB",
        help="A video that takes more memory fails.",
        show_default=_default("decode_memory"),
        rich_help_panel=DECODING,
    ),
]
Cache = Annotated[
    bool | None,
    typer.Option(
        "--cache/--no-cache",
        help="Keep what the model saw, so that other labels need no decoding.",
        show_default="on",
        rich_help_panel=DECODING,
    ),
]
CacheDir = Annotated[
    str | None,
    typer.Option(
        "--cache-dir", help="Where it is kept.", show_default="the user's cache folder", rich_help_panel=DECODING
    ),
]

Template = Annotated[
    str | None,
    typer.Option(
        "--template",
        help="bike, class, action, a file of templates, or a text with {} in it; several are averaged.",
        show_default="the model's own",
        rich_help_panel=TEXTS,
    ),
]
Attributes = Annotated[
    str | None,
    typer.Option(
        "--attributes",
        help="Lexicon of words to see in a video: auto (the model's own), off, a name, a file.",
        show_default=_default("attributes"),
        rich_help_panel=TEXTS,
    ),
]
AttributeWeight = Annotated[
    float | None,
    typer.Option(
        "--attribute-weight",
        help="How much attributes count, 0 to 1.",
        show_default="0; 0.3 from a trained branch or an --attribute-model",
        rich_help_panel=TEXTS,
    ),
]
AttributeModel = Annotated[
    str | None,
    typer.Option(
        "--attribute-model",
        help="A second, stronger model that sees the attributes.",
        show_default=False,
        rich_help_panel=TEXTS,
    ),
]
AttributeCount = Annotated[
    int | None,
    typer.Option(
        "--attribute-count",
        help="Attributes a video.",
        show_default=_default("attribute_count"),
        rich_help_panel=TEXTS,
    ),
]

Top = Annotated[
    int | None,
    typer.Option("-k", "--top", help="Labels a video.", show_default=_default("top"), rich_help_panel=OUTPUT),
]
Explain = Annotated[
    bool | None,
    typer.Option("--explain", help="Show the frames that decided.", show_default=False, rich_help_panel=OUTPUT),
]
FormatOption = Annotated[
    Format | None,
    typer.Option(
        "-f",
        "--format",
        help="How answers are written.",
        show_default="table on a terminal, else jsonl",
        rich_help_panel=OUTPUT,
    ),
]
OutputFile = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        help="Write to this file, which appears when it is complete; its ending tells the format.",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on with the -o file: do what it does not hold yet.", rich_help_panel=OUTPUT),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Stop at the first failure, with exit code 3.", rich_help_panel=OUTPUT)
]
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", help="No progress, no warnings; errors stay.", rich_help_panel=OUTPUT)
]
Verbose = Annotated[
    int,
    typer.Option(
        "-v",
        "--verbose",
        count=True,
        metavar="",
        help="Log to stderr what was chosen and how long it took; -vv logs more.",
        show_default=False,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", help="YAML; flags and BIKE_* variables win over it.", show_default=False, rich_help_panel=OUTPUT
    ),
]
DumpConfig = Annotated[
    bool,
    typer.Option("--dump-config", help="Print the configuration and stop.", rich_help_panel=OUTPUT),
]
NamesFile = Annotated[
    Path | None,
    typer.Option(
        "-l",
        "--labels",
        help="CSV name,label: how the model shall read class names; id,name for a list file.",
        show_default="playing_guitar → playing guitar",
        rich_help_panel=DATA,
    ),
]
Root = Annotated[
    Path | None,
    typer.Option(
        "--root", help="Folder that paths in a file begin at.", show_default="the file's own", rich_help_panel=DATA
    ),
]
Shots = Annotated[
    str | None,
    typer.Option(
        "--shots", metavar="K,…", help="Videos a class to learn from.", show_default="1, 2, 4, 8, 16 as far as data go"
    ),
]
MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="NAME,…",
        help="probe, proto, tip or all of these; bike trains the image tower. Zero-shot is always reported.",
        show_default="probe",
        rich_help_panel=LEARNING,
    ),
]
Trials = Annotated[int | None, typer.Option("--trials", help="Draws.", show_default="3", rich_help_panel=LEARNING)]
Seed = Annotated[int | None, typer.Option("--seed", help="Of the draws.", show_default="0", rich_help_panel=LEARNING)]
