"""`kill -9` in mid-run, then `--resume`: the remaining losses are exactly those of a run that was never stopped."""

import os
import signal
import subprocess
import sys
import time

import pytest

from lapis.train.report import read_log

SETTINGS = (
    "model.audio.width=24",
    "model.audio.depth=3",
    "model.audio.heads=2",
    "model.audio.hidden=24",
    "budget.clips=6",
    "training.steps=14",
    "training.save_every=4",
    "checks=[]",
    "threads=1",
)


def _start(folder, *, workers, resume=False, processes=1):
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] * (processes > 1)
    command = [sys.executable, *torchrun, "-m", "lapis.cli", "train", "pocket", "--out", str(folder), "--device", "cpu"]
    command += ["--set", *SETTINGS, f"reading.workers={workers}"] + ["--resume"] * resume
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def _finish(process):
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()


def _losses(folder):
    return [
        (line["step"], line["losses"], line["clips"]) for line in read_log(folder / "log.jsonl") if "losses" in line
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    _finish(_start(folder, workers=0))
    return _losses(folder)


@pytest.mark.parametrize(("workers", "workers_after"), [(0, 0), (1, 1), (3, 3), (3, 0), (0, 1)])
def test_killed_and_resumed_equals_uninterrupted(whole, tmp_path, workers, workers_after):
    process = _start(tmp_path, workers=workers)
    deadline = time.monotonic() + 100
    while len(_losses(tmp_path)) < 6:
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read().decode()
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    killed_after = len(_losses(tmp_path))
    assert 6 <= killed_after < 14
    _finish(_start(tmp_path, workers=workers_after, resume=True))
    assert _losses(tmp_path) == whole


def test_control_c_to_all_processes_of_a_terminal_saves_and_goes_on_exactly(whole, tmp_path):
    """The workers get the signal too; none of them may break off within a file."""
    process = _start(tmp_path, workers=2)
    deadline = time.monotonic() + 100
    while len(_losses(tmp_path)) < 6:
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read().decode()
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _finish(process)
    assert len(_losses(tmp_path)) < 14
    _finish(_start(tmp_path, workers=2, resume=True))
    assert _losses(tmp_path) == whole


def test_sigterm_to_torchrun_stops_all_processes_with_a_checkpoint(tmp_path):
    process = _start(tmp_path, workers=1, processes=2)
    deadline = time.monotonic() + 200
    while len(_losses(tmp_path)) < 6:
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read().decode()
        time.sleep(0.02)
    process.terminate()
    process.communicate(timeout=60)
    stopped = len(_losses(tmp_path))
    assert 6 <= stopped < 14 and (tmp_path / f"checkpoint-{stopped:08d}.pt").exists()
    _finish(_start(tmp_path, workers=0, resume=True, processes=2))
    assert [step for step, _, _ in _losses(tmp_path)] == list(range(1, 15))
    assert {clips for _, _, clips in _losses(tmp_path)} == {12}
    assert (tmp_path / "model.safetensors").exists()


def test_several_processes_without_torchrun_are_refused(tmp_path):
    command = [sys.executable, "-m", "lapis.cli", "train", "pocket", "--out", str(tmp_path), "--device", "cpu"]
    answer = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"WORLD_SIZE": "2"}, check=False)
    assert answer.returncode == 2 and "RANK is not: start several processes with torchrun" in answer.stderr
