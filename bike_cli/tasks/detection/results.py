"""Detected segments as results of the ActivityNet challenge."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from bike_cli.data.detection.matching import video_id
from bike_cli.errors import UsageError
from bike_cli.records import Failure, Timeline

CHALLENGE_VERSION = "VERSION 1.3"  # of ActivityNet


class ChallengeSegment(TypedDict):
    """One detected segment: its label, its score, and its start and end in seconds."""

    label: str
    score: float
    segment: list[float]


class ExternalData(TypedDict):
    """Whether a system learned from other data than that of the challenge, and from which."""

    used: bool
    details: str


class ChallengeResults(TypedDict):
    """The detected segments of videos by their ids."""

    version: str
    results: dict[str, list[ChallengeSegment]]
    external_data: ExternalData


def activitynet_results(answers: Iterable[Timeline | Failure]) -> ChallengeResults:
    """Return the answers of `bike_cli.spot` as the JSON document that the ActivityNet challenge takes.

    The id of a video is the name of its file without `v_` and the extension. A video that failed is left out, as the
    challenge has no place for failures; one without a segment has an empty list.

    Source: activitynet/ActivityNet, Evaluation/data/sample_detection_prediction.json.

    Raises:
        UsageError: two videos have the same id.
    """
    results: dict[str, list[ChallengeSegment]] = {}
    paths: dict[str, str] = {}
    models: dict[str, None] = {}
    for answer in answers:
        if isinstance(answer, Failure):
            continue
        path, id_ = answer.source.id, video_id(answer.source.id)
        if id_ in paths:
            raise UsageError(f"{path}: has the id {id_!r}, like {paths[id_]}; rename one, or give each its own run")
        paths[id_] = path
        models[answer.model] = None
        results[id_] = [
            {"label": found.label, "score": found.score, "segment": [found.start_s, found.end_s]}
            for found in answer.segments
        ]
    external: ExternalData = {"used": True, "details": ", ".join(models)}
    return {"version": CHALLENGE_VERSION, "results": results, "external_data": external}
