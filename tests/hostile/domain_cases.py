"""Images that can be read, and that cannot be what the model takes them for, or hardly."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from dicom_files import ROOT, save_stack
from hostile.case import Case
from hostile.nifti_cases import AFFINE, ct, save

LABEL, ZSCORE = 1002, 5
OTHER = ("odd.nii.gz", "cannot be a CT of domain 'contrast'")
BESIDE = ("a.nii.gz",)
FORCE = ("--force",)
FAR_X, FAR_Z = "voxel size far outside what the model saw: ", "mm along superior"


def labels(shape: tuple[int, int, int] = (32, 32, 4), values: tuple[int, ...] = (5, 29, 117)) -> np.ndarray:
    """Organs in bands, and background around."""
    found = np.zeros(shape)
    for number, value in enumerate(values):
        found[6 + 6 * number : 12 + 6 * number, 6:-6] = value
    return found


def mr(seed: int = 0) -> np.ndarray:
    """Noise of magnitude images around a head in arbitrary units."""
    x, y = np.meshgrid(np.linspace(-1, 1, 32), np.linspace(-1, 1, 32), indexing="ij")
    signal = np.select([np.hypot(x, y) < 0.3, np.hypot(x, y) < 0.8], [700.0, 400.0], 0.0)[..., None]
    noise = np.random.default_rng(seed).normal(0, 15, (2, 32, 32, 4))
    return np.hypot(signal + noise[0], noise[1])


def alone(voxels: np.ndarray, **options) -> Callable[[Path], object]:
    return lambda folder: save(folder / "odd.nii.gz", voxels, **options)


def beside(voxels: np.ndarray, **options) -> Callable[[Path], object]:
    """An odd image beside a CT that is converted all the same."""
    return lambda folder: (save(folder / "a.nii.gz"), save(folder / "odd.nii.gz", voxels, **options))


def with_intent(code: int) -> Callable[[Path], object]:
    image = nib.Nifti1Image(ct().astype(np.int16), AFFINE)
    image.header["intent_code"] = code
    return lambda folder: image.to_filename(folder / "odd.nii.gz")


def told(content: object, voxels: np.ndarray | None = None) -> Callable[[Path], None]:
    """An image, and a JSON beside it, as converters of DICOM write them; text is written as it is."""

    def make(folder: Path) -> None:
        save(folder / "odd.nii.gz", voxels)
        (folder / "odd.json").write_text(content if isinstance(content, str) else json.dumps(content))

    return make


def picture(folder: Path) -> None:
    Image.fromarray(np.clip((ct()[..., 0] + 160) * 255 / 400, 0, 255).astype(np.uint8)).save(folder / "odd.png")


def series(modality: str) -> Callable[[Path], object]:
    """A CT series, and one of another modality beside it."""
    odd = {"Modality": modality, "SeriesInstanceUID": f"{ROOT}.77"}
    return lambda folder: (save_stack(folder / "a"), save_stack(folder / "odd", **odd))


def far(name: str, voxels: np.ndarray, spacing: tuple[float, float, float], *says: str) -> Case:
    """A CT for a model whose training saw 2 to 4 mm in plane, slices of 5 mm, 90 to 130 mm wide."""
    made = alone(voxels, affine=np.diag([*spacing, 1.0]))
    return Case(f"domain/{name}", made, "warns" if says else "converts", says, model="ct of abdomens")


def unit(lower: float, upper: float) -> np.ndarray:
    return np.interp(ct(), (-1000, 1000), (lower, upper))


CASES = (
    # Values that are in no HU.
    Case("domain/ct of 0 to 1", beside(unit(0, 1), dtype=np.float32), "fails", (*OTHER, "are no HU"), BESIDE),
    Case("domain/ct of -1 to 1", beside(unit(-1, 1), dtype=np.float32), "fails", (*OTHER, "are no HU"), BESIDE),
    Case("domain/ct of 0 to 10", beside(unit(0, 10), dtype=np.float32), "fails", (*OTHER, "--force"), BESIDE),
    Case("domain/ct of z scores", beside((ct() + 500) / 500, dtype=np.float32), "fails", OTHER, BESIDE),
    Case("domain/ct that is 0", beside(np.zeros((32, 32, 4))), "fails", (*OTHER, "values span 0 "), BESIDE),
    Case("domain/ct of air", alone(np.full((32, 32, 4), -1024)), "warns", ("no body found",)),
    Case("domain/ct of 1 and air", alone(np.where(ct() > -500, 1, -1024)), "warns", ("all that is no air spans 0 HU",)),
    Case("domain/ct without offset", alone(np.maximum(ct() + 1024, 0)), "warns", ("an offset of 1024 may be lost",)),
    Case("domain/ct without offset, padded", alone(np.where(ct() < -500, -2000, ct() + 1100)), "warns", ("offset",)),
    Case("domain/ct in 8 bits", alone(np.clip((ct() + 160) * 255 / 400, 0, 255), dtype=np.uint8), "warns", ("offset",)),
    Case("domain/ct as picture", picture, "warns", ("an offset of 1024 may be lost",)),
    Case("domain/mr without words to ct", alone(mr()), "warns", ("an offset of 1024 may be lost",)),
    Case("domain/ct without oddity", alone(ct()), "converts"),
    # DICOM that says what it is.
    Case("domain/mr series", series("MR"), "fails", ("odd", "modality is MR"), BESIDE),
    Case("domain/pet series", series("PT"), "fails", ("odd", "modality is PT"), BESIDE),
    Case("domain/ultrasound series", series("US"), "fails", ("odd", "modality is US"), BESIDE),
    Case("domain/cone beam series", series("XA"), "warns", ("modality 'XA' does not say",), (*BESIDE, "odd.nii.gz")),
    Case("domain/other series", series("OT"), "warns", ("modality 'OT' does not say",), (*BESIDE, "odd.nii.gz")),
    Case("domain/ct series to mr", series("MR"), "fails", ("modality is CT",), ("odd.nii.gz",), model="mr"),
    Case("domain/ct series to mr to ct", series("MR"), "fails", ("is CT",), ("odd.nii.gz",), model="mr to ct"),
    Case(
        "domain/pet series, forced", series("PT"), "warns", ("forced", "modality is PT"), (*BESIDE, "odd.nii.gz"),
        options=FORCE,
    ),
    # Label maps and masks.
    Case("domain/mask to ct", beside(labels(values=(1,)), dtype=np.uint8), "fails", (*OTHER, "label map"), BESIDE),
    Case("domain/labels to ct", beside(labels(), dtype=np.uint8), "fails", (*OTHER, "4 whole numbers"), BESIDE),
    Case("domain/labels to mr", alone(labels(), dtype=np.float32), "fails", ("label map",), (), model="mr"),
    Case("domain/label intent", with_intent(LABEL), "fails", ("it says that it is a label map",), ()),
    Case("domain/statistic intent", with_intent(ZSCORE), "warns", ("values of a statistic",)),
    Case("domain/medgan's label map", told({"Segmentation": True, "Outputs": {}}), "fails", ("label map",), ()),
    # What lies beside it.
    Case("domain/told PT", told({"Modality": "PT"}), "fails", ("it says that its modality is PT",), ()),
    Case("domain/told MR", told({"Modality": " mr "}), "fails", ("it says that its modality is MR",), ()),
    Case("domain/told CT to mr", told({"Modality": "CT"}, mr()), "fails", ("modality is CT",), (), model="mr"),
    Case("domain/told CT", told({"Modality": "CT", "Units": "HU"}), "converts"),
    Case("domain/told OT", told({"Modality": "OT"}), "warns", ("modality 'OT' does not say",)),
    Case("domain/told Bq per ml", told({"Units": "Bq/mL"}), "fails", ("it says that its unit is 'Bq/mL'",), ()),
    Case("domain/told medgan's MR", told({"Unit": "arbitrary"}), "fails", ("unit is 'arbitrary'",), ()),
    Case("domain/told nonsense", told({"Modality": ["MR"], "Units": 3, "Unit": None}), "converts"),
    Case("domain/told by no JSON", told("{'Modality': MR"), "warns", ("odd.json beside it cannot be read",)),
    Case("domain/synthetic again", told({"Synthetic": True, "Direction": "to_target"}), "warns", ("synthetic itself",)),
    # MR.
    Case("domain/mr of 0 to 1", alone(mr() / 800, dtype=np.float32), "converts", model="mr"),
    Case("domain/mr of z scores", alone((mr() - 200) / 200, dtype=np.float32), "warns", ("z scores",), model="mr"),
    Case("domain/ct without words to mr", alone(ct()), "warns", ("negative intensities",), model="mr"),
    Case("domain/labels to mr to ct", alone(labels(), dtype=np.uint8), "fails", ("label map",), (), model="mr to ct"),
    # Forced.
    Case("domain/forced 0 to 1", alone(unit(0, 1), dtype=np.float32), "warns", ("forced, although",), options=FORCE),
    Case("domain/forced labels", alone(labels()), "warns", ("forced, although",), options=FORCE, model="mr"),
    Case("domain/forced PT", told({"Modality": "PT"}), "warns", ("modality is PT",), options=FORCE),
    # Far outside of what the training saw.
    far("spacing as seen", ct(), (3, 3, 5)),
    far("finer in plane", ct((199, 199, 4)), (0.45, 0.45, 5)),
    far("a slice", ct((32, 32, 1)), (3, 3, 5)),
    far("thin slices", ct(), (3, 3, 1), FAR_X + "1 mm along superior"),
    far("thick slices", ct(), (3, 3, 30), FAR_X + "30", FAR_Z),
    far("a mouse", ct(), (0.4, 0.4, 5),
        "field of view far outside what the model saw: 13 mm along right, 90 to 130 mm in training"),
    far("coarse in plane", ct(), (17, 17, 5), FAR_X + "17 mm"),
)  # fmt: skip
