"""`-o s3://bucket/answers/`: folders of records in an object store."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from invoke import Ran, bike
from object_stores import BUCKET, ObjectStore, running_store

from bike_cli.errors import ExitCode

pytest.importorskip("pyarrow")
pytest.importorskip("moto")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_store_for_all")]
LABELS = "red square,blue circle,green cross"
OUT = f"s3://{BUCKET}/answers/of today/"


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    with running_store() as running:
        yield running


@pytest.fixture
def store(server: ObjectStore, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """An object store with the three clips under `clips/`, and nothing else; it is that of the environment."""
    for listed in server.client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        server.client.delete_object(Bucket=BUCKET, Key=listed["Key"])
    for clip in clips.iterdir():
        server.put(f"clips/{clip.name}", clip.read_bytes())
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return server


def classify(*arguments: object, output: str = OUT) -> Ran:
    return bike("classify", f"s3://{BUCKET}/clips/", "-m", "tiny", "-L", LABELS, "-o", output, *arguments)


def keys(store: ObjectStore, prefix: str = "answers/") -> list[str]:
    return sorted(o["Key"] for o in store.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", []))


def records(store: ObjectStore) -> list[str]:
    import io

    import pyarrow.parquet as pq

    parts = [key for key in keys(store) if key.endswith(".parquet")]
    bodies = [store.client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in parts]
    return sorted(row["record"] for body in bodies for row in pq.read_table(io.BytesIO(body)).to_pylist())


def test_records_are_those_of_json_lines(store: ObjectStore) -> None:
    ran = classify()
    classify(output="whole.jsonl")

    assert ran.exit_code == ExitCode.DONE
    assert records(store) == sorted(Path("whole.jsonl").read_text().splitlines())
    assert len(records(store)) == 3
    assert {Path(key).name[:5] for key in keys(store)} == {"_run.", "_done", "part-"}


def test_shards_share_a_folder_and_a_second_run_does_nothing(store: ObjectStore) -> None:
    for i in (1, 2):
        classify("--shard", f"{i}/2")
    before = keys(store)

    ran = classify()

    assert "nothing left to do, 3 records exist" in ran.stderr
    assert [key for key in keys(store) if "part-" in key] == [key for key in before if "part-" in key]


def test_other_settings_are_refused(store: ObjectStore) -> None:
    classify()

    ran = classify("--frames", "4")

    assert ran.exit_code == ExitCode.USAGE
    assert "was made with other labels or settings" in ran.stderr


def test_embeddings_and_their_answers(store: ObjectStore) -> None:
    embedded = f"s3://{BUCKET}/answers/embedded/"
    bike("embed", f"s3://{BUCKET}/clips/", "-m", "tiny", "-o", embedded)

    again = bike("classify", "--from-embeddings", embedded, "-L", LABELS, "-f", "jsonl")
    read = bike("classify", f"s3://{BUCKET}/clips/", "-m", "tiny", "-L", LABELS, "-f", "jsonl")

    assert again.stdout == read.stdout
    assert len(again.stdout.splitlines()) == 3


def test_eval_reads_a_folder(store: ObjectStore) -> None:
    classify()
    names = {"red_square": "red square", "blue_circle": "blue circle", "green_cross": "red square"}
    rows = [f"s3://{BUCKET}/clips/{name}.mp4,{label}\n" for name, label in names.items()]
    Path("truth.csv").write_text("".join(["path,label\n", *rows]))
    Path("names.txt").write_text(LABELS.replace(",", "\n"))

    ran = bike("eval", OUT, "--labels", "truth.csv", "--names", "names.txt", "-o", "report.json")

    assert ran.exit_code == ExitCode.DONE, ran.stderr
    assert json.loads(Path("report.json").read_text())["data"]["videos"] == 3


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("s3://no-such-bucket/answers/", "no such bucket"),
        (f"s3://{BUCKET}/clips/", f"s3://{BUCKET}/clips/: contains other files (first blue_circle.mp4)"),
    ],
)
def test_a_place_that_cannot_be_used_is_refused(store: ObjectStore, output: str, message: str) -> None:
    ran = classify(output=output)

    assert ran.exit_code == ExitCode.USAGE
    assert message in ran.stderr


def test_eval_names_a_folder_without_records(store: ObjectStore) -> None:
    Path("truth.csv").write_text("path,label\na.mp4,red\n")

    ran = bike("eval", f"s3://{BUCKET}/clips/", "--labels", "truth.csv")

    assert ran.exit_code == ExitCode.USAGE
    assert f"s3://{BUCKET}/clips/: contains no _run.json, so it is no folder of records" in ran.stderr
