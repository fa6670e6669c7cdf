"""What a user asks `bike spot` for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bike_cli.cli.flags import Flags
from bike_cli.cli.spot.writers import Format, check_format_of_name, format_of
from bike_cli.cli.terminal.targets import check_target, ending
from bike_cli.cli.videos.cluster import ClusterVideosRequest, adapt_to_cluster
from bike_cli.cli.videos.existing import ExistingRecords
from bike_cli.cli.videos.request import configure
from bike_cli.config import SpotConfig, flag
from bike_cli.config.fields import OUTPUT, check_not_below
from bike_cli.errors import UsageError
from bike_cli.wording import count

PAGE_SUFFIXES = {".html", ".htm"}


@dataclass(frozen=True, kw_only=True)
class SpotRequest(ClusterVideosRequest):
    """Which videos and labels, and what is written."""

    format: Format | None = flag(
        "-f",
        "--format",
        default=None,
        panel=OUTPUT,
        default_text="by the name of -o; else a table on a terminal, jsonl elsewhere",
        help="Output format; parquet writes a folder.",
    )
    report: Path | None = flag(
        "--report",
        default=None,
        panel=OUTPUT,
        help="Also write a page to look at: timelines, and pictures of segments.",
    )
    cut: Path | None = flag(
        "--cut",
        default=None,
        panel=OUTPUT,
        metavar="FOLDER",
        help="Cut a clip for each segment into this folder, without encoding: it begins at the keyframe before.",
    )
    cut_exact: bool = flag(
        "--cut-exact", default=False, panel=OUTPUT, help="Encode the clips of --cut again, so that they begin exactly."
    )
    margin: float = flag(
        "--margin",
        default=0.0,
        panel=OUTPUT,
        metavar="SECONDS",
        help="Seconds to add at both ends of the clips of --cut.",
    )
    force: bool = flag("--force", default=False, panel=OUTPUT, help="Let --cut replace clips that exist.")

    @property
    def output_format(self) -> Format:
        """The format of the output."""
        return "parquet" if self.writes_parts else format_of(self.format, self.output)

    def check(self, format_: Format) -> None:
        """Raise UsageError for flags that do not fit each other, or names that cannot be written."""
        self.check_target(format_, example="found.jsonl")
        if self.output is not None:
            check_format_of_name(self.format, self.output)
        for given, name in ((self.cut_exact, "--cut-exact"), (self.margin, "--margin"), (self.force, "--force")):
            if given and self.cut is None:
                raise UsageError(f"{name}: is about the clips of --cut; add --cut FOLDER, or leave it out")
        check_not_below(0, margin=self.margin)
        if self.report is not None:
            if ending(self.report) not in PAGE_SUFFIXES:
                raise UsageError(f"--report {self.report}: is written as HTML; end its name in .html")
            if self.resume:
                raise UsageError("--report: shows the videos of one run; leave --resume out, or run without --report")
            check_target(self.report, [path for path in (self.labels, self.classifier) if path is not None])

    def check_report(self, existing: ExistingRecords) -> None:
        """Raise UsageError if the page would show only some of the videos in the folder of `-o`."""
        n_records = existing.kept.total
        if self.report is not None and n_records:
            problem = (
                f"shows the videos of one run, and {self.target} contains {count(n_records, 'record')} of earlier runs"
            )
            raise UsageError(f"--report: {problem}; choose another -o, or run without --report")


def configure_spot(flags: Flags, request: SpotRequest) -> tuple[SpotConfig, SpotRequest]:
    """Return the configuration, whose defaults are those of a classifier or trained model, and the request with it."""
    config, request = configure(SpotConfig, flags, request, ignored=("attributes",))
    return adapt_to_cluster(config, flags, request), request
