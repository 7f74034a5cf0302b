"""Cross-checks of a config's scans: where they come from, and who validates."""

from ml_collections import ConfigDict

from cervjax.anatomy import NUM_CLASSES
from cervjax.training.config import ConfigError


def check_data(data: ConfigDict) -> None:
    """Of ``config.data`` where it is of scans.

    Raises:
        ConfigError: names the first value that cannot be used, in one line.
    """
    if not data.root and "phantom" not in data:
        raise ConfigError(
            "config.data.root is empty, and this config makes no digital necks: give "
            "your folder of labelled scans, --config.data.root=FOLDER"
        )
    for label in data.allow_absent:
        if label not in range(1, NUM_CLASSES):
            raise ConfigError(
                f"config.data.allow_absent must be labels of muscles, 1-14, got "
                f"{label!r}"
            )
    _check_folds(data)


def has_validation(data: ConfigDict) -> bool:
    """Whether any scan validates."""
    if data.root:
        return bool(data.validation_root or data.num_validation or folds_of(data)[0])
    return data.phantom.validation_subjects > 0


def folds_of(data: ConfigDict) -> tuple[int, int]:
    """Number of folds, 0 for none, and the one that is held out."""
    return data.get("folds", 0), data.get("fold", 0)


def _check_folds(data: ConfigDict) -> None:
    folds, fold = folds_of(data)
    if not isinstance(folds, int) or folds < 0 or folds == 1:
        raise ConfigError(
            f"config.data.folds must be 0 (no folds) or at least 2, got {folds!r}"
        )
    if not isinstance(fold, int) or not 0 <= fold < max(folds, 1):
        among = f"from 0 to {folds - 1}" if folds else "0 where data.folds is 0"
        raise ConfigError(f"config.data.fold must be {among}, got {fold!r}")
    if not folds:
        return
    for name, neutral in (("num_validation", 0), ("validation_root", "")):
        if data[name]:
            raise ConfigError(
                f"config.data.folds is {folds} and data.{name} is {data[name]}: who "
                "validates can be said once only; give --config.data.folds=0, or "
                f"--config.data.{name}={neutral}"
            )
    if not data.root:
        raise ConfigError(
            f"config.data.folds is {folds}, which divides the people of data.root, "
            "and that is empty: give --config.data.root=FOLDER"
        )
