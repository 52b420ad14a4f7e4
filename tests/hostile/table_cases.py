"""Tables, folders, BIDS and nnU-Net raw as people have them: only the input domain's images are converted."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hostile.case import Case, Outcome
from hostile.nifti_cases import ct, save

Make = Callable[[Path], object]
MASK = np.zeros((32, 32, 4))
HEADER = "subject,domain,image"
ROWS = ("S1,contrast,S1/c.nii.gz", "S1,plain,S1/p.nii.gz")
C = ("S1/c.nii.gz",)


def scans(folder: Path, *names: str, mr: bool = False) -> None:
    """The same CT (or an MR) under each name; a mask where the name says so."""
    for number, name in enumerate(names):
        marked = any(word in name.lower() for word in ("mask", "label", "seg", "roi"))
        voxels = MASK if marked else ct(seed=number)
        save(folder / name, np.clip(voxels + 1000, 0, None) if mr and not marked and "_ct" not in name else voxels)


def table(
    *rows: str, head: str = HEADER, files: tuple[str, ...] = ("S1/c.nii.gz", "S1/p.nii.gz"),
    change: Callable[[str], str | bytes] = str,
) -> Make:  # fmt: skip
    """A folder with two scans and ``cohort.csv``; ``change`` makes of its text what lies there."""

    def make(folder: Path) -> None:
        scans(folder, *files)
        text = change("\n".join([head, *(rows or ROWS)]).replace("{here}", str(folder)) + "\n")
        (folder / "cohort.csv").write_bytes(text if isinstance(text, bytes) else text.encode())

    return make


def read(name: str, *rows: str, says: tuple[str, ...] = (), outputs: tuple[str, ...] = C, **how: Any) -> Case:
    """A table that is read right."""
    return Case(f"table/{name}", table(*rows, **how), "converts", says, outputs, "cohort.csv")


def refused(name: str, says: str, *rows: str, **how: Any) -> Case:
    """A table that is refused with what to do."""
    return Case(f"table/{name}", table(*rows, **how), "fails", ("cohort.csv", says), (), "cohort.csv")


def elsewhere(folder: Path) -> None:
    table()(folder / "data")
    (folder / "lists").mkdir()
    shutil.move(folder / "data" / "cohort.csv", folder / "lists" / "cohort.csv")


def of_scans(*names: str, mr: bool = False, **files: str) -> Make:
    """Scans in a layout, and text files beside them, ``dataset_json="…"``."""

    def make(folder: Path) -> None:
        scans(folder, *names, mr=mr)
        for name, text in files.items():
            (folder / name.replace("_json", ".json")).write_text(text)

    return make


def layout(name: str, make: Make, outputs: tuple[str, ...], *says: str, source: str = ".", **how: Any) -> Case:
    """A layout of which the input domain's images are converted, and no other."""
    return Case(f"layout/{name}", make, "converts", says, outputs, source, **how)


def no_layout(name: str, make: Make, *says: str, source: str = ".") -> Case:
    return Case(f"layout/{name}", make, "fails", says, (), source)


def checked(name: str, make: Make, outcome: Outcome, *says: str, options: tuple[str, ...] = ()) -> Case:
    """A cohort of MR and CT, as `medgan data check` sees it."""
    how: dict[str, Any] = {"options": (*options, "translator=pix2pix"), "command": "check"}
    return Case(f"check/{name}", make, outcome, says, (), ".", "mr to ct", **how)


NNUNET = ("imagesTr/A_0000.nii.gz", "imagesTr/A_0001.nii.gz", "labelsTr/A.nii.gz")
CHANNELS = json.dumps({"channel_names": {"0": "contrast", "1": "plain"}})
T1, T1_2 = "sub-1/anat/sub-1_run-1_T1w.nii.gz", "sub-1/anat/sub-1_run-2_T1w.nii.gz"
CT = "sub-1/ct/sub-1_ct.nii.gz"
TWO_VISITS = tuple(
    f"sub-1/ses-{visit}/{place}/sub-1_ses-{visit}_{word}.nii.gz"
    for place, word in (("anat", "T1w"), ("ct", "ct"))
    for visit in "ab"
)

