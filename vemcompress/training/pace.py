"""The speed of a run, its remaining time, and the limit of --max-hours."""

import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from statistics import fmean, median_low
from time import perf_counter as now

from vemcompress.errors import UsageError
from vemcompress.system import distributed

RECENT, WARM_UP = 50, 3
SLOWER = 3  # a kind of step seen only once counts as at most this many times slower than usual steps

_Window = partial(deque, maxlen=RECENT)

When = int | Callable[[int], bool]  # every how many steps, or whether at a given step


class Pace:
    """Measures the steps from `first` + 1 to `total`.

    The rate is the median of the recent steps of a kind, so a few slow steps on a busy machine do not change it. `kind`
    maps a step to its kind: phases, and updates that run only every n-th step, differ in speed. The first steps of each
    kind are slower, because they compile and allocate. The very first one gives no rate; after it, only the newest step
    counts until a few have passed. `images`: images per step. `others`: work between steps, by name, and when it is
    due.
    """

    def __init__(
        self, first: int, total: int, *, kind: Callable[[int], Hashable], images: int, others: Mapping[str, When]
    ):
        self.total, self.kind, self.images, self.others = total, kind, images, others
        self.done, self.step = 0, first
        self.seconds: dict[str, float] = {}  # of the last time, by name
        rest = range(first + 1, total + 1)
        self._left = Counter(map(kind, rest))
        self._irregular = {name: sum(map(when, rest)) for name, when in others.items() if callable(when)}
        self._recent, self._kinds, self._made = _Window(), defaultdict(_Window), Counter()
        self.spent = 0.0  # seconds spent on steps, after the first few

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """Time the next step."""
        began = now()
        yield
        self.done, self.step = self.done + 1, self.step + 1
        kind, seconds = self.kind(self.step), now() - began
        self._left[kind] -= 1
        for name in self._irregular:
            self._irregular[name] -= self.due(name, self.step)
        self._made[kind] += 1
        if self._made[kind] <= WARM_UP + 1:
            self._kinds[kind].clear()
        self._kinds[kind].append(seconds)
        if self.done == WARM_UP + 1:
            self._recent.clear()
        self._recent.append((kind, seconds))
        if self.done > WARM_UP:
            self.spent += seconds

    @contextmanager
    def beside(self, name: str) -> Iterator[None]:
        """Time work between steps."""
        began = now()
        yield
        self.seconds[name] = now() - began

    @property
    def mean(self) -> float | None:
        """Mean seconds per step over the whole run; None during the first steps."""
        return self.spent / (self.done - WARM_UP) if self.done > WARM_UP else None

    @property
    def recent(self) -> float | None:
        """Mean seconds per recent step, each counted as the median of its kind; None until a kind was seen twice."""
        return (
            fmean(self._typical(kind) for kind, _ in self._recent) if max(self._made.values(), default=0) > 1 else None
        )

    @property
    def images_per_second(self) -> float | None:
        return self.images / self.recent if self.recent else None

    @property
    def slowest(self) -> float:
        """Seconds of the slowest recent step."""
        return max(seconds for _, seconds in self._recent)

    @property
    def remaining(self) -> float | None:
        """Seconds to the end: the steps by kind, and the work between steps at its last duration."""
        if self.recent is None:
            return None
        seconds = sum(count * self._typical(kind) for kind, count in self._left.items() if count)
        return seconds + sum(self.seconds.get(name, 0.0) * self._times(name) for name in self.others)

    def _typical(self, kind: Hashable) -> float:
        """Seconds of a step of this kind. Some kind must have been seen twice."""
        if self._made[kind] > 1:
            return median_low(self._kinds[kind])
        if not self._made[kind]:
            return self.recent
        usual = median_low(s for other, window in self._kinds.items() if self._made[other] > 1 for s in window)
        return min(self._kinds[kind][0], SLOWER * usual)

    def due(self, name: str, step: int) -> bool:
        """Whether work of this name is due after this step. Regular work is also due after the last step."""
        when = self.others[name]
        return when(step) if callable(when) else step % when == 0 or step == self.total

    def _times(self, name: str) -> int:
        """How many times it is still due."""
        when = self.others[name]
        return self._irregular[name] if callable(when) else math.ceil(self.total / when) - self.step // when


class Estimate:
    """Decides when to report the remaining time: after 20 steps or 20 seconds, and again if it is wrong by half and by
    more than 10 seconds."""

    AFTER, SPENT, FACTOR, SECONDS = 20, 20, 1.5, 10

    def __init__(self):
        self._ends: float | None = None

    def is_news(self, pace: Pace, logged: bool = True) -> bool:
        """Whether to report now; if so, the estimate counts as reported. Call it after each step; some steps are
        `logged`."""
        early = pace.done < self.AFTER and pace.spent < self.SPENT
        if early or (self._ends is not None and not logged) or pace.step == pace.total or pace.remaining is None:
            return False
        left, reported = pace.remaining, None if self._ends is None else self._ends - now()
        few, many = (left, left) if reported is None else sorted((left, reported))
        if reported is not None and (many - few <= self.SECONDS or many <= self.FACTOR * few):
            return False
        self._ends = now() + left
        return True


class Limit:
    """The time, `hours` from now, by which a run must have saved; None for no limit.

    The durations of the first save and of the first scoring of a teacher are unknown. Each is assumed to be a minute
    plus 20 steps, but at most a tenth of the limit. Several consecutive runs may share a limit.
    """

    def __init__(self, hours: float | None = None):
        if hours is not None and not 0 < hours < math.inf:
            raise UsageError(f"--max-hours {hours:g}: give a time above 0, such as 11.5.")
        self.seconds = math.inf if hours is None else hours * 3600
        self.ends = now() + self.seconds
        self.over = False
        self._began, self._start = now(), 0.0

    @classmethod
    def of(cls, hours: "float | Limit | None") -> "Limit":
        """A new limit from now, or the given one, which is already running."""
        return hours if isinstance(hours, Limit) else cls(hours)

    def begin(self) -> None:
        """Call this when a run begins."""
        self._began = now()

    def leaves(self, pace: Pace) -> bool:
        """Whether another step, with the work after it, could exceed the limit.

        Call it after at least one step. After a run's last step, the limit is `over` if another run could not finish
        its first step in time.
        """
        if pace.done == 1:
            self._start = now() - self._began
        unknown = min(60 + 20 * pace.slowest, self.seconds / 10)
        beside = {name for name in pace.others if pace.due(name, pace.step + 1)} - {"save"}
        guesses = {name: 0.0 if name == "sample" else unknown for name in beside}
        others = sum(pace.seconds.get(name, guess) for name, guess in guesses.items())
        save = pace.seconds.get("save", unknown)
        next_step = self._start if pace.step == pace.total else pace.slowest + others
        return self.passed_in(next_step + save)

    def passed_in(self, seconds: float) -> bool:
        """Whether the limit will have passed this number of seconds from now."""
        if self.seconds < math.inf:  # the ranks' clocks differ, but they must stop together
            self.over = bool(distributed.largest(int(now() + seconds > self.ends)))
        return self.over
