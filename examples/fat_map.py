"""The map of fat fractions of a scan, as a picture and as NIfTI files.

python examples/fat_map.py FOLDER
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np

from cervjax.cli.main import main as cervjax_command
from cervjax.phantom.dataset import write_dataset


def main(folder: Path) -> None:
    """Makes a digital neck, measures its true mask with maps, and draws a slice."""
    scans, out = folder / "necks", folder / "results"
    masks = scans / "derivatives/truth"
    write_dataset(scans, 1, seed=4000, severity="clinical")
    line = ["measure", str(scans), str(masks), "-o", str(out), "--maps", "--histogram"]
    if cervjax_command(line) == 2:
        raise SystemExit("nothing was measured")
    fat = nib.load(out / "sub-0001_fatfraction.nii.gz").get_fdata()
    labels = nib.load(out / "sub-0001_dseg.nii.gz").get_fdata()
    middle = int(np.median(np.nonzero(labels)[2]))
    plt.figure(figsize=(6, 4))
    shown = plt.imshow(fat[:, :, middle].T, origin="lower", vmin=0, vmax=50)
    plt.contour(labels[:, :, middle].T > 0, [0.5], colors="white", linewidths=0.7)
    plt.axis("off")
    plt.colorbar(shown, label="fat fraction (%)")
    plt.savefig(folder / "fat_map.png", dpi=150)
    print(f"open {folder / 'fat_map.png'}; maps and histogram are in {out}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
