"""`bike embed`: embeddings of videos and labels, which classify without the videos as the videos themselves do."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from invoke import Ran, bike
from small_models import tiny_checkpoint, write_tiny

import bike_cli
from bike_cli.config import EmbedConfig, SamplingConfig
from bike_cli.engine.models.folder import save_folder
from bike_cli.errors import ExitCode, UsageError
from bike_cli.records import Failure, VideoFeatures

pq = pytest.importorskip("pyarrow.parquet")

pytestmark = pytest.mark.usefixtures("one_store_for_all")
LABELS = "red square,blue circle,green cross"


@pytest.fixture
def videos(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of three films and one that is no film, in the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(clips, tmp_path / "clips")
    Path("clips/text.mp4").write_text("no video")
    return Path("clips")


def loaded(file: str) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def embed(*arguments: object, output: object = "embedded/") -> Ran:
    return bike("embed", "-m", "tiny", *arguments, "-o", output)


def relabel(*arguments: object) -> Ran:
    return bike("classify", "--from-embeddings", "embedded/", "-L", LABELS, "-f", "jsonl", *arguments)


def classify(*arguments: object) -> Ran:
    return bike("classify", "clips", "-m", "tiny", "-L", LABELS, "-f", "jsonl", *arguments)


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--frames", "4", "--clips", "2", "--crops", "3"],
        ["--precision", "bf16"],
        ["--sampling", "keyframe"],
    ],
)
def test_labels_of_embeddings_are_those_of_the_videos(videos: Path, flags: list[str]) -> None:
    embed(videos, *flags)

    again, read = relabel("--explain"), classify("--explain", *flags)

    assert (again.exit_code, read.exit_code) == (ExitCode.SOME_FAILED, ExitCode.SOME_FAILED)
    assert again.stdout == read.stdout
    assert len(again.stdout.splitlines()) == 4


def test_embeddings_are_read_without_the_videos(videos: Path) -> None:
    embed(videos)
    read = classify()
    shutil.rmtree(videos)

    assert relabel().stdout == read.stdout


def test_a_model_with_a_temporal_head_is_read_back(videos: Path) -> None:
    save_folder(Path("headed"), tiny_checkpoint())
    bike("embed", videos, "-m", "headed", "-o", "embedded/")
    read = bike("classify", "clips", "-m", "headed", "-L", LABELS, "-f", "jsonl")

    assert relabel().stdout == read.stdout
    assert pq.read_schema(next(Path("embedded").glob("part-*"))).field("informed").type.value_type.list_size == 48


def test_the_embedding_is_the_mean_of_its_frames(videos: Path) -> None:
    embed(videos / "red_square.mp4")

    (row,) = pq.read_table("embedded").to_pylist()

    frames = np.array(row["informed"], dtype=np.float64)  # the bundled model has a temporal head
    mean = frames.mean(axis=0) / np.linalg.norm(frames.mean(axis=0))
    assert frames.shape == (8, 96)
    np.testing.assert_allclose(row["embedding"], mean, atol=1e-6)
    assert (row["path"], row["status"], row["views"]) == ("clips/red_square.mp4", "ok", 1)
    assert len(row["times_s"]) == 8
    assert row["duration_s"] == pytest.approx(2.0, abs=0.1)


def test_the_nearest_label_is_the_answer(videos: Path) -> None:
    embed(videos)
    embed("-L", LABELS, output="texts/")

    rows = [row for row in pq.read_table("embedded").to_pylist() if row["status"] == "ok"]
    texts = pq.read_table("texts").to_pylist()
    scores = np.array([r["embedding"] for r in rows]) @ np.array([t["embedding"] for t in texts]).T

    nearest = [texts[i]["label"] for i in scores.argmax(axis=1)]
    assert nearest == [Path(row["path"]).stem.replace("_", " ") for row in rows]
    answers = [json.loads(line) for line in classify("--pool", "mean").stdout.splitlines()]
    cosines = [answer["top"][0]["cosine"] for answer in answers if answer["status"] == "ok"]
    np.testing.assert_allclose(scores.max(axis=1), cosines, atol=2e-6)


def test_float16_takes_half_the_space_and_changes_scores_little(videos: Path) -> None:
    embed(videos, "--dtype", "float16")

    again, read = relabel("-k", "3"), classify("-k", "3")

    types = {str(pq.read_schema(file).field("embedding").type) for file in Path("embedded").glob("part-*")}
    assert types == {"fixed_size_list<element: halffloat>[96]"}
    for one, other in zip(again.stdout.splitlines(), read.stdout.splitlines(), strict=True):
        a, b = json.loads(one), json.loads(other)
        assert a.get("label") == b.get("label")
        assert a.get("cosine", 0) == pytest.approx(b.get("cosine", 0), abs=1e-3)


def test_a_numpy_file_has_the_same_numbers(videos: Path) -> None:
    embed(videos)
    ran = embed(videos, output="embedded.npz")

    rows = pq.read_table("embedded").to_pylist()
    arrays = loaded("embedded.npz")
    good = [row for row in rows if row["status"] == "ok"]
    assert ran.exit_code == ExitCode.SOME_FAILED
    assert arrays["paths"].tolist() == [row["path"] for row in good]
    np.testing.assert_array_equal(arrays["embeddings"], np.array([r["embedding"] for r in good], dtype=np.float32))
    np.testing.assert_array_equal(arrays["frames"][:, 0], np.array([r["frames"] for r in good], dtype=np.float32))
    assert arrays["times_s"].shape == (3, 1, 8)
    assert arrays["failed"].tolist() == ["clips/text.mp4"]
    assert arrays["errors"][0].startswith("clips/text.mp4: ")
    assert str(arrays["model"]) == "tiny"


def test_labels_as_a_numpy_file(videos: Path) -> None:
    embed("-L", LABELS, output="texts.npz")

    arrays = loaded("texts.npz")
    assert arrays["labels"].tolist() == LABELS.split(",")
    np.testing.assert_allclose(np.linalg.norm(arrays["embeddings"], axis=1), 1, atol=1e-6)


def test_labels_that_are_replaced_are_named(videos: Path) -> None:
    first, second = (embed("-L", labels, output="texts/") for labels in ("a,b", "c"))

    assert "warning" not in first.stderr
    assert "warning: texts/labels.parquet: exists and is replaced" in second.stderr
    assert pq.read_table("texts")["label"].to_pylist() == ["c"]


def test_other_readers_can_tell_failures_from_embeddings(videos: Path) -> None:
    pandas, duckdb = pytest.importorskip("pandas"), pytest.importorskip("duckdb")
    embed(videos)

    everything = pandas.read_parquet("embedded/").set_index("path")
    kept = pandas.read_parquet("embedded/", filters=[("status", "==", "ok")])
    norms = duckdb.sql(
        "SELECT path, status, sqrt(list_inner_product(embedding, embedding)), frames IS NULL AND times_s IS NULL "
        "FROM 'embedded/*.parquet'"
    ).fetchall()

    assert sorted(kept.path) == [f"clips/{name}.mp4" for name in ("blue_circle", "green_cross", "red_square")]
    failed = everything.loc["clips/text.mp4"]
    assert (failed.status, failed.error, failed.frames, failed.times_s) == ("error", "not_video", None, None)
    assert not np.any(failed.embedding)
    for path, status, norm, is_without_frames in norms:
        is_failed = path == "clips/text.mp4"
        assert (status, is_without_frames) == ("error" if is_failed else "ok", is_failed)
        assert norm == pytest.approx(0 if is_failed else 1, abs=1e-6)


def test_a_failure_keeps_its_kind_and_message(videos: Path) -> None:
    embed(videos)
    (row,) = [row for row in pq.read_table("embedded").to_pylist() if row["status"] != "ok"]
    assert (row["embedding"], row["frames"]) == ([0.0] * 96, None)

    again = [json.loads(line) for line in relabel().stdout.splitlines()]
    read = [json.loads(line) for line in classify().stdout.splitlines()]

    assert [r.get("error") for r in again] == [r.get("error") for r in read]
    assert [r["error"]["type"] for r in again if "error" in r] == ["not_video"]


def test_shards_and_further_runs_add_to_a_folder(videos: Path) -> None:
    for i in (1, 2):
        embed(videos, "--shard", f"{i}/2")
    ran = embed(videos)

    assert "nothing left to do, 4 records exist" in ran.stderr
    again, read = (sorted(ran.stdout.splitlines()) for ran in (relabel(), classify()))
    assert again == read


def test_a_shard_of_embeddings_is_classified(videos: Path) -> None:
    embed(videos)

    halves = [relabel("--shard", f"{i}/2").stdout.splitlines() for i in (1, 2)]

    assert sorted([*halves[0], *halves[1]]) == sorted(classify().stdout.splitlines())


def test_answers_for_embeddings_are_resumed(videos: Path) -> None:
    embed(videos)
    classify(videos / "red_square.mp4", "-o", "answers.jsonl")

    ran = relabel("-o", "answers.jsonl", "--resume")

    assert "nothing left to do" in ran.stderr


def test_other_settings_are_refused(videos: Path) -> None:
    embed(videos)

    ran = embed(videos, "--frames", "4")

    assert ran.exit_code == ExitCode.USAGE
    assert "embedded/: was made with other settings, which change embeddings" in ran.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--frames", "4"], "--frames is 4, and the embeddings in embedded/ were computed with 8; leave --frames out"),
        (["--attribute-model", "tiny"], "--attribute-model: embedded/ contains the embeddings of one model; leave"),
        (["clips"], "--from-embeddings: videos were given, too; leave one of them out"),
    ],
)
def test_what_embeddings_cannot_answer_is_refused(videos: Path, flags: list[str], message: str) -> None:
    embed(videos)

    ran = relabel(*flags)

    assert ran.exit_code == ExitCode.USAGE
    assert message in ran.stderr


def test_a_classifier_for_other_frames_is_named(videos: Path) -> None:
    Path("labelled.csv").write_text("path,label\nclips/red_square.mp4,red\nclips/blue_circle.mp4,blue\n")
    Path("test.csv").write_text("path,label\nclips/green_cross.mp4,red\n")
    fewshot = ("fewshot", "labelled.csv", "--test", "test.csv", "-m", "tiny", "--shots", 1)
    assert bike(*fewshot, "--save", "saved.bike").exit_code == ExitCode.DONE
    embed(videos, "--frames", "4")

    ran = bike("classify", "--from-embeddings", "embedded/", "--classifier", "saved.bike")

    assert ran.exit_code == ExitCode.USAGE
    assert "saved.bike: its --frames is 8, and the embeddings in embedded/ were computed with 4; give" in ran.stderr


def test_another_model_is_refused(videos: Path) -> None:
    embed(videos)
    write_tiny(Path("other"), scale=2)

    ran = relabel("-m", "other")

    assert ran.exit_code == ExitCode.USAGE
    assert "embedded/: contains embeddings of the model tiny (digest" in ran.stderr
    assert "give the model that computed them" in ran.stderr


def test_a_file_is_not_a_folder_of_embeddings(videos: Path) -> None:
    ran = bike("classify", "--from-embeddings", videos / "red_square.mp4", "-L", LABELS)

    assert ran.exit_code == ExitCode.USAGE
    assert "red_square.mp4: is a file; give a folder that bike embed -o wrote" in ran.stderr


def test_embeddings_of_a_run_that_has_not_ended_are_classified_with_a_warning(videos: Path) -> None:
    unfinished = "embedded/: the run that embeds its videos has not ended"
    embed(videos, "--shard", "2/2")

    assert unfinished in relabel().stderr

    embed(videos, "--shard", "1/2")
    assert unfinished not in relabel().stderr

    Path("embedded/_done-1-of-2.json").unlink()
    ran = relabel()
    assert unfinished in ran.stderr
    assert ran.exit_code == ExitCode.SOME_FAILED  # text.mp4 is not a video


def test_a_folder_without_embeddings_is_refused(videos: Path) -> None:
    classify("-f", "parquet", "-o", "embedded")

    for ran in (relabel(), bike("classify", "--from-embeddings", "clips", "-L", LABELS)):
        assert ran.exit_code == ExitCode.USAGE
        assert "contains no embeddings; give a folder that bike embed -o wrote" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clips"], "-o: missing; name a folder for Parquet files, such as -o embeddings/, or a file .npz"),
        (["clips", "-o", "a.csv"], "-o a.csv: is named like a file, and Parquet is written to a folder; rename it"),
        (["clips", "-o", "a.txt", "-f", "npz"], "-o a.txt: is not named like a NumPy file; end the name in .npz"),
        (
            ["clips", "-o", "s3://b/a.npz"],
            "take only folders of Parquet files; name one, such as s3://bucket/embeddings/\n",
        ),
        (["clips", "-o", "clips/"], "clips/: contains other files"),
        (["clips", "-o", "-"], "-o '-': is not the name of a folder; name one, such as -o embeddings/"),
        (["clips", "-o", "a/", "-L", "a,b"], "labels: videos were given, too; embed labels in a run of their own"),
        (["-o", "a/"], "videos: missing"),
        (["clips", "-o", "a.npz", "--resume"], "--resume: continues a folder, not a .npz file; name one, such as -o"),
    ],
)
def test_wrong_use_is_refused(videos: Path, arguments: list[str], message: str) -> None:
    ran = bike("embed", "-m", "tiny", *arguments)

    assert ran.exit_code == ExitCode.USAGE
    assert message in ran.stderr


def test_the_library_embeds_and_classifies(videos: Path) -> None:
    engine = bike_cli.load("tiny", "cpu")
    files = sorted(videos.iterdir())

    features = list(bike_cli.embed(engine, files, EmbedConfig()))

    assert [type(found) for found in features] == [VideoFeatures, VideoFeatures, VideoFeatures, Failure]
    answers = list(bike_cli.classify(engine, features, LABELS.split(",")))
    read = list(bike_cli.classify(engine, files, LABELS.split(",")))
    assert [answer.ranked for answer in answers[:3]] == [answer.ranked for answer in read[:3]]  # type: ignore[union-attr]
    embed(videos)
    again = list(bike_cli.read_embeddings("embedded/"))
    assert all(torch.equal(a.frames, b.frames) for a, b in zip(again[:3], features[:3], strict=True))  # type: ignore[union-attr]


def test_a_single_path_is_a_mistake(videos: Path) -> None:
    with pytest.raises(TypeError, match="must be a list"):
        bike_cli.embed(bike_cli.load("tiny", "cpu"), "clips/red_square.mp4")


def test_too_many_frames_for_the_model_are_refused_at_once(videos: Path) -> None:
    save_folder(Path("headed"), tiny_checkpoint())
    config = EmbedConfig(sampling=SamplingConfig(frames=1000))
    with pytest.raises(UsageError, match="has positions for"):
        bike_cli.embed(bike_cli.load("headed", "cpu"), [], config)
