"""How scans are segmented and measured."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from cervjax.inference.sidecar import Identity, plain
from cervjax.inference.types import Settings
from cervjax.measurement.calibration import Calibration
from cervjax.measurement.interval_table import Intervals
from cervjax.model.weights import Weights
from cervjax.preprocessing.pipeline import Recipe

RECIPE_SETTINGS = ("padding", "padding_mode", "keep_last_plane", "skip_fitting_grid")
"""Of the preprocessing, what a user may choose."""
BESIDE = ("calibration_sha256", "intervals_sha256")
"""Settings of an identity that are tables used after the network."""


@dataclass(frozen=True, eq=False)
class Method:
    """How scans are segmented and measured.

    Attributes:
        weights: network and card.
        recipe: preprocessing, the card's unless overridden.
        settings: how the network is run.
        calibration: slopes, for calibrated values beside the measured ones.
        intervals: how far measurements may be off, of these weights and settings; None
            where that is not known.
        others: further networks of an ensemble, each with its own recipe and settings;
            see `cervjax.inference.ensemble`.
    """

    weights: Weights
    recipe: Recipe
    settings: Settings
    calibration: Calibration | None = None
    intervals: Intervals | None = None
    others: tuple["Method", ...] = ()

    @property
    def members(self) -> tuple["Method", ...]:
        """All networks: one, or those of an ensemble."""
        return self, *self.others

    @property
    def weights_sha256(self) -> str:
        """Digests of all weights, with spaces between them."""
        return " ".join(member.weights.sha256 for member in self.members)

    @classmethod
    def of_weights(
        cls, weights: Weights, calibration: Calibration | None = None, **changes: Any
    ) -> Self:
        """The weights' own method, but for what is given.

        Args:
            weights: network and card.
            calibration: see `Method`.
            changes: fields of `Settings`, or of `RECIPE_SETTINGS`; None leaves the
                card's value.

        Raises:
            ValueError: an unknown name, settings that contradict each other, or the
                calibration of other weights.
        """
        known = [*RECIPE_SETTINGS, *(field.name for field in fields(Settings))]
        if unknown := changes.keys() - set(known):
            raise ValueError(
                f"unknown setting {', '.join(sorted(unknown))}; there are "
                f"{', '.join(sorted(known))}"
            )
        if calibration is not None:
            calibration.check_weights(weights.sha256)
        given = {name: value for name, value in changes.items() if value is not None}
        own = {name: given.pop(name) for name in RECIPE_SETTINGS if name in given}
        recipe = replace(weights.card.recipe, **own)
        return cls(
            weights, recipe, Settings.of_card(weights.card, **given), calibration
        )

    def identity(self, inputs_sha256: Mapping[str, str]) -> Identity:
        """What a result of this method depends on, beside images of these digests."""
        first, *others = (
            member.settings.effective() | {"recipe": asdict(member.recipe)}
            for member in self.members
        )
        settings = first | ({"members": others} if others else {})
        for name in BESIDE:
            table = getattr(self, name.removesuffix("_sha256"))
            if table is not None:
                settings[name] = table.sha256
        return Identity(inputs_sha256, self.weights_sha256, plain(settings))

    def limited(self, max_memory_gb: float) -> Self:
        """The same with so much memory for each network."""
        settings = replace(self.settings, max_memory_gb=max_memory_gb)
        others = tuple(other.limited(max_memory_gb) for other in self.others)
        return replace(self, settings=settings, others=others)

    def with_intervals(
        self, intervals: Intervals | None, *, wanted: bool = False
    ) -> Self:
        """The same with intervals, if they are of these weights and settings.

        Args:
            intervals: or None.
            wanted: whether others are an error; else they are left out.

        Raises:
            ValueError: these are others.
        """
        bare = replace(self, calibration=None, intervals=None)
        settings = bare.identity({}).settings
        if intervals is None or intervals.fit_to(self.weights_sha256, settings):
            return replace(self, intervals=intervals)
        if not wanted:
            return replace(self, intervals=None)
        what = "settings"
        if intervals.weights_sha256 != self.weights_sha256:
            what = "weights"
        raise ValueError(
            f"{intervals.path}: intervals of other {what}; run 'cervjax intervals' on "
            f"results of the {what} in use"
        )
