"""Two readers' masks of one scan: Dice, distance of surfaces, and what it does to MFI.

python examples/compare_readers.py FOLDER
"""

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import binary_erosion

import cervjax
from cervjax.phantom.dataset import write_dataset


def main(folder: Path) -> None:
    """Makes a digital neck; the second reader draws within the first one's outline."""
    write_dataset(folder, 1, seed=4000, severity="clinical")
    name = "sub-0001/anat/sub-0001"
    in_phase = folder / f"{name}_inphase.nii.gz"
    out_phase = folder / f"{name}_outphase.nii.gz"
    one = folder / f"derivatives/truth/{name}_dseg.nii.gz"
    two = folder / "second_reader.nii.gz"
    image = nib.load(one)
    nib.save(nib.Nifti1Image(within(np.asarray(image.dataobj)), image.affine), two)
    measured = [mfi(cervjax.measure(mask, in_phase, out_phase)) for mask in (one, two)]
    print("muscle           Dice  surfaces (mm)  MFI of one, of two (%)")
    for row in cervjax.evaluate(str(two), str(one)):
        first, second = (values[row["label"]] for values in measured)
        print(
            f"{row['muscle']:6} {row['side']:5} {row['dice']:8.2f}"
            f"{row['surface_distance_mm']:12.2f} {first:14.1f} {second:8.1f}"
        )
    print(cervjax.NOTICE)


def within(labels: np.ndarray) -> np.ndarray:
    """Labels without the outermost voxel of each muscle in each slice."""
    shape = np.zeros((3, 3, 1), bool)
    shape[1, :], shape[:, 1] = True, True
    drawn = np.zeros(labels.shape, np.uint8)
    for label in np.unique(labels[labels > 0]):
        drawn[binary_erosion(labels == label, shape)] = label
    return drawn


def mfi(rows) -> dict[int, float]:
    """MFI by label, of what `cervjax.measure` returns."""
    rows = rows if isinstance(rows, list) else rows.to_dict("records")
    return {row["label"]: row["mfi_percent"] for row in rows}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
