"""Case → sample: read the sources, check geometry and values, encode the labels, run the preprocessing steps.

Prepared samples are kept in a store under a key that covers everything their voxels depend on, so a chain
that fits nothing is computed once for all folds, and a fitted one once a fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from mriad.encoding import encode_label
from mriad.errors import DataError, MriadError
from mriad.gridcheck import grid_difference, require_same_grid
from mriad.identity import fingerprint
from mriad.parallel import failure, map_cases
from mriad.vocabulary import Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from mriad.geometry import Grid
    from mriad.interfaces import PreprocessingStep, SampleStore
    from mriad.vocabulary import Case, Label, LabelKind, LabelSet, Source, Volume

    Parameters = Mapping[str, Any] | None

__all__ = [
    "Prepared",
    "Recipe",
    "apply_steps",
    "fit_steps",
    "grid_difference",
    "load_sample",
    "prepare",
    "prepare_volumes",
]

FORMAT = 1
"""Part of every key: raised when reading or encoding changes its numbers."""


def load_sample(
    case: Case,
    channels: Sequence[str],
    label_name: str | None,
    kind: LabelKind,
    label_set: LabelSet,
    whole: LabelSet | None = None,
) -> Sample:
    """Read one case on its own grid, unprocessed.

    Args:
        channels: names in network order; empty for a data set of label maps without images: image (0, X,
            Y, Z).
        label_name: which of the case's labels becomes the target; None or kind "none": no target.
        kind: "soft" gives a float target, every other kind an integer one; see `mriad.encoding`.
        label_set: of the target.
        whole: of the data set, where the target is a part of it; default: `label_set`.

    Raises:
        LabelGeometryError: channels or label do not lie on one grid (to 0.001 mm).
        DataError: unreadable or constant image, missing channel or label, values that do not fit.
    """
    try:
        volumes = {name: _channel(case, name).read() for name in channels}
        label = None if label_name is None or kind == "none" else _label(case, label_name)
        drawn = label.source.read() if label else None
        first = next(iter(volumes.values()), drawn)
        if first is None:
            raise DataError("a case has neither channels nor a label", remedy="name a channel or a label")
        image = _stack(volumes, first.grid)
        target = validity = None
        if label is not None and drawn is not None:
            require_same_grid("label", drawn.grid, first.grid, label.source.location)
            target, validity = encode_label(
                drawn.data,
                label.kind,
                kind,
                label_set,
                _beside("validity", label.validity, first.grid),
                label.source.location,
                confidence=_beside("confidence", label.confidence, first.grid),
                annotated=label.annotated,
                whole=whole,
            )
    except MriadError as error:
        called = case.id + (f", contrast {case.contrast}" if case.contrast else "")
        raise failure(called, error) from error
    person, contrast, domain = case.person, case.contrast, case.domain
    return Sample(case.id, image, first.grid, target, validity, None, person, contrast, domain)


def _beside(what: str, source: Source | None, grid: Grid) -> NDArray[Any] | None:
    """Voxels of what goes with a label, on the image's grid; None without a source."""
    if source is None:
        return None
    volume = source.read()
    require_same_grid(what, volume.grid, grid, source.location)
    return volume.data


def prepare_volumes(
    channels: Mapping[str, Volume],
    steps: Sequence[PreprocessingStep],
    parameters: Sequence[Parameters],
    case: str = "input",
) -> Sample:
    """Channels in network order → prepared sample without a target; what prediction starts with.

    Raises:
        LabelGeometryError: channels do not lie on one grid.
        DataError: a channel is not 3D, not finite or constant; or a step failed (step and case named).
    """
    try:
        image = _stack(channels, next(iter(channels.values())).grid)
    except MriadError as error:
        raise failure(case, error) from error
    grid = next(iter(channels.values())).grid
    return apply_steps(Sample(case, image, grid), steps, parameters)


