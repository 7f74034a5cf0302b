import pytest

from cervjax.inference.types import Settings, check_window
from cervjax.model.card import ModelCard
from cervjax.preprocessing.pipeline import Recipe


def card(mode, **fields):
    return ModelCard("n", "s", "t", "l", mode, Recipe(), **fields)


def test_settings_are_the_cards_unless_given():
    settings = Settings.of_card(card("whole", tta=4, snap_slice_ends=True))
    assert settings == Settings("whole", tta=4, snap_slice_ends=True)
    given = {"tta": 2, "snap_slice_ends": False, "batch_size": None}
    settings = Settings.of_card(card("whole", tta=4, snap_slice_ends=True), **given)
    assert settings == Settings("whole", tta=2, snap_slice_ends=False)


@pytest.mark.parametrize(
    ("own", "mode", "stitch", "snapped"),
    [
        ("whole", None, "logits", True),
        ("whole", "sliding_window", "logits", True),
        ("sliding_window", None, "labels", False),
        ("sliding_window", "whole", "logits", True),
    ],
)
def test_only_weights_of_niftynets_windows_stitch_labels(own, mode, stitch, snapped):
    settings = Settings.of_card(card(own, snap_slice_ends=True), mode=mode)
    assert settings.mode == (mode or own)
    assert (settings.stitch, settings.snap_slice_ends) == (stitch, snapped)


def test_what_does_not_matter_for_a_run_is_no_part_of_its_identity():
    whole = Settings("whole", tta=2)
    for other in ({"batch_size": 3}, {"max_memory_gb": 1.0}, {"window": (8, 8, 8)}):
        assert Settings("whole", tta=2, border=(1, 1, 1), **other).effective() == (
            whole.effective()
        )
    assert Settings("whole", tta=4).effective() != whole.effective()
    assert "window" not in whole.effective()
    windows = Settings("sliding_window")
    assert Settings("sliding_window", batch_size=3).effective() == windows.effective()
    for other in (
        {"window": (64, 64, 64)},
        {"border": (1, 1, 1)},
        {"predict_border": True},
        {"stitch": "labels"},
    ):
        changed = Settings("sliding_window", **other).effective()
        assert changed != windows.effective()


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"mode": "windows"}, "mode must be one of"),
        ({"tta": 3}, "tta must be one of"),
        ({"batch_size": 0}, "at least 1"),
        ({"window": (30, 8, 8)}, "multiples of 8"),
        ({"mode": "whole", "stitch": "labels"}, "not stitched from labels"),
        (
            {"mode": "sliding_window", "stitch": "labels", "snap_slice_ends": True},
            "add --mode whole",
        ),
    ],
)
def test_settings_that_cannot_be_run_are_refused(wrong, reason):
    with pytest.raises(ValueError, match=reason):
        Settings(**wrong)


@pytest.mark.parametrize(
    ("window", "border"),
    [
        ((30, 8, 8), (0, 0, 0)),
        ((0, 8, 8), (0, 0, 0)),
        ((8, 8, 8), (4, 0, 0)),
        ((8, 8, 8), (-1, 0, 0)),
    ],
)
def test_impossible_windows_are_refused(window, border):
    with pytest.raises(ValueError, match="window"):
        check_window(window, border)
