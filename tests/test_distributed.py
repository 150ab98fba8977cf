import numpy as np
import torch

import processes
from lapis import distributed


def test_one_process_is_the_identity():
    rows = torch.randn(3, 2)
    assert distributed.gather(rows) is rows
    assert (distributed.rank(), distributed.world_size(), distributed.is_running()) == (0, 1, False)
    distributed.barrier()


def _gradient_of_a_sum() -> float:
    rows, others = torch.ones(1, 1, requires_grad=True), torch.ones(1, 1, requires_grad=True)
    (distributed.gather(rows) + distributed.gather(others)).sum().backward()
    return rows.grad.item()


def test_a_gradient_that_is_shared_is_reduced_once():
    assert processes.run(_gradient_of_a_sum) == [2.0, 2.0]


def _gathered_with_gradient(counts: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    rank = distributed.rank()
    rows = (torch.arange(counts[rank] * 2, dtype=torch.float32).reshape(-1, 2) + 10 * rank).requires_grad_()
    everything = distributed.gather(rows)
    weights = torch.arange(everything.numel(), dtype=torch.float32).reshape(everything.shape)
    (everything * weights * (rank + 1)).sum().backward()
    return everything.detach().numpy(), rows.grad.numpy()


def test_gather_brings_uneven_rows_and_true_gradients():
    counts = (3, 1)
    answers = processes.run(_gathered_with_gradient, counts)
    expected = np.array([[0, 1], [2, 3], [4, 5], [10, 11]], dtype=np.float32)
    for everything, _ in answers:
        np.testing.assert_array_equal(everything, expected)
    # Process r weighs by (r + 1), so a row's true gradient is (1 + 2) times its weight.
    weights = np.arange(8, dtype=np.float32).reshape(4, 2) * 3
    np.testing.assert_array_equal(np.concatenate([gradient for _, gradient in answers]), weights)