def apply_steps(
    sample: Sample, steps: Sequence[PreprocessingStep], parameters: Sequence[Parameters], first: int = 0
) -> Sample:
    """Run steps in order; `first` is the place of the first one in the chain, for messages.

    Raises:
        DataError: a step failed, or gave arrays that do not fit its grid; step and case are named.
    """
    sample = _whole(sample)
    for place, (step, fitted) in enumerate(zip(steps, parameters, strict=True), first):
        called = f"{place} ({step.type_name()})"
        try:
            after = step.apply(sample, fitted)
        except MriadError as error:
            where = {"case": sample.case, "step": called, **error.where}
            raise type(error)(error.what, where=where, remedy=error.remedy) from error
        except Exception as error:  # a guest's step may raise anything; the reader needs step and case
            raise DataError(
                "a preprocessing step failed",
                where={
                    "case": sample.case,
                    "step": called,
                    "input": sample.grid.describe(),
                    "error": f"{type(error).__name__}: {error}",
                },
            ) from error
        _fits(after, called)
        sample = after
    return _in_order(sample)


def _whole(sample: Sample) -> Sample:
    """The arrays as numpy's own: a store may give ones that are unpacked when they are asked for."""
    arrays = {n: getattr(sample, n) for n in ("image", "target", "validity", "field")}
    lazy: dict[str, Any] = {
        n: np.asarray(a) for n, a in arrays.items() if a is not None and not isinstance(a, np.ndarray)
    }
    return replace(sample, **lazy) if lazy else sample


def _in_order(sample: Sample) -> Sample:
    """The arrays in C order; a step may leave a view or axes that are permuted in memory."""
    arrays = {n: getattr(sample, n) for n in ("image", "target", "validity", "field")}
    moved: dict[str, Any] = {
        n: np.ascontiguousarray(a) for n, a in arrays.items() if a is not None and not a.flags.c_contiguous
    }
    return replace(sample, **moved) if moved else sample


def _fits(sample: Sample, step: str) -> None:
    arrays = {n: getattr(sample, n) for n in ("image", "target", "validity", "field")}
    wrong = {n: a.shape for n, a in arrays.items() if a is not None and a.shape[1:] != sample.grid.shape}
    if wrong:
        shapes = {name: "×".join(map(str, shape)) for name, shape in wrong.items()}
        raise DataError(
            "a preprocessing step gave arrays that do not fit its grid",
            where={"case": sample.case, "step": step, **shapes, "grid": sample.grid.describe()},
        )


