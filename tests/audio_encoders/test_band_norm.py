"""Dasheng's batch norm over bands: frames of several processes are one batch."""

import numpy as np
import pytest
import torch
from torch import nn

import processes
from lapis import distributed
from lapis.audio_encoders.dasheng import BandNorm

FRAMES = (np.random.default_rng(0).normal(-30.0, 20.0, (60, 8)) + np.arange(8)).astype(np.float32)
SHARES = {1: (60,), 2: (17, 43), 4: (1, 20, 30, 9)}


def _step(momentum: float | None) -> dict[str, np.ndarray]:
    """Two batches through a norm that learns its scale, by a loss over the frames of all processes."""
    shares = SHARES[distributed.world_size()]
    begin = sum(shares[: distributed.rank()])
    norm = BandNorm(8, momentum=momentum).train()
    for batch in (FRAMES, FRAMES * 0.5):
        own = torch.from_numpy(batch[begin : begin + shares[distributed.rank()]])
        answers = distributed.gather(norm(own))
        (answers.pow(3).sum() / len(answers)).backward()
    state = {name: tensor.numpy().copy() for name, tensor in norm.state_dict().items()}
    gradient = norm.weight.grad / distributed.world_size()  # DDP takes the mean
    if distributed.is_running():
        gradient = distributed.gather(gradient[None]).sum(0)
    return state | {"answers": answers.detach().numpy(), "gradient": gradient.numpy()}


@pytest.mark.parametrize("momentum", [0.01, None])
def test_one_process_is_the_batch_norm_of_the_library(momentum):
    ours, theirs = BandNorm(8, momentum=momentum).train(), nn.BatchNorm1d(8, momentum=momentum).train()
    frames = torch.from_numpy(FRAMES)
    assert torch.equal(ours(frames), theirs(frames))
    assert torch.equal(ours.running_var, theirs.running_var)


@pytest.mark.parametrize("world_size", [2, 4])
def test_several_processes_are_one_batch(world_size):
    for momentum in (0.01, None):
        wanted = _step(momentum)
        for found in processes.run(_step, momentum, world_size=world_size):
            for name, value in wanted.items():
                np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
