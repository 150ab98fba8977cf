"""Trackers get the numbers of every step; a service that is not there is refused before anything is begun."""

import sys

import pytest

from lapis import recipe as recipes
from lapis.train import trackers
from lapis.train.trackers import TensorBoard, Tracker, open_tracker


def _open(track, folder, *, step=0):
    return open_tracker(track, folder=folder, name="test", step=step, recipe={"name": "test", "seed": 0})


def _points(folder, name):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {point.step: point.value for point in events.Scalars(name)}


def test_tensorboard_has_the_numbers_and_strikes_out_what_is_taken_again(tmp_path):
    board = TensorBoard(tmp_path, step=0)
    for step in (1, 2, 3):
        board.log({"loss/contrast": 0.5 * step}, step=step)
    board.close()
    again = TensorBoard(tmp_path, step=1)
    again.log({"loss/contrast": 8.0}, step=2)
    again.close()
    assert _points(tmp_path, "loss/contrast") == {1: 0.5, 2: 8.0}


@pytest.mark.parametrize("track", ["wandb", "trackio"])
def test_a_service_that_is_not_installed_is_refused_before_anything_is_begun(track, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, track, None)
    with pytest.raises(
        ValueError, match=rf"tracking with {track} needs an extra: pip install 'lapis-audio\[{track}\]'"
    ):
        recipes.run(recipes.find("pocket"), folder=tmp_path / "run", track=track)
    assert not (tmp_path / "run").exists()


def test_an_unknown_service_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(ValueError, match="track must be one of 'wandb', 'trackio', got 'mlflow'"):
        recipes.run(recipes.find("pocket"), folder=tmp_path / "run", track="mlflow")
    assert not (tmp_path / "run").exists()


def test_a_run_that_goes_on_is_the_same_one_and_a_new_one_is_not(tmp_path):
    path = tmp_path / trackers.ID_NAME
    first = trackers._number(path, new=True)
    assert trackers._number(path, new=False) == first
    assert trackers._number(path, new=True) != first
    path.unlink()  # of a run that began without a service
    assert trackers._number(path, new=False) == trackers._number(path, new=False)


def test_wandb_keeps_a_run_offline_in_its_folder(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    tracker = _open("wandb", tmp_path)
    assert isinstance(tracker, Tracker)
    tracker.log({"loss/contrast": 0.5}, step=1)
    tracker.close()
    number = (tmp_path / trackers.ID_NAME).read_text().strip()
    assert list((tmp_path / "wandb").glob(f"offline-run-*-{number}/run-{number}.wandb"))


def test_trackio_keeps_a_run_on_this_machine_and_goes_on_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    for step in (0, 1):
        tracker = _open("trackio", tmp_path, step=step)
        tracker.log({"loss/contrast": 0.5 + step}, step=step + 1)
        tracker.close()
    name = f"test-{(tmp_path / trackers.ID_NAME).read_text().strip()}"
    logged = SQLiteStorage.get_logs(trackers.PROJECT, name)
    assert [(line["step"], line["loss/contrast"]) for line in logged] == [(1, 0.5), (2, 1.5)]