@dataclass(frozen=True)
class Recipe:
    """What turns a case into a prepared sample; picklable. `parameters` has one entry a step, None if
    unfitted. `domain_sets`: label sets of domains that segment only a part of `label_set`.
    """

    channels: tuple[str, ...]
    label_set: LabelSet
    label_name: str | None = None
    kind: LabelKind = "none"
    steps: tuple[PreprocessingStep, ...] = ()
    parameters: tuple[Parameters, ...] = ()
    store: SampleStore | None = None
    domain_sets: Mapping[str, LabelSet] = field(default_factory=dict)
    painted: bool = False
    """Whether an augmenter paints images: a case without any channel then has an image of none."""

    def channels_of(self, case: Case) -> tuple[str, ...]:
        """The channels that are read of a case."""
        return () if self.painted and not case.channels else self.channels

    def set_of(self, case: Case) -> LabelSet:
        """The label set of the case's target."""
        return self.domain_sets.get(case.domain, self.label_set)

    def labelled(self, case: Case) -> bool:
        """Whether the case has the label that becomes the target."""
        return self.kind != "none" and self.label_name in case.labels

    def key(self, case: Case, steps: int | None = None) -> str:
        """The store key of the case after the first `steps` steps (default: all)."""
        count = len(self.steps) if steps is None else steps
        label = case.labels[self.label_name or ""] if self.labelled(case) else None
        return fingerprint(
            {
                "format": FORMAT,
                "channels": [
                    case.channels[name].fingerprint for name in self.channels if name in case.channels
                ],
                "label": label and self._label_identity(label, self.set_of(case)),
                "steps": [
                    {"config": step, "version": step.version, "parameters": dict(fitted) if fitted else None}
                    for step, fitted in zip(self.steps[:count], self.parameters[:count], strict=True)
                ],
            }
        )

    def _label_identity(self, label: Label, label_set: LabelSet) -> dict[str, Any]:
        known: dict[str, Any] = {
            "source": label.source.fingerprint,
            "stored": label.kind,
            "wanted": self.kind,
            "validity": label.validity.fingerprint if label.validity else None,
            "structures": [s.value for s in label_set.structures],
            "ignore": list(label_set.ignore),
        }
        if label.confidence is not None:
            known["confidence"] = label.confidence.fingerprint
        if label.annotated is not None:
            known |= {"annotated": list(label.annotated), "names": list(label_set.names)}
        if label_set.merged:
            known["merged"] = [list(pair) for pair in label_set.merged]
        if label_set is not self.label_set:
            known |= {"background": list(label_set.background), "of": list(self.label_set.names)}
        return known

    def sample(self, case: Case, steps: int | None = None) -> Sample:
        """The prepared case after the first `steps` steps (default: all), from the store or made (and
        kept) now.
        """
        count = len(self.steps) if steps is None else steps
        if self.store is None:
            sample = self._make(case, count)
        else:
            sample = self.store.once(self.key(case, count), lambda: self._make(case, count))
        return replace(sample, case=case.id, person=case.person, contrast=case.contrast, domain=case.domain)

    def _make(self, case: Case, count: int) -> Sample:
        """Compute; what comes before the first fitted step is shared by all folds, so it is kept too."""
        fitted = next((i for i, step in enumerate(self.steps[:count]) if step.fitted), None)
        if fitted:
            return apply_steps(
                self.sample(case, fitted), self.steps[fitted:count], self.parameters[fitted:count], fitted
            )
        label = self.label_name if self.labelled(case) else None
        sample = load_sample(
            case, self.channels_of(case), label, self.kind, self.set_of(case), self.label_set
        )
        return apply_steps(sample, self.steps[:count], self.parameters[:count])


class Prepared(Sequence[Sample]):
    """Prepared samples in the order of their cases; opened from the store on access, so that few files
    are open.
    """

    def __init__(
        self, recipe: Recipe, cases: Sequence[Case], samples: Sequence[Sample] | None = None
    ) -> None:
        self.recipe, self.cases, self._samples = recipe, tuple(cases), samples
        self._keys = () if samples is not None else tuple(recipe.key(case) for case in self.cases)
        self._places = {case.id: i for i, case in enumerate(self.cases)}

    def __len__(self) -> int:
        return len(self.cases)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if self._samples is not None:
            return self._samples[index]
        case, store = self.cases[index], self.recipe.store
        sample = store.get(self._keys[index]) if store is not None else None
        if sample is None:  # removed since: made again
            return self.recipe.sample(case)
        return replace(sample, case=case.id, person=case.person, contrast=case.contrast, domain=case.domain)

    def of(self, case_id: str) -> Sample:
        """The sample of a case id."""
        return self[self._places[case_id]]


@dataclass(frozen=True)
class _Make:
    """Prepares one case in a worker; with a store only the fact crosses the process boundary, not the
    voxels.
    """

    recipe: Recipe
    steps: int | None = None

    def __call__(self, case: Case) -> Sample | None:
        sample = self.recipe.sample(case, self.steps)
        return sample if self.recipe.store is None else None


