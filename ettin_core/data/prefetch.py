"""Work done ahead: what each step needs, made by background processes, in order."""

from collections.abc import Callable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def feed(make: Callable[[int], Item], steps: range, workers: int) -> Iterator[Item]:
    """make(step) for each step; with `workers` processes of torch's DataLoader, a few steps ahead.

    Since `make` is a pure function of the step, the result does not depend on the number of workers. They end with the
    iteration, however that ends.
    """
    if workers == 0 or not steps:
        yield from map(make, steps)
        return
    import torch
    from torch.utils.data import DataLoader

    try:
        yield from DataLoader(
            _Steps(make),  # type: ignore[arg-type]
            batch_size=None,
            sampler=steps,
            num_workers=workers,
            collate_fn=_unchanged,
            generator=torch.Generator(),  # torch's own stream stays where it is
            multiprocessing_context="fork",  # the maps of the corpus are inherited, not copied
        )
    except Exception as error:
        raise error.with_traceback(None) from None  # the frames hold the workers; the message says where it was


class _Steps:
    """A function of the step, as a dataset."""

    def __init__(self, make: Callable[[int], object]) -> None:
        self._make = make

    def __getitem__(self, step: int) -> object:
        return self._make(step)


def _unchanged(item: Item) -> Item:
    """The default would turn tuples into lists, and arrays into tensors."""
    return item
