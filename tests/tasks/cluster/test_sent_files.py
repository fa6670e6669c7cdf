"""Files of the driver on other machines."""

import itertools
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from small_models import write_tiny

from bike_cli.config import AttributeConfig, ClassifyConfig, EmbedConfig, EngineConfig, SpotConfig
from bike_cli.engine.engine import load
from bike_cli.tasks.cluster import sent_files
from bike_cli.tasks.cluster.sent_files import SentFiles, send_files, with_received_files

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_cluster")]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of another machine."""
    folder = tmp_path / "other machine"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_a_model_is_the_same_after_its_journey(tmp_path: Path, temporary: Path) -> None:
    model = write_tiny(tmp_path / "model")
    (model / "checkpoint.bin").write_bytes(bytes(1000))  # is no part of the model
    config = ClassifyConfig(engine=EngineConfig(model=str(model)))

    received = with_received_files(config, send_files(config)).engine.model

    assert Path(received).is_relative_to(temporary)
    assert not Path(received, "checkpoint.bin").exists()
    assert load(received).fingerprint == load(str(model)).fingerprint


def test_files_are_written_once_for_all_actors_of_a_machine(tmp_path: Path) -> None:
    model = write_tiny(tmp_path / "model")
    config = ClassifyConfig(engine=EngineConfig(model=str(model)))
    sent = send_files(config)
    first = Path(with_received_files(config, sent).engine.model)
    written = (first / "config.json").stat()

    second = Path(with_received_files(config, sent).engine.model)

    assert second == first
    assert (second / "config.json").stat().st_ino == written.st_ino


@pytest.mark.parametrize("damage", ["removed", "cut", "added"])
def test_a_damaged_copy_is_written_again(tmp_path: Path, damage: str) -> None:
    config = ClassifyConfig(engine=EngineConfig(model=str(write_tiny(tmp_path / "model"))))
    sent = send_files(config)
    copy = Path(with_received_files(config, sent).engine.model)
    whole = {file.name: file.read_bytes() for file in copy.iterdir()}
    if damage == "removed":
        (copy / "config.json").unlink()
    elif damage == "cut":
        (copy / "config.json").write_bytes(whole["config.json"][:-1])
    else:
        (copy / "other.json").touch()

    again = Path(with_received_files(config, sent).engine.model)

    assert again == copy
    assert {file.name: file.read_bytes() for file in copy.iterdir()} == whole
    assert unfinished_in(copy.parent) == []


def unfinished_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(".unfinished-*"))


def test_what_killed_actors_left_is_removed(tmp_path: Path, temporary: Path) -> None:
    config = ClassifyConfig(engine=EngineConfig(model=str(write_tiny(tmp_path / "model"))))
    sent = send_files(config)
    top = temporary / f"bike-files-{os.getuid()}"
    top.mkdir(mode=0o700)
    for name in (f".unfinished-{sent[0].digest}-abc", ".unfinished-of-another-new", ".unfinished-of-another-old"):
        (top / name / "files").mkdir(parents=True)
        (top / name / "files" / "half").touch()
    day_before_s = time.time() - 25 * 3600
    os.utime(top / ".unfinished-of-another-old", (day_before_s, day_before_s))

    with_received_files(config, sent)

    assert unfinished_in(top) == [".unfinished-of-another-new"]  # it may be in use


def test_actors_may_write_at_the_same_time_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent_files, "acquire_lock", lambda file: None)
    config = ClassifyConfig(engine=EngineConfig(model=str(write_tiny(tmp_path / "model"))))
    sent = send_files(config)
    both_look = threading.Barrier(2, timeout=60)
    look, looks = sent_files._is_whole, itertools.count()

    def look_together(folder: Path, files: SentFiles) -> bool:
        is_whole = look(folder, files)
        if next(looks) < 2:
            both_look.wait()
        return is_whole

    monkeypatch.setattr(sent_files, "_is_whole", look_together)

    with ThreadPoolExecutor(2) as threads:
        copies = list(threads.map(lambda _: with_received_files(config, sent).engine.model, range(2)))

    assert copies[0] == copies[1]
    assert next(looks) == 3  # one found the place taken
    assert load(copies[0]).fingerprint == load(config.engine.model).fingerprint
    assert unfinished_in(Path(copies[0]).parent) == []


def test_another_content_is_another_copy(tmp_path: Path) -> None:
    template = tmp_path / "templates.txt"
    config = ClassifyConfig(template=str(template))
    copies = []
    for text in ("a video of {}", "a film of {}"):
        template.write_text(text)
        copy = with_received_files(config, send_files(config)).template
        assert copy is not None
        copies.append(Path(copy))

    assert [copy.read_text() for copy in copies] == ["a video of {}", "a film of {}"]


def test_names_of_what_comes_with_bike_stay_as_they_are(tmp_path: Path) -> None:
    lexicon = tmp_path / "phrases.txt"
    lexicon.write_text("a ball\n")
    config = ClassifyConfig(
        engine=EngineConfig(model="tiny"), template="bike", attributes=AttributeConfig(attributes=str(lexicon))
    )

    received = with_received_files(config, send_files(config))

    assert (received.engine.model, received.template) == ("tiny", "bike")
    assert Path(received.attributes.attributes).read_text() == "a ball\n"
    assert received.attributes.attributes != str(lexicon)


def test_every_command_sends_the_files_that_its_settings_name(tmp_path: Path, temporary: Path) -> None:
    model = str(write_tiny(tmp_path / "model"))
    lexicon, template = tmp_path / "phrases.txt", tmp_path / "templates.txt"
    lexicon.write_text("a ball\n")
    template.write_text("a film of {}\n")
    spot = SpotConfig(engine=EngineConfig(model=model), attributes=str(lexicon), template=str(template))
    embed = EmbedConfig(engine=EngineConfig(model=model))

    spot_there = with_received_files(spot, send_files(spot))
    embed_there = with_received_files(embed, send_files(embed))

    assert spot_there.engine.model == embed_there.engine.model
    assert Path(embed_there.engine.model).is_relative_to(temporary)
    assert Path(spot_there.attributes).is_relative_to(temporary)
    assert Path(spot_there.attributes).read_text() == "a ball\n"
    assert spot_there.template is not None
    assert Path(spot_there.template).read_text() == "a film of {}\n"
