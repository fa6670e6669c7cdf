"""A chunk of videos becomes one file, once, whoever asks for it and however often."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import bike_cli as bike
from bike_cli.inference.classifier import Classifier

pq = pytest.importorskip("pyarrow.parquet")

LABELS = ["red square", "blue circle", "green cross"]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return bike.prepare_classifier(bike.load("tiny", "cpu"), LABELS)


@pytest.fixture
def videos(clips: Path) -> list[Path]:
    return [*sorted(clips.iterdir()), clips / "missing.mp4"]


def records(folder: Path) -> list[dict[str, object]]:
    return [json.loads(row["record"]) for row in pq.read_table(folder).to_pylist()]


def test_a_chunk_becomes_one_file(classifier: Classifier, videos: list[Path], tmp_path: Path) -> None:
    part = bike.classify_part(classifier, videos, f"{tmp_path}/out/")

    answers = list(bike.classify_with(classifier, videos))
    assert (part.ok, part.failed, part.is_new) == (3, {"missing": 1}, True)
    assert [file.name for file in (tmp_path / "out").glob("part-*")] == [part.name]
    found = records(tmp_path / "out")
    assert [record["path"] for record in found] == [str(video) for video in videos]
    assert [r.get("label") for r in found] == [
        a.best.label if isinstance(a, bike.Prediction) else None for a in answers
    ]


def test_a_chunk_that_exists_is_not_done_again(classifier: Classifier, videos: list[Path], tmp_path: Path) -> None:
    first = bike.classify_part(classifier, videos, str(tmp_path))
    before = (tmp_path / first.name).stat().st_mtime_ns

    again = bike.classify_part(classifier, [str(video) for video in videos], str(tmp_path))

    assert again == bike.Part(first.name, 3, {"missing": 1}, is_new=False)
    assert (tmp_path / first.name).stat().st_mtime_ns == before


def test_tasks_that_do_the_same_at_the_same_time_make_one_file(
    classifier: Classifier, videos: list[Path], tmp_path: Path
) -> None:
    with ThreadPoolExecutor(4) as tasks:
        chunks = [videos[:2], videos[:2], videos[2:], videos[2:]]
        parts = list(tasks.map(lambda chunk: bike.classify_part(classifier, chunk, str(tmp_path)), chunks))

    assert [part.name for part in parts] == [parts[0].name, parts[0].name, parts[2].name, parts[2].name]
    assert sorted(str(r["path"]) for r in records(tmp_path)) == sorted(str(video) for video in videos)
    assert {file.name[:5] for file in tmp_path.iterdir()} == {"_run.", "part-"}


def test_another_classifier_is_refused(classifier: Classifier, videos: list[Path], tmp_path: Path) -> None:
    bike.classify_part(classifier, videos[:1], str(tmp_path))
    other = bike.prepare_classifier(classifier.engine, LABELS[:2])

    with pytest.raises(bike.UsageError, match=r"contains records with settings .*, and this classifier has"):
        bike.classify_part(other, videos[1:], str(tmp_path))

    assert len(records(tmp_path)) == 1


def test_the_order_of_labels_does_not_matter(classifier: Classifier, videos: list[Path], tmp_path: Path) -> None:
    other = bike.prepare_classifier(classifier.engine, LABELS[::-1])

    assert bike.classify_part(classifier, videos, str(tmp_path)).name == (
        bike.classify_part(other, videos, str(tmp_path)).name
    )


def test_a_single_path_is_a_mistake(classifier: Classifier, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="must be a list"):
        bike.classify_part(classifier, "clip.mp4", str(tmp_path))


def test_eval_reads_the_folder(classifier: Classifier, videos: list[Path], tmp_path: Path) -> None:
    from bike_cli.data.predictions.files import data_files
    from bike_cli.data.predictions.predictions import read_predictions

    bike.classify_part(classifier, videos, str(tmp_path))

    predictions = read_predictions(data_files([str(tmp_path)])[0])

    assert sorted(predictions.videos) == [str(video) for video in videos[:3]]
    assert [failure.kind for failure in predictions.failures] == ["missing"]
