"""Requests that wait at the same time go through the tower together.

Nothing waits for company: the first goes at once, and those who come while the tower is busy go with each other. A
vector does not depend on its neighbours, so each gets what it would get alone.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Float

from lapis.shapes import Vectors

T = TypeVar("T")
R = TypeVar("R")
Observe = Callable[[int, float], None]


async def in_thread(pool: Executor, work: Callable[[], R]) -> R:
    """What work gives or raises in a thread.

    It comes past the pool's own futures, which refer to themselves and would keep a sound until a garbage collection.
    """
    answer: list[R] = []
    failure: list[Exception] = []

    def run() -> None:
        try:
            answer.append(work())
        except Exception as error:
            failure.append(error)

    await asyncio.get_running_loop().run_in_executor(pool, run)
    if failure:
        raise failure.pop()
    return answer.pop()


class Turn:
    """One thread in which the model works, and the line before it: a model does one thing at a time."""

    def __init__(self) -> None:
        self.line = asyncio.Lock()  # first come, first served
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lapis-model")

    async def run(self, work: Callable[[], R]) -> R:
        """Run work in the thread, by whoever holds the line."""
        return await in_thread(self._thread, work)

    async def alone(self, work: Callable[[], R]) -> R:
        """Wait for the line and run work that is no batch.

        Nobody waits for it any more when its request is cancelled: it is not begun then, and where it is, it keeps
        the line until it ends, as a thread cannot be stopped.
        """
        begun = False

        async def wait() -> R:
            nonlocal begun
            async with self.line:
                begun = True
                return await self.run(work)

        task = asyncio.create_task(wait())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not begun:
                task.cancel()
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            raise

    async def close(self) -> None:
        """Wait for what is begun, and end."""
        async with self.line:
            self._thread.shutdown(cancel_futures=True)


@dataclass(eq=False)
class _Item(Generic[T]):
    value: T
    cost: float
    answer: "asyncio.Future[Float[np.ndarray, '_width']]"


class Batcher(Generic[T]):
    """Takes values one by one and gives them to `embed` together."""

    def __init__(
        self,
        embed: Callable[[Sequence[T]], Vectors],
        *,
        turn: Turn,
        width: int,
        most_items: int,
        most_cost: float,
        observe: Observe,
    ) -> None:
        """`observe` is called with a batch's number of items and its seconds."""
        self.embed, self.turn, self.width = embed, turn, width
        self.most_items, self.most_cost, self.observe = most_items, most_cost, observe
        self._waiting: deque[_Item[T]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, values: Sequence[T], *, costs: Sequence[float] | None = None) -> Vectors:
        """The vectors of values, each with what it costs beside `most_cost`; one that costs more goes alone."""
        if not len(values):
            return np.zeros((0, self.width), np.float32)
        loop = asyncio.get_running_loop()
        items = [_Item(value, cost, loop.create_future()) for value, cost in zip(values, costs or [1.0] * len(values))]
        self._waiting += items
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._work())
        try:
            return np.stack([await item.answer for item in items])
        finally:
            self._settle(items)

    def _settle(self, items: list[_Item[T]]) -> None:
        """Leave out what nobody waits for any more, as its request was cancelled or refused, and let go of it."""
        left = False
        for item in items:
            if item.answer.cancel():
                left = True
            elif not item.answer.cancelled():
                item.answer.exception()  # seen
        if left:
            self._waiting = deque(item for item in self._waiting if not item.answer.done())
        items.clear()  # an error knows the frame that has them

    async def _work(self) -> None:
        while self._waiting:
            async with self.turn.line:
                # What waits now, not what waited when the line was entered.
                if batch := self._take():
                    await self._answer(batch)

    def _take(self) -> list[_Item[T]]:
        batch: list[_Item[T]] = []
        cost = 0.0
        while self._waiting and len(batch) < self.most_items:
            item = self._waiting[0]
            if not item.answer.done():
                if batch and cost + item.cost > self.most_cost:
                    break
                batch.append(item)
                cost += item.cost
            self._waiting.popleft()
        return batch

    async def _answer(self, batch: list[_Item[T]]) -> None:
        """Give each its vector; what the tower refuses costs its neighbours nothing."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            vectors = await self.turn.run(lambda: self._checked([item.value for item in batch]))
        except Exception as error:
            if len(batch) > 1:
                for item in batch:
                    await self._answer([item])
            elif not batch[0].answer.done():
                batch[0].answer.set_exception(error)
            return
        self.observe(len(batch), loop.time() - began)
        for item, vector in zip(batch, vectors):
            if not item.answer.done():
                item.answer.set_result(vector)

    def _checked(self, values: Sequence[T]) -> Vectors:
        vectors = self.embed(values)
        if vectors.shape != (len(values), self.width) or not np.isfinite(vectors).all():
            raise RuntimeError(f"the model gave {vectors.shape}, not {len(values)} finite vectors of {self.width}")
        return vectors
