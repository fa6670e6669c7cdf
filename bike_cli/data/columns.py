"""Common names of the columns in tables of videos and labels, in lower case."""

from __future__ import annotations

from collections.abc import Mapping

PATH_COLUMNS = frozenset(
    {"path", "file", "filename", "file_name", "filepath", "file_path", "video", "video_path", "videopath", "clip"}
    | {"video_file"}
)
VIDEO_ID_COLUMNS = frozenset({"youtube_id", "video_id"})  # name a video, but not the file
SPLIT_COLUMNS = frozenset({"split", "subset", "set", "partition", "side"})
CLASS_COLUMNS = frozenset(
    {"label", "class", "class_name", "classname", "label_name", "category", "action", "activity"}  # of one video
)
CLASS_ID_COLUMNS = frozenset(
    {"id", "ids", "index", "idx", "class_id", "classid", "class id", "label_id", "labelid", "label id", "class_index"}
    | {"class_idx", "label_idx", "category_id", "number", "no", "no.", "nr", "#", "target", "class_number"}
)
# fmt: off
CLASS_NAME_COLUMNS = (  # of a list of labels, in order of preference
    "label", "display_name", "name", "class_name", "classname", "class name", "label_name", "class", "category",
    "category_name", "action", "action_name", "action_label", "activity", "title", "text", "names", "labels",
    "classes", "categories", "class_names", "classnames",
)
# fmt: on

DESCRIPTION_COLUMNS = frozenset({"description", "descriptions"})  # of a list of labels

PREDICTED_COLUMNS = CLASS_COLUMNS | {"prediction", "predicted", "predicted_label", "pred"}
SCORE_COLUMNS = frozenset({"score", "confidence", "probability", "prob"})

# The columns of a file of predictions of another program, and their common alternatives.
SIMPLE_COLUMNS: Mapping[str, frozenset[str]] = {
    "path": PATH_COLUMNS,
    "label": PREDICTED_COLUMNS,
    "score": SCORE_COLUMNS,
}

# The columns of a file of labelled videos, and their common alternatives.
LABELLED_COLUMNS: Mapping[str, frozenset[str]] = {"path": PATH_COLUMNS, "label": CLASS_COLUMNS, "split": SPLIT_COLUMNS}

# The columns of a file of segments, and their common alternatives.
SEGMENT_COLUMNS: Mapping[str, frozenset[str]] = {
    "path": PATH_COLUMNS | VIDEO_ID_COLUMNS | {"video-id", "videoid", "video_name"},
    "start_s": frozenset({"start", "start_time", "t_start", "t-start", "begin", "start_sec", "segment_start"}),
    "end_s": frozenset({"end", "end_time", "t_end", "t-end", "stop", "end_sec", "segment_end"}),
    "label": PREDICTED_COLUMNS,
    "score": SCORE_COLUMNS,
    "duration_s": frozenset({"duration", "video_duration", "duration_sec", "duration_second"}),
    "subset": SPLIT_COLUMNS,
}
