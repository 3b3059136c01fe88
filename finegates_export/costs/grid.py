"""A measured function of a few widths: known at knots, linear in between on every axis."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from finegates_export.common.options import check

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Grid:
    """Milliseconds at every combination of knots.

    A wider block is never cheaper: values do not fall along any axis.
    """

    axes: tuple[tuple[int, ...], ...]
    """The knots of every axis, ascending."""
    milliseconds: Values
    """One number per combination; the shape is the axes' lengths."""

    def __post_init__(self) -> None:
        ascending = all(len(axis) > 0 and bool((np.diff(axis) > 0).all()) for axis in self.axes)
        check(ascending, "axes", f"need knots in ascending order, got {self.axes}")
        shape = tuple(map(len, self.axes))
        check(
            self.milliseconds.shape == shape, "milliseconds", f"need the shape {shape}, got {self.milliseconds.shape}"
        )
        sound = bool(np.isfinite(self.milliseconds).all() and (self.milliseconds >= 0).all())
        check(sound, "milliseconds", "must be finite and not negative")
        rising = all(bool((np.diff(self.milliseconds, axis=axis) >= 0).all()) for axis in range(len(shape)))
        check(rising, "milliseconds", "must not fall along an axis")

    @classmethod
    def smoothed(cls, axes: tuple[tuple[int, ...], ...], measured: Values) -> Grid:
        """The grid of medians, corrected for noise.

        A value below that of a narrower block is raised to it, and a negative one to 0.
        """
        values = np.maximum(measured, 0.0)
        for axis in range(values.ndim):
            values = np.maximum.accumulate(values, axis=axis)
        return cls(axes, values)

    def at(self, *coordinates: npt.ArrayLike) -> Values:
        """Milliseconds at any widths.

        Args:
            coordinates: one array per axis, broadcast against each other; values are clamped to the outermost knots.
        """
        places = np.broadcast_arrays(*(np.asarray(values, np.float64) for values in coordinates))
        lows, shares = [], []
        for axis, wanted in zip(map(np.asarray, self.axes), places, strict=True):
            inside = np.clip(wanted, axis[0], axis[-1])
            low = np.clip(np.searchsorted(axis, inside, side="right") - 1, 0, max(0, len(axis) - 2))
            lows.append(low)
            # An axis with a single knot is flat.
            shares.append((inside - axis[low]) / np.diff(axis)[low] if len(axis) > 1 else np.zeros(low.shape))
        total = np.zeros(places[0].shape)
        for corner in product((0, 1), repeat=len(lows)):
            weights = [share if upper else 1.0 - share for upper, share in zip(corner, shares, strict=True)]
            knots = tuple(
                np.minimum(low + upper, len(axis) - 1) for low, upper, axis in zip(lows, corner, self.axes, strict=True)
            )
            total += np.prod(weights, axis=0) * self.milliseconds[knots]
        return total

    def to_json(self) -> dict[str, object]:
        """As JSON types."""
        return {"axes": [list(axis) for axis in self.axes], "milliseconds": self.milliseconds.tolist()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Grid:
        """Rebuild from `to_json`.

        Raises:
            KeyError, TypeError, ValueError: it is not a grid.
        """
        axes = tuple(tuple(int(knot) for knot in axis) for axis in values["axes"])
        return cls(axes, np.asarray(values["milliseconds"], np.float64))
