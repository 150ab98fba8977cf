"""A learner in several processes: copies whose gradients are averaged (DDP), or one that is spread over them (FSDP2).

Either way only what passes through the engine's `forward` is kept in step, and the learner is all of it.
"""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from lapis import distributed
from lapis.layers.pooling import SemanticPooling
from lapis.layers.transformer import Block
from lapis.model import JointModel
from lapis.objectives.learner import Learner


class Engine:
    """What the loop calls in place of the learner: the same losses, with gradients of all processes."""

    def __init__(self, learner: Learner, *, sharded: bool = False) -> None:
        """With `sharded`, weights, gradients and optimiser state are spread: the learner's parameters are replaced."""
        self.learner, self.sharded = learner, sharded and distributed.is_running()
        self.waited = Waited(next(learner.parameters()).device)
        self.forward: nn.Module = learner
        if self.sharded:
            _shard(learner)
        elif distributed.is_running():
            self.forward = _replicate(learner, self.waited)

    @contextmanager
    def exchange(self, *, last: bool) -> Iterator[None]:
        """Of the batches of a step only the last exchanges gradients; before it they are added up in each process."""
        if isinstance(self.forward, nn.parallel.DistributedDataParallel) and not last:
            with self.forward.no_sync():
                yield
            return
        if self.sharded:
            self.learner.set_requires_gradient_sync(last)  # type: ignore[attr-defined]  (FSDP2 adds it)
        yield

    def clip(self, most: float) -> float:
        """Scale the gradient down to the norm `most` where it is longer; returns its norm before."""
        if not self.sharded:
            return float(nn.utils.clip_grad_norm_(self.learner.parameters(), most))
        # Spread and whole gradients cannot stand in one sum; FSDP2 leaves the whole ones to us.
        spread, whole = _spread_and_whole(self.learner)
        for parameter in whole:
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= distributed.world_size()
        norms = [nn.utils.get_total_norm([p.grad for p in part if p.grad is not None]) for part in (spread, whole)]
        norm = torch.stack([norm.full_tensor() if isinstance(norm, DTensor) else norm for norm in norms]).norm()
        for part in (spread, whole):
            nn.utils.clip_grads_with_norm_(part, most, norm)
        return float(norm)

    def after_step(self, *, step: int) -> None:
        """Move what has no gradient: running statistics are averaged, then objectives move theirs."""
        if distributed.is_running():
            _average_statistics(self.learner)
        self.learner.after_step(step=step)

    def whole_model(self) -> JointModel:
        """The model with all its weights, to be measured or written by the first process; all processes must ask."""
        if not self.sharded:
            return self.learner.model
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        state = get_model_state_dict(self.learner.model, options=StateDictOptions(full_state_dict=True))
        if distributed.rank() != 0:
            return self.learner.model
        with torch.random.fork_rng():
            model = self.learner.model.config.build()
        model.load_state_dict(state)
        return model.to(self.learner.model.device)

    def whole_objectives(self) -> dict[str, Tensor]:
        """All tensors of the objectives, to be written by the first process; all processes must ask."""
        if not self.sharded:
            return self.learner.objectives.state_dict()
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        options = StateDictOptions(full_state_dict=True)
        return get_model_state_dict(self.learner.objectives, options=options)  # type: ignore[return-value]


class Waited:
    """How long the last backward pass waited for other processes after all of its own gradients were there."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._ready: float | torch.cuda.Event = 0.0
        self._end: float | torch.cuda.Event = 0.0

    def hook(
        self,
        group: dist.ProcessGroup | None,
        bucket: dist.GradBucket,  # type: ignore[reportPrivateImportUsage]  (where its documentation names it)
    ) -> torch.futures.Future[Tensor]:
        """Average a bucket of gradients over the processes, noting when it was ready."""
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

        self._ready = self._now()
        return allreduce_hook(group, bucket)  # type: ignore[arg-type]  (None is the group of all)

    def end(self) -> None:
        """The backward pass has ended."""
        self._end = self._now()

    def seconds(self) -> float:
        """Between the last bucket and the end, once the device has come there; 0 where nothing is exchanged."""
        if isinstance(self._ready, torch.cuda.Event) and isinstance(self._end, torch.cuda.Event):
            self._end.synchronize()
            return self._ready.elapsed_time(self._end) / 1000
        if isinstance(self._ready, float) and isinstance(self._end, float) and self._ready:
            return self._end - self._ready
        return 0.0

    def _now(self) -> float | torch.cuda.Event:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def _replicate(learner: Learner, waited: Waited) -> nn.parallel.DistributedDataParallel:
    # A recipe may leave parts of a tower without a gradient (a mask embedding, a pooling), and which ones may change.
    # Buffers are left alone: running statistics are averaged after the step, others are equal by construction.
    warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
    # torch 2.13 advises to keep it until there is another way not to send buffers round at the start.
    warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated", category=FutureWarning)
    engine = nn.parallel.DistributedDataParallel(learner, find_unused_parameters=True, broadcast_buffers=False)
    engine.register_comm_hook(None, waited.hook)
    return engine


def _shard(learner: Learner) -> None:
    """Every transformer block is gathered when it is used; what stands outside of blocks, at the step's beginning."""
    mesh = init_device_mesh(next(learner.parameters()).device.type, (distributed.world_size(),))
    scalars = {parameter for parameter in learner.parameters() if parameter.ndim == 0}  # have no rows to be spread
    # The semantic pooling calls the parts of its block one by one, past the block's own forward.
    apart = {
        block for pooling in learner.modules() if isinstance(pooling, SemanticPooling) for block in pooling.modules()
    }
    for block in [module for module in learner.modules() if isinstance(module, Block) and module not in apart]:
        fully_shard(block, mesh=mesh)
    fully_shard(learner, mesh=mesh, reshard_after_forward=False, ignored_params=scalars)


def _spread_and_whole(learner: Learner) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    parameters = list(learner.parameters())
    return [p for p in parameters if isinstance(p, DTensor)], [p for p in parameters if not isinstance(p, DTensor)]


def _average_statistics(learner: Learner) -> None:
    """Batch norms have seen different clips in each process; their running statistics become the mean of all."""
    for module in learner.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training and module.track_running_stats:
            for statistic in (module.running_mean, module.running_var):
                assert statistic is not None
                dist.all_reduce(statistic)
                statistic.div_(distributed.world_size())