CASES = (
    read("semicolons", change=lambda text: text.replace(",", ";")),
    read("tabs", change=lambda text: text.replace(",", "\t")),
    read("bars", change=lambda text: text.replace(",", "|")),
    read("mark and crlf", change=lambda text: text.replace("\n", "\r\n").encode("utf-8-sig")),
    read("utf-16", change=lambda text: text.encode("utf-16")),
    read("utf-16 without mark", change=lambda text: text.encode("utf-16-le")),
    read("only carriage returns", change=lambda text: text.replace("\n", "\r")),
    read("capital header", head="Subject,DOMAIN, Image "),
    read("capital domain", "S1,Contrast,S1/c.nii.gz", "S1,PLAIN,S1/p.nii.gz"),
    read("spaces that do not break", "S1,contrast\u00a0,S1/c.nii.gz\u200b"),
    read("backslashes", "S1,contrast,S1\\c.nii.gz"),
    read("blank rows", ROWS[0], "", ",,", ROWS[1], ",,,,"),
    read("pandas index", *(f"{number},{row}" for number, row in enumerate(ROWS)), head=f",{HEADER}"),
    read("quoted", *(",".join(f'"{cell}"' for cell in row.split(",")) for row in ROWS)),
    read("spreadsheet's own line", change=lambda text: f"sep=;\n{text.replace(',', ';')}"),
    read("header behind #", head=f"#{HEADER}"),
    read("comments", "# site two", *ROWS, says=("1 line beginning with # left out",)),
    read("a row commented out", f"#{ROWS[0]}", "S2,contrast,S1/p.nii.gz", outputs=("S1/p.nii.gz",)),
    read("masks that are not there", *(f"{row},n/a" for row in ROWS), head=f"{HEADER},mask"),
    read("words for parts", *(f"{row},Training" for row in ROWS), head=f"{HEADER},split"),
    read("absolute paths", *(row.replace("S1/", "{here}/S1/") for row in ROWS), says=("2 of its paths are absolute",)),
    read("subject that is none", "nan,contrast,S1/c.nii.gz", says=("nan taken for the name of a subject",)),
    read("slash in a subject", "site/S1,contrast,S1/c.nii.gz"),
    read("accents in two forms", "S1,contrast,Mu\u0308ller.nii.gz", files=("M\u00fcller.nii.gz",),
         outputs=("M\u00fcller.nii.gz",)),
    Case("table/elsewhere", elsewhere, "converts", (), C, "lists/cohort.csv", options=("--root", "{folder}/data")),
    Case("table/elsewhere, not said", elsewhere, "fails", ("cohort.csv", "as --root"), (), "lists/cohort.csv"),
    refused("latin-1", "line 2 has a letter of another encoding", "M\u00fcller,plain,S1/p.nii.gz",
            change=lambda text: text.encode("latin-1")),
    refused("nul bytes", "NUL bytes (line 4)", change=lambda text: text.encode() + bytes(3)),
    refused("workbook", "it is a workbook", change=lambda text: b"PK\3\4" + text.encode()),
    refused("a column twice", "two columns 'image'", "S1,contrast,S1/c.nii.gz,S1/c.nii.gz", head=f"{HEADER},IMAGE"),
    refused("other words", "It has: patient, modality, file", head="patient,modality,file"),
    refused("spaces between columns", "not by spaces", head="subject domain image"),
    refused("a quotation mark", "line 3: a quotation mark is opened", ROWS[0], 'S1,plain,"S1/p.nii.gz', *ROWS),
    refused("a drive", "path of another machine", "S1,contrast,C:\\scans\\c.nii.gz"),
    refused("a server", "path of another machine", "S1,contrast,\\\\srv\\share\\c.nii.gz"),
    refused("a row twice", "is already on line 2", *ROWS, ROWS[0]),
    refused("no such part", "split 'tune' is none of", f"{ROWS[0]},tune", head=f"{HEADER},split"),
    refused("other domains alone", "has no image of domain contrast", "S1,t1,S1/c.nii.gz"),
    refused("escape in a cell", "does not exist", "S1,contrast,\x1b[2Jc.nii.gz"),
    refused("empty", "no column subject, domain, image", change=lambda text: ""),
    layout("folder with its table", table(), C, "passed over, of domain plain, not contrast (1): S1/p.nii.gz"),
    layout("nnU-Net raw", of_scans(*NNUNET, dataset_json=CHANNELS), ("imagesTr/A_0000.nii.gz",),
           "passed over, label maps (1): labelsTr/A.nii.gz"),
    layout("nnU-Net raw, one folder", of_scans(*NNUNET, "imagesTs/B_0000.nii.gz", dataset_json=CHANNELS),
           ("B_0000.nii.gz",), source="imagesTs"),
    layout("nnU-Net raw, an odd name", of_scans(*NNUNET, "imagesTr/notes.nii.gz", dataset_json=CHANNELS),
           ("imagesTr/A_0000.nii.gz",), "of no channel in dataset.json (1): imagesTr/notes.nii.gz"),
    layout("folders of domains",
           of_scans("Contrast/A.nii.gz", "plain/A.nii.gz", "masks/A.nii.gz", "Contrast/A_seg.nii.gz", "x/B.nii.gz"),
           ("Contrast/A.nii.gz",), "passed over, masks or label maps (2)",
           "no part of folders Contrast/ and plain/ (1): x/B.nii.gz"),
    no_layout("label maps alone", of_scans(*NNUNET, "labelsTr/A_0001.nii.gz", dataset_json=CHANNELS),
              "no image of domain contrast", source="labelsTr"),
    no_layout("a table that is not there",
              lambda folder: (scans(folder, "a.nii.gz"), (folder / "cohort.csv").symlink_to("gone.csv")),
              "cohort.csv", "a link to a file that is not there"),
    layout("no layout", of_scans("source/A.nii.gz", "x/B.nii.gz"), ("source/A.nii.gz", "x/B.nii.gz")),
    no_layout("folders of another method", of_scans("trainA/A.nii.gz", "trainB/A.nii.gz"), "trainA/ and trainB/"),
    layout("a domain's name among other folders", of_scans("plain/A.nii.gz", "reverse/B.nii.gz", "C.nii.gz"),
           ("plain/A.nii.gz", "reverse/B.nii.gz", "C.nii.gz")),
    layout("both domains among other folders", of_scans("plain/A.nii.gz", "contrast/A.nii.gz", "reverse/B.nii.gz"),
           ("contrast/A.nii.gz",), "read as folders contrast/ and plain/: 1 images", "no part of folders",
           "reverse/B.nii.gz"),
    no_layout("the other domain alone", of_scans("plain/A.nii.gz"), "no image of domain contrast", "it has: plain"),
    layout("BIDS", of_scans(T1, CT, "sub-1/anat/sub-1_label-lesion_mask.nii.gz", mr=True), (T1,),
           "of domain ct, not mr (1)", model="mr to ct"),
    layout("BIDS, one run chosen", of_scans(T1, T1_2, CT, mr=True), (T1_2,), "not chosen by --bids (1)",
           model="mr to ct", options=("--bids", "run=2")),
    layout("BIDS, one subject", of_scans(T1, CT, mr=True), ("anat/sub-1_run-1_T1w.nii.gz",), source="sub-1",
           model="mr to ct"),
    checked("BIDS, two runs for one CT", of_scans(T1, T1_2, CT, mr=True), "fails",
            "they differ in run (1, 2); choose with --bids run=1"),
    checked("BIDS, a run chosen", of_scans(T1, T1_2, CT, mr=True), "converts", "no findings",
            options=("--bids", "run=1")),
    checked("BIDS, no such run", of_scans(T1, CT, mr=True), "fails", "--bids run=9: no image has it",
            options=("--bids", "run=9")),
    checked("BIDS, two sessions", of_scans(*TWO_VISITS, mr=True), "converts", "4 images of 1 subjects"),
    checked("BIDS, scans of two visits", of_scans(TWO_VISITS[0], TWO_VISITS[3], mr=True), "fails",
            "only images of one session are a pair"),
)  # fmt: skip
