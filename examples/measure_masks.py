"""Numbers from masks that are drawn already, beside the truth of a digital neck.

python examples/measure_masks.py FOLDER
"""

import csv
import sys
from pathlib import Path

import cervjax
from cervjax.phantom.dataset import write_dataset


def main(folder: Path) -> None:
    """Makes a digital neck in a folder and measures its true masks."""
    write_dataset(folder, 1, seed=4000, severity="clinical")
    name = "sub-0001/anat/sub-0001"
    rows = cervjax.measure(
        folder / f"derivatives/truth/{name}_dseg.nii.gz",
        folder / f"{name}_inphase.nii.gz",
        folder / f"{name}_outphase.nii.gz",
    )
    rows = rows if isinstance(rows, list) else rows.to_dict("records")
    with open(folder / "truth.csv", newline="") as stream:
        truth = {int(row["label"]): row for row in csv.DictReader(stream)}
    print("muscle        MFI (%)    true    volume (ml)    true")
    for row in rows:
        true = truth[row["label"]]
        print(
            f"{row['muscle']:6} {row['side']:5} {row['mfi_percent']:8.2f}"
            f"{float(true['mfi_image_percent']):8.2f}"
            f"{row['volume_ml']:15.2f}{float(true['volume_ml']):8.2f}"
        )
    print(cervjax.NOTICE)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
