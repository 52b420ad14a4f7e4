"""Small cohorts in every layout."""

import json

import nibabel as nib
import numpy as np

from medgan.data.domains import Domain, DomainPair, Window


def ct(name):
    return Domain(name=name, modality="CT", unit="HU", air=-1024, window=Window())


def mr(name):
    return Domain(name=name, modality="MR", unit="arbitrary", air=0, window=Window(lower=1, upper=99, percentiles=True))


CT_PAIR = DomainPair(source=ct("contrast"), target=ct("plain"), paired=False)
MR_PAIR = DomainPair(source=mr("t1"), target=mr("t1_gd"), paired=True)


def image(path, voxels=0, spacing=(1.0, 1.0, 1.0), origin=0, **header):
    """A NIfTI file, small and full of one number unless voxels are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    made = nib.Nifti1Image(voxels if np.ndim(voxels) else np.full((2, 3, 2), voxels, np.int16), affine)
    for name, value in header.items():
        made.header[name] = value
    made.to_filename(path)
    return path


def table(folder, *lines, header="subject,domain,image,mask,split"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cohort.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return folder / "cohort.csv"


def as_table(root):
    for name in ("c1", "p1", "m1"):
        image(root / "files" / f"{name}.nii.gz")
    table(root, "one,contrast,files/c1.nii.gz,files/m1.nii.gz,", "one,plain,files/p1.nii.gz,files/m1.nii.gz,")


def as_named_folders(root):
    image(root / "contrast" / "one.nii.gz")
    image(root / "plain" / "one.nii.gz")


def as_role_folders(root):
    image(root / "source" / "one" / "a.nii.gz")
    image(root / "target" / "one" / "b.nii")


def as_bids(root):
    image(root / "sub-one" / "ses-1" / "ct" / "sub-one_ses-1_ce-iodine_ct.nii.gz")
    image(root / "sub-one" / "ses-1" / "ct" / "sub-one_ses-1_ct.nii.gz")
    (root / "dataset_description.json").write_text("{}")


def as_nnunet(root):
    image(root / "imagesTr" / "one_0000.nii.gz")
    image(root / "imagesTr" / "one_0001.nii.gz")
    image(root / "labelsTr" / "one.nii.gz")
    (root / "dataset.json").write_text(json.dumps({"channel_names": {"0": "Contrast", "1": "Plain"}}))
