"""`bike eval`: the protocols of the official code on films, in this process with the bundled model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from films import drawn, write_video
from invoke import Ran, bike

import bike_cli
from bike_cli.errors import ExitCode

pytestmark = pytest.mark.usefixtures("one_store_for_all")

GOLDEN = Path(__file__).parents[4] / "shared" / "golden"
SPLITS = (
    {"red square": 0, "blue circle": 1, "green cross": 2},
    {"blue square": 0, "red square": 1, "green circle": 2},
    {"green cross": 0, "blue square": 1, "red cross": 2, "blue cross": 3},
)


def evaluated(*arguments: object) -> Ran:
    return bike("eval", "-m", "tiny", "--frames", "4", "--resamples", "20", *arguments)


def read(file: Path) -> dict[str, object]:
    result: dict[str, object] = json.loads(file.read_text())
    return result


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[Path]]:
    """BIKE's lists of three splits with their names, ids of each its own; every other film shows another class."""
    folder = tmp_path_factory.mktemp("k600")
    given, names = [], []
    for i, ids in enumerate(SPLITS):
        rows = []
        for label, id_ in ids.items():
            for n in range(2):
                shown = list(ids)[(id_ + 1) % len(ids)] if n and id_ == i else label
                film = f"{label.replace(' ', '_')}{n}_{i}.mp4"
                write_video(folder / film, np.roll(drawn(shown, frames=8), 5 * n, axis=1))
                rows.append(f"{film} {id_}")
        given.append(folder / f"split{i}.txt")
        given[-1].write_text("\n".join(rows))
        names.append(folder / f"labels_split{i}.csv")
        names[-1].write_text("\n".join(["id,name", *(f"{id_},{label}" for label, id_ in ids.items())]))
    return given, names


def flags(names: list[Path]) -> list[object]:
    return [part for file in names for part in ("--labels", file)]


# -- Kinetics-600 ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_splits_as_distributed_have_the_figures_of_a_run_each(
    lists: tuple[list[Path], list[Path]], tmp_path: Path
) -> None:
    given, names = lists
    asked = ("--official", "--clips", "2", "-o")
    ran = evaluated(
        *given, *flags(names), "--protocol", "k600", *asked, tmp_path / "k600.json", "--report", tmp_path / "r.html"
    )
    alone = []
    for i in range(3):
        assert evaluated(given[i], "-l", names[i], *asked, tmp_path / f"{i}.json").exit_code == ExitCode.DONE
        alone.append(read(tmp_path / f"{i}.json")["systems"][0])  # type: ignore[index]

    assert (ran.exit_code, ran.stderr) == (ExitCode.DONE, "")
    result = read(tmp_path / "k600.json")
    assert result["data"]["classes"] == 7  # type: ignore[index]
    for row, one in zip(result["splits"], alone, strict=False):  # type: ignore[call-overload]
        assert row["official"] == pytest.approx(one["official"])
        assert row["metrics"]["top1"] == pytest.approx(one["metrics"]["top1"]["value"])
    official = result["systems"][0]["official"]  # type: ignore[index]
    assert official["splits_top1"] == pytest.approx(np.mean([one["official"]["top1"] for one in alone]))
    assert official["splits_top1_std"] == pytest.approx(np.std([one["official"]["top1"] for one in alone]))
    assert 0 < official["splits_top1"] < 1
    rows = [line for line in ran.stdout.splitlines() if line.lstrip().startswith("official code")]
    assert len(rows) == 4
    assert rows[-1].split("official code")[1].split()[:3] == [
        f"{100 * official['splits_top1']:.1f}",
        "±",
        f"{100 * official['splits_top1_std']:.1f}",
    ]
    assert "top-1 on splits" in ran.stdout
    assert "official top-1 on splits" in (tmp_path / "r.html").read_text()


@pytest.mark.slow
def test_splits_are_repeated_with_their_names_files(lists: tuple[list[Path], list[Path]], tmp_path: Path) -> None:
    given, names = lists
    file = tmp_path / "k600.json"
    assert evaluated(*given, *flags(names), "--protocol", "k600", "-o", file).exit_code == ExitCode.DONE
    assert read(file)["arguments"]["labels"] == [str(name) for name in names]  # type: ignore[index]

    again = bike("eval", "--from", file)

    assert (again.exit_code, "the metrics agree" in again.stderr) == (ExitCode.DONE, True)


