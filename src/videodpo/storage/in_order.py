"""Long tables that lie in one order, gone through side by side: no column of ids is ever held whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from videodpo.config.errors import RunError
from videodpo.storage.row_groups import read_parts
from videodpo.storage.schemas import PROMPTS
from videodpo.storage.tables import read_table

T = TypeVar("T")


class OutOfOrder(RunError):
    """Ids do not come in the order of the table in which they are looked up, or are not in it."""


class Follower:
    """Looks ids up in a long column that has them in the same order, with others between them."""

    def __init__(self, column: Iterable[pa.ChunkedArray]) -> None:
        """column: parts of it, each id once."""
        self._rest = iter(column)
        self._ahead = pa.chunked_array([], pa.string())
        self._first = 0

    def indices(self, ids: pa.ChunkedArray) -> NDArray[np.int64]:
        """Where the column has these ids, counted from its start.

        Raises:
            OutOfOrder: an id is not in the column, or not after the one before it.
        """
        if not len(ids):
            return np.zeros(0, dtype=np.int64)
        self._look_ahead(len(ids))
        found = np.arange(len(ids)) if self._ahead[: len(ids)].equals(ids) else self._search(ids)
        indices, end = self._first + found, int(found[-1]) + 1
        self._ahead, self._first = self._ahead[end:], self._first + end
        return indices

    def _search(self, ids: pa.ChunkedArray) -> NDArray[np.int64]:
        while (found := pc.index_in(ids, self._ahead)).null_count:
            if not self._look_ahead(2 * len(self._ahead) + 1):
                raise OutOfOrder(f"{ids.filter(pc.is_null(found))[0]} is not where it should be")
        indices: NDArray[np.int64] = found.to_numpy().astype(np.int64)
        if (turns := np.flatnonzero(np.diff(indices) <= 0)).size:
            raise OutOfOrder(f"{ids[int(turns[0]) + 1]} is not where it should be")
        return indices

    def _look_ahead(self, count: int) -> bool:
        """Hold `count` ids, or as many as there are; whether any came."""
        held = len(self._ahead)
        while len(self._ahead) < count and (more := next(self._rest, None)) is not None:
            self._ahead = pa.chunked_array([*self._ahead.chunks, *more.chunks])
        return len(self._ahead) > held


@contextmanager
def one_ahead(items: Iterable[T]) -> Iterator[Iterator[T]]:
    """The items, the next one made on a thread of its own while this one is used.

    The thread ends with the block. Were it a generator's, a forgotten one would wait for it whenever it is collected,
    on whichever thread, with a lock of `threading` held perhaps.
    """
    with ThreadPoolExecutor(1) as background:
        yield _one_ahead(iter(items), background)


def _one_ahead(rest: Iterator[T], background: ThreadPoolExecutor) -> Iterator[T]:
    ahead = background.submit(next, rest, None)
    while (item := ahead.result()) is not None:
        ahead = background.submit(next, rest, None)
        yield item


def prompts_in_order(path: Path) -> Iterator[pa.Table]:
    """The prompts table without its texts, by position, part by part: `prompt_id` and `split`."""
    columns = ["prompt_id", "split", "position"]
    positions = pa.concat_tables(list(read_parts(path, ["position"])))["position"].to_numpy()
    if (np.diff(positions) > 0).all():
        yield from (part.select(columns[:2]) for part in read_parts(path, columns))
    else:
        frame = read_table(path, columns).sort_values("position", kind="stable")
        schema = pa.schema([PROMPTS.field(name) for name in columns[:2]])
        yield pa.Table.from_pandas(frame[columns[:2]], schema=schema, preserve_index=False)


def starts_of_runs(ids: pa.ChunkedArray) -> NDArray[np.int64]:
    """Rows at which another id begins, the first row among them."""
    if not len(ids):
        return np.zeros(0, dtype=np.int64)
    changes = pc.not_equal(ids[1:], ids[:-1]).to_numpy()
    return np.concatenate([[0], np.flatnonzero(changes) + 1])
