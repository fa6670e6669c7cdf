"""What `bike embed` writes: folders of Parquet files, and NumPy files."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from bike_cli.cli.videos.differences import Given
from bike_cli.cli.videos.existing import settings_digest
from bike_cli.config import EmbedConfig
from bike_cli.data.parts.embeddings import DataType, VideoEmbedding
from bike_cli.errors import UsageError
from bike_cli.json_text import JsonObject
from bike_cli.records import Failure, VideoFeatures
from bike_cli.settings import settings_affecting

if TYPE_CHECKING:
    from bike_cli.cli.videos.parts import PartOutput


@dataclass(frozen=True)
class EmbeddingFormat:
    """What all embeddings of a folder have in common."""

    settings: str
    given: Given = Given()

    def check(self, record: JsonObject, *, where: str) -> str:
        """Return nothing: a folder of embeddings names its model once for all records."""
        del record, where
        return ""


def embedding_format(config: EmbedConfig) -> EmbeddingFormat:
    """Return what all embeddings of a run have in common."""
    settings = sampling_settings(config) | {"dtype": config.dtype}
    return EmbeddingFormat(settings_digest((), settings, ""), Given.of((), settings, ""))


def sampling_settings(config: EmbedConfig) -> dict[str, str | int | float | bool | None]:
    """Return the settings that decide which frames are read and how they are encoded, without the model."""
    settings = settings_affecting(config, "pixels", "features")
    return {name: value for name, value in settings.items() if name not in ("model", "dtype")}


class PartEmbeddings:
    """Writes features to a folder of Parquet files."""

    def __init__(self, output: PartOutput) -> None:
        self._output = output
        self._dtype: DataType = "float32"

    def begin(self, model: str, dtype: DataType) -> None:
        """Set the type of the numbers; the output names the model itself."""
        del model
        self._dtype = dtype

    def write(self, record: VideoFeatures | Failure) -> None:
        """Add the embedding of a video, or a failure."""
        from bike_cli.tasks.embed import embedding_of

        self._output.write(record if isinstance(record, Failure) else embedding_of(record, self._dtype))

    def close(self) -> None:
        """Write the last part."""
        self._output.close()


class NumpyEmbeddings:
    """Collects features, and writes them as the arrays of a `.npz` file.

    The arrays are `paths` [V], `embeddings` [V, D], `frames` [V, views, T, D] and `times_s` [V, K, T]; `failed` and
    `errors` for the videos without an embedding; and `model`.

    Args:
        stream: the file.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._model = stream, ""
        self._dtype: DataType = "float32"
        self._videos: list[VideoEmbedding] = []
        self._failures: list[Failure] = []

    def begin(self, model: str, dtype: DataType) -> None:
        """Set the name of the model, and the type of the numbers."""
        self._model, self._dtype = model, dtype

    def write(self, record: VideoFeatures | Failure) -> None:
        """Add the embedding of a video, or a failure."""
        from bike_cli.tasks.embed import embedding_of

        if isinstance(record, Failure):
            self._failures.append(record)
            return
        video = embedding_of(record, self._dtype)
        if self._videos and video.frames.shape != self._videos[0].frames.shape:
            shapes = " and ".join(str(list(found.frames.shape)) for found in (self._videos[0], video))
            problem = f"its frames are {shapes}, which do not fit one array"
            raise UsageError(f"{video.path}: {problem}; write a folder, such as -o embeddings/")
        self._videos.append(video)

    def close(self) -> None:
        """Write the file."""
        videos = self._videos
        write_arrays(
            self._stream,
            paths=np.array([video.path for video in videos], dtype=np.str_),
            embeddings=np.array([video.vector for video in videos], dtype=self._dtype),
            frames=np.array([video.frames for video in videos], dtype=self._dtype),
            times_s=np.array([video.timeline.times_s for video in videos]),
            failed=np.array([failure.source.id for failure in self._failures], dtype=np.str_),
            errors=np.array([failure.message for failure in self._failures], dtype=np.str_),
            model=np.array(self._model),
        )


def write_arrays(stream: BinaryIO, **arrays: NDArray[Any]) -> None:
    """Write arrays as a `.npz` file; NumPy itself would need a stream that it can seek in."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    stream.write(buffer.getvalue())
    stream.flush()


def is_numpy(file: Path) -> bool:
    """Return whether a file is to hold NumPy arrays."""
    return file.suffix.lower() == ".npz"