def prepare(
    cases: Sequence[Case],
    recipe: Recipe,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Make every case that is not in the store, in `workers` processes. Without a store samples stay in
    memory.

    Raises:
        DataError: as `load_sample` and `apply_steps`; no case has the label that is asked for.
        StorageError: the store cannot be written.
        LaunchError: a worker process died.
    """
    _check_label(cases, recipe)
    made = list(map_cases(_Make(recipe), cases, workers, progress=progress))
    return Prepared(recipe, cases, None if recipe.store is not None else [s for s in made if s is not None])


def fit_steps(cases: Sequence[Case], recipe: Recipe, workers: int = 0) -> Recipe:
    """Fit the fitted steps on training cases, in order, each on samples that went through the steps
    before it.

    Returns the recipe with its parameters; those that it came with are not used. Without a fitted step no
    voxel is read. Give it the cases of training persons and no others.

    Raises:
        DataError: as `prepare`, or a step's `fit` failed (the step is named).
    """
    parameters: list[Parameters] = [None] * len(recipe.steps)
    for place, step in enumerate(recipe.steps):
        if not step.fitted:
            continue
        so_far = replace(recipe, parameters=tuple(parameters))
        _check_label(cases, so_far)
        samples = _before(cases, so_far, place, workers)
        try:
            parameters[place] = step.fit(samples)
        except MriadError:
            raise
        except Exception as error:  # a guest's step may raise anything; the reader needs the step
            raise DataError(
                "a preprocessing step could not be fitted",
                where={
                    "step": f"{place} ({step.type_name()})",
                    "cases": len(cases),
                    "error": f"{type(error).__name__}: {error}",
                },
            ) from error
    return replace(recipe, parameters=tuple(parameters))


def _before(cases: Sequence[Case], recipe: Recipe, place: int, workers: int) -> Iterator[Sample]:
    """Samples after the steps before `place`, one at a time."""
    if recipe.store is not None and workers:
        for _ in map_cases(_Make(recipe, place), cases, workers):
            pass
    for case in cases:
        yield _whole(recipe.sample(case, place))


def _check_label(cases: Sequence[Case], recipe: Recipe) -> None:
    """A label name that no case has is a mistake; one that some lack means that these are unlabelled."""
    if recipe.kind == "none" or any(recipe.labelled(case) for case in cases) or not cases:
        return
    known = sorted({name for case in cases for name in case.labels})
    raise DataError(
        f"no case has a label named '{recipe.label_name}'",
        where={"cases": len(cases), "labels": ", ".join(known) or "none"},
        remedy="set data.labels.name to one of these" if known else "set data.labels to none",
    )


def _channel(case: Case, name: str) -> Source:
    if name not in case.channels:
        raise DataError(
            f"a case has no channel '{name}'",
            where={"channels": ", ".join(case.channels) or "none"},
            remedy="set data.channels to names that every case has",
        )
    return case.channels[name]


def _label(case: Case, name: str) -> Label:
    if name not in case.labels:
        raise DataError(
            f"a case has no label '{name}'",
            where={"labels": ", ".join(case.labels) or "none"},
            remedy="set data.labels.name to one of these",
        )
    return case.labels[name]


def _stack(volumes: Mapping[str, Volume], grid: Grid) -> NDArray[np.float32]:
    """Channels on one grid → (C, X, Y, Z) float32, checked."""
    rows = []
    for name, volume in volumes.items():
        if volume.data.ndim != 3:
            shape = "×".join(map(str, volume.data.shape))
            raise DataError("a 3D image is meant", where={"channel": name, "shape": shape})
        require_same_grid(f"channel {name}", volume.grid, grid, "")
        row = volume.data.astype(np.float32, copy=False)
        low, high = (float(row.min()), float(row.max())) if row.size else (0.0, 0.0)
        if not (np.isfinite(low) and np.isfinite(high)):
            raise DataError("an image holds NaN or infinite values", where={"channel": name})
        if low == high:
            raise DataError(
                f"an image is constant: every voxel is {low:g}",
                where={"channel": name, "grid": grid.describe()},
                remedy="look at the file; an empty export or a wrong path is the usual cause",
            )
        rows.append(row)
    if len(rows) == 1:
        return rows[0][None]  # one channel needs no copy
    return np.stack(rows) if rows else np.empty((0, *grid.shape), np.float32)