@pytest.mark.parametrize("count", [2, 4])
def test_labels_are_one_file_or_one_for_each_list(count: int, lists: tuple[list[Path], list[Path]]) -> None:
    given, names = lists

    ran = evaluated(*given, *flags((names * 2)[:count]), "--protocol", "k600")

    assert ran.exit_code == ExitCode.USAGE
    assert f"--labels: there are {count} files for 3 lists; give one for all, or one for each" in ran.stderr


def test_few_shots_and_predictions_have_one_file_of_labels(
    lists: tuple[list[Path], list[Path]], tmp_path: Path
) -> None:
    given, names = lists
    predicted = tmp_path / "p.jsonl"
    predicted.write_text('{"path": "a.mp4", "status": "ok"}\n')

    few, result = evaluated(given[0], *flags(names), "--protocol", "fewshot"), bike("eval", predicted, *flags(names))

    assert (few.exit_code, result.exit_code) == (ExitCode.USAGE, ExitCode.USAGE)
    assert "--labels: the protocol fewshot has one data set, and 3 files were named; name one" in few.stderr
    assert "--labels: predictions have one file of true labels, and 3 files were named; name one" in result.stderr


def test_no_output_may_be_one_of_the_names_files(lists: tuple[list[Path], list[Path]]) -> None:
    given, names = lists
    before = names[1].read_text()

    ran = evaluated(*given, *flags(names), "--protocol", "k600", "-o", names[1])

    assert ran.exit_code == ExitCode.USAGE
    assert names[1].read_text() == before


# -- keyframes ------------------------------------------------------------------------------------------------------


def test_videos_of_different_numbers_of_frames_have_official_figures(tmp_path: Path) -> None:
    for label, times in (("red square", 1), ("blue circle", 80)):  # one keyframe, and some
        folder = tmp_path / "data" / label
        folder.mkdir(parents=True)
        write_video(folder / "a.mp4", np.concatenate([drawn(label, frames=8)] * times))

    ran = evaluated(
        *(tmp_path / "data", "--sampling", "keyframe", "--protocol", "zeroshot-full", "--official"),
        *("-o", tmp_path / "r.json"),
    )

    assert ran.exit_code == ExitCode.DONE
    assert read(tmp_path / "r.json")["systems"][0]["official"].keys() == {"top1", "top5"}  # type: ignore[index]


# -- attributes -----------------------------------------------------------------------------------------------------


def test_attributes_that_count_are_fused_as_the_official_code_does(
    lists: tuple[list[Path], list[Path]], tmp_path: Path
) -> None:
    """Again from what `classify` tells: cosines of all labels, and phrases, which become a sentence."""
    given, names = lists
    labels, videos = list(SPLITS[2]), [line.rsplit(" ", 1) for line in given[2].read_text().split("\n")]
    asked = ("--attributes", "shapes", "--attribute-weight", "0.5")
    assert evaluated(given[2], "-l", names[2], "--official", *asked, "-o", tmp_path / "r.json").exit_code == 0

    paths = [given[2].parent / name for name, _ in videos]
    result = bike("classify", "-m", "tiny", "--frames", "4", "-k", "9", "-L", ",".join(labels), *asked, *paths).records
    engine = bike_cli.load("tiny")
    with torch.no_grad():
        sentences = ["This is a video about " + ",".join(a["phrase"] for a in one["attributes"]) for one in result]  # type: ignore[attr-defined]
        texts = engine.encode_texts(sentences, positions="eot").classes
        classes = engine.encode_texts([f"This is a video about {label}" for label in labels], positions="eot").classes
        unit = torch.nn.functional.normalize
        attributes = (unit(texts.double()) @ unit(classes.double()).T).softmax(dim=1)
    cosines = [{t["label"]: t["cosine"] for t in one["top"]} for one in result]  # type: ignore[attr-defined]
    video = torch.tensor([[one[label] for label in labels] for one in cosines]).softmax(dim=1)
    truth = torch.tensor([int(id_) for _, id_ in videos])

    def share(scores: torch.Tensor) -> float:
        return float((scores.argmax(dim=1) == truth).double().mean())

    official = read(tmp_path / "r.json")["systems"][0]["official"]  # type: ignore[index]
    assert official["top1"] == pytest.approx(share(video))
    assert official["attributes_top1"] == pytest.approx(share(attributes))
    assert official["fused_top1"] == pytest.approx(share(0.7 * video + 0.3 * attributes))


