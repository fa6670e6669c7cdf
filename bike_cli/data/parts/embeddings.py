"""Embeddings of videos and of labels as Parquet tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from bike_cli.data.parts.folder import PartFolder
from bike_cli.data.parts.tables import read_table, valid_text
from bike_cli.json_text import JsonObject, as_json
from bike_cli.records import Failure, FrameTimes, Source

if TYPE_CHECKING:
    import pyarrow as pa

DataType = Literal["float16", "float32"]


@dataclass(frozen=True, eq=False)
class VideoEmbedding:
    """The embeddings of one video.

    Args:
        path: the video, as the user named it.
        vector: [D], of length 1: its product with a label's is the cosine of mean pooling.
        frames: [views, T, D], raw.
        informed: of the same shape, after the temporal head of the model; None for a model without one.
        timeline: of the frames, [K, T].
    """

    path: str
    vector: NDArray[np.float32]
    frames: NDArray[np.float32]
    informed: NDArray[np.float32] | None
    timeline: FrameTimes


@dataclass(frozen=True)
class EmbeddingTable:
    """The columns of a folder of embeddings.

    Args:
        dim: D, the length of a vector.
        dtype: of the numbers in vectors.
        has_informed: whether the model has a temporal head.
    """

    dim: int
    dtype: DataType
    has_informed: bool = False

    def schema(self) -> pa.Schema:
        """Return the schema of the embeddings of videos."""
        import pyarrow as pa

        vector = self._vector()
        columns = [
            *(("path", pa.string()), ("status", pa.string())),
            ("embedding", vector),
            ("frames", pa.list_(vector)),
            *((("informed", pa.list_(vector)),) if self.has_informed else ()),
            *(("views", pa.int32()), ("times_s", pa.list_(pa.float64())), ("positions", pa.list_(pa.int64()))),
            *(("duration_s", pa.float64()), ("warning", pa.string())),
            *(("error", pa.string()), ("message", pa.string()), ("record", pa.string())),
        ]
        return pa.schema(columns)

    def of_videos(self, records: Sequence[VideoEmbedding | Failure], facts: JsonObject) -> pa.Table:
        """Return the table of videos; one that failed has a row with a vector of zeros.

        Versions of pyarrow before 24 cannot read vectors of fixed size that are null.
        """
        import pyarrow as pa

        schema = self.schema().with_metadata({"bike": json.dumps(dict(facts))})
        rows = [self._failed(record) if isinstance(record, Failure) else self._row(record) for record in records]
        arrays = [pa.array([row.get(field.name) for row in rows], type=field.type) for field in schema]
        return pa.Table.from_arrays(arrays, schema=schema)

    def of_labels(self, labels: Sequence[str], vectors: NDArray[np.float32], facts: JsonObject) -> pa.Table:
        """Return the table of labels and their vectors [C, D], of length 1."""
        import pyarrow as pa

        schema = pa.schema([("label", pa.string()), ("embedding", self._vector())])
        columns = [list(labels), list(vectors.astype(self.dtype))]
        arrays = [pa.array(column, type=field.type) for column, field in zip(columns, schema, strict=True)]
        return pa.Table.from_arrays(arrays, schema=schema.with_metadata({"bike": json.dumps(dict(facts))}))

    def _vector(self) -> pa.DataType:
        import pyarrow as pa

        return pa.list_(pa.float16() if self.dtype == "float16" else pa.float32(), self.dim)

    def _row(self, video: VideoEmbedding) -> dict[str, object]:
        timeline, views = video.timeline, len(video.frames)
        row = {
            "path": valid_text(video.path),
            "status": "ok",
            "embedding": video.vector.astype(self.dtype),
            "frames": list(video.frames.reshape(-1, self.dim).astype(self.dtype)),
            "views": views,
            "times_s": timeline.times_s.ravel().tolist(),
            "positions": None if timeline.positions is None else timeline.positions.ravel().tolist(),
            "duration_s": timeline.duration_s,
            "warning": None if timeline.warning is None else valid_text(timeline.warning),
            "record": as_json(
                {"path": video.path, "status": "ok", "clips": len(timeline.times_s), "warning": timeline.warning}
            ),
        }
        if video.informed is not None:
            row["informed"] = list(video.informed.reshape(-1, self.dim).astype(self.dtype))
        return row

    def _failed(self, failure: Failure) -> dict[str, object]:
        error = {"type": failure.kind, "message": failure.message}
        return {
            "path": valid_text(failure.source.id),
            "status": "error",
            "embedding": np.zeros(self.dim, dtype=self.dtype),
            "error": failure.kind,
            "message": valid_text(failure.message),
            "record": as_json({"path": failure.source.id, "status": "error", "error": error}),
        }


def read_embeddings(folder: PartFolder, part: str) -> Iterator[VideoEmbedding | Failure]:
    """Yield the embeddings in a part, and the failures as they were.

    Raises:
        UsageError: the part cannot be read, or does not hold embeddings.
    """
    columns = ["embedding", "frames", "views", "times_s", "positions", "duration_s", "record"]
    table = read_table(folder, part, columns, optional=["informed"])
    texts = {name: table[name].to_pylist() for name in ("views", "duration_s", "record")}
    clocks = {name: _lists(table, name) for name in ("times_s", "positions")}
    vectors = {name: _vectors(table, name) for name in ("frames", "informed") if name in table.column_names}
    means = table["embedding"]
    for i, text in enumerate(texts["record"]):
        record = json.loads(text)
        if record["status"] != "ok":
            yield Failure(Source.at(record["path"]), record["error"]["type"], record["error"]["message"])
            continue
        views, clips = texts["views"][i], record["clips"]
        times, positions = (clocks[name][i] for name in ("times_s", "positions"))
        timeline = FrameTimes(
            np.asarray(times, dtype=np.float64).reshape(clips, -1),
            None if positions is None else np.asarray(positions, dtype=np.int64).reshape(clips, -1),
            texts["duration_s"][i],
            record["warning"],
        )
        frames, informed = (vectors[name][i] if name in vectors else None for name in ("frames", "informed"))
        assert frames is not None
        yield VideoEmbedding(
            record["path"],
            np.asarray(means[i].as_py(), dtype=np.float32),
            frames.reshape(views, -1, frames.shape[-1]),
            None if informed is None else informed.reshape(views, -1, informed.shape[-1]),
            timeline,
        )


def _lists(table: pa.Table, name: str) -> list[list[float] | None]:
    lists: list[list[float] | None] = table[name].to_pylist()
    return lists


def _vectors(table: pa.Table, name: str) -> list[NDArray[np.float32] | None]:
    """Return the vectors [N, D] in each row of a column; None where a row has none."""
    column = table[name].combine_chunks()
    dim, offsets = column.type.value_type.list_size, column.offsets.to_numpy()
    flat = column.values.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, dim)
    return [flat[start:stop] if stop > start else None for start, stop in pairwise(offsets)]