def test_attributes_that_do_not_count_have_no_figure(lists: tuple[list[Path], list[Path]], tmp_path: Path) -> None:
    given, names = lists

    assert evaluated(given[0], "-l", names[0], "--official", "-o", tmp_path / "r.json").exit_code == ExitCode.DONE

    assert read(tmp_path / "r.json")["systems"][0]["official"].keys() == {"top1", "top5"}  # type: ignore[index]


def test_attributes_that_count_are_refused_where_the_official_code_has_none(
    lists: tuple[list[Path], list[Path]],
) -> None:
    given, names = lists
    asked = ("--official", "--protocol", "zeroshot-full", "--attributes", "shapes", "--attribute-weight", "0.5")

    ran = bike("eval", "-m", "no-such-model", given[0], "-l", names[0], *asked)

    assert ran.exit_code == ExitCode.USAGE
    assert "--official: the official code has no attributes in the protocol zeroshot-full" in ran.stderr


@pytest.mark.skipif(not GOLDEN.exists(), reason="the official code's checkpoints are not here")
def test_a_trained_branch_counts_unasked_and_is_refused_before_a_video_is_read(
    lists: tuple[list[Path], list[Path]],
) -> None:
    given, names = lists
    branch = GOLDEN / "bike_tiny_attributes_checkpoint.pt"
    asked = ("--attributes", "shapes", "--official", "--no-cache")

    ran = bike("eval", "-m", branch, given[0], "-l", names[0], "--protocol", "zeroshot-full", *asked)

    assert ran.exit_code == ExitCode.USAGE
    assert "but their weight is 0.3; leave it out, or give --attribute-weight 0" in ran.stderr


# -- ActivityNet ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def activitynet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Annotations of four films; and one of two labels, one of none and one that no file can be named by."""
    folder = tmp_path_factory.mktemp("anet")
    database = {}
    for i, label in enumerate(["red square", "blue circle", "red square", "blue circle"]):
        write_video(folder / f"v_{i}.mp4", drawn(label, frames=8 + i))
        database[str(i)] = {"subset": "validation", "annotations": [{"label": label}]}
    write_video(folder / "v_two.mp4", drawn("red square", frames=12))
    database["two"] = {"subset": "validation", "annotations": [{"label": "red square"}, {"label": "blue circle"}]}
    database["none"] = {"subset": "validation", "annotations": []}
    database["\ud800"] = {"subset": "validation", "annotations": [{"label": "red square"}]}
    database["test"] = {"subset": "testing", "annotations": []}
    file = folder / "activity_net.v1-3.min.json"
    file.write_text(json.dumps({"database": database}))
    return file


def test_one_record_holds_no_others_back(activitynet: Path, tmp_path: Path) -> None:
    outputs = ("-o", tmp_path / "r.json", "--report", tmp_path / "r.html")

    ran = evaluated(activitynet, "--protocol", "anet", "--official", *outputs)

    assert ran.exit_code == ExitCode.SOME_FAILED
    result = read(tmp_path / "r.json")
    assert result["data"]["videos"] == 5  # type: ignore[index]
    assert [one["type"] for one in result["data"]["failed"]] == ["no_label", "no_name"]  # type: ignore[index]
    assert result["systems"][0]["metrics"]["top1"]["value"] == 1  # type: ignore[index]
    assert [one["videos"] for one in result["systems"][0]["per_class"]] == [2, 3]  # type: ignore[index]
    assert result["systems"][0]["official"].keys() == {"top1", "top5", "map"}  # type: ignore[index]
    assert "1 video with several labels, first " in ran.stderr
    assert "v_two.mp4; only the first label counts" in ran.stderr
    assert "video none: has no label; annotate it; 1 video left out" in ran.stderr
    assert "has an id that cannot be a file name; fix it; 1 video left out" in ran.stderr
    assert "2 videos failed" in ran.stdout


def test_a_subset_without_labels_says_so(activitynet: Path) -> None:
    ran = bike("eval", "-m", "no-such-model", activitynet, "--subset", "testing", "--protocol", "anet")

    assert ran.exit_code == ExitCode.USAGE
    assert "the subset 'testing' has no labels; choose validation" in ran.stderr
