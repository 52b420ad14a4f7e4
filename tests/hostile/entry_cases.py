"""Folders that hold what file systems hold besides images, and images under odd names."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

from hostile.case import Case
from hostile.nifti_cases import GOOD, beside_good, save

LATIN_1 = os.fsdecode(b"lat\xedn.nii.gz")


def link(name: str, target: str) -> Callable[[Path], object]:
    return beside_good(lambda folder: (folder / name).symlink_to(target))


def holding(name: str, content: bytes = b"something") -> Callable[[Path], object]:
    return beside_good(lambda folder: (folder / name).write_bytes(content))


def pipe(name: str) -> Callable[[Path], object]:
    return beside_good(lambda folder: os.mkfifo(folder / name))


def named(*names: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            save(folder / "plain.nii.gz").rename(folder / name)

    return make


def socket_file(folder: Path) -> None:
    here = Path.cwd()
    os.chdir(folder)  # a socket's path may have no more than 107 characters
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("socket.nii.gz")
    finally:
        os.chdir(here)


def twins(folder: Path) -> None:
    for name in ("x.nii", "x.nii.gz", GOOD):
        save(folder / name)


def pair(folder: Path) -> None:
    (folder / "p.hdr").write_bytes(bytes(348))
    (folder / "p.img").write_bytes(bytes(1000))


def cohort(folder: Path) -> None:
    save(folder / GOOD)
    os.mkfifo(folder / "pipe.nii.gz")
    (folder / "cohort.csv").write_text(f"subject,domain,image\none,contrast,pipe.nii.gz\ntwo,contrast,{GOOD}\n")


def fails(name: str, make: Callable[[Path], object], *says: str) -> Case:
    """A row whose good study is converted, while the other fails by name."""
    return Case(f"entry/{name}", make, "fails", says, outputs=(GOOD,))


def passes_over(name: str, file: str, reason: str) -> Case:
    """A row whose good study is converted, and whose other file is listed with the reason."""
    return Case(f"entry/{name}", holding(file), "converts", (file, reason, "passed over"), outputs=(GOOD,))


def keeps(name: str, *files: str, says: tuple[str, ...] = ()) -> Case:
    """A row whose outputs are called as their inputs."""
    return Case(f"entry/{name}", named(*files), "converts", says, outputs=files)


PIPE, DEVICE = "a named pipe, not a file", "a device, not a file"
CASES = (
    fails("pipe", pipe("pipe.nii.gz"), "pipe.nii.gz", PIPE),
    fails("pipe_dicom", pipe("pipe.dcm"), "pipe.dcm", PIPE),
    fails("pipe_picture", pipe("pipe.png"), "pipe.png", PIPE),
    Case("entry/pipe_no_image", pipe("pipe"), "converts", ("passed over", "pipe", PIPE), outputs=(GOOD,)),
    Case("entry/pipe_alone", lambda folder: os.mkfifo(folder / "a.nii.gz"), "fails", (PIPE,), outputs=()),
    Case("entry/pipe_as_input", lambda folder: os.mkfifo(folder / "a.nii.gz"), "fails", ("a.nii.gz", PIPE),
         (), "a.nii.gz"),
    Case("entry/pipe_in_cohort", cohort, "fails", ("pipe.nii.gz", PIPE), (GOOD,), "cohort.csv"),
    Case("entry/pipe_sidecar", pipe("good.json"), "warns", ("good.json beside it cannot be read (not a regular file)",),
         (GOOD,)),
    fails("socket", beside_good(socket_file), "socket.nii.gz", "a socket, not a file"),
    fails("endless_device", link("zero.nii.gz", "/dev/zero"), "zero.nii.gz", DEVICE),
    fails("endless_dicom", link("random.dcm", "/dev/urandom"), "random.dcm", DEVICE),
    fails("broken_link", link("lost.nii.gz", "nowhere"), "lost.nii.gz", "a link to a file that is not there"),
    fails("broken_link_dicom", link("lost.dcm", "nowhere"), "lost.dcm"),
    fails("link_to_itself", link("loop.nii.gz", "loop.nii.gz"), "loop.nii.gz", "leads back to itself"),
    Case("entry/link_up", link("up", ".."), "converts", ("passed over", "up"), outputs=(GOOD,)),
    Case("entry/link_here", link("here", "."), "converts", ("passed over", "here"), outputs=(GOOD,)),
    Case("entry/link_to_a_good_one", link("again.nii.gz", GOOD), "converts", outputs=(GOOD, "again.nii.gz")),
    Case("entry/broken_link_folder", link("closed", "gone"), "converts", ("passed over", "closed"), outputs=(GOOD,)),
    fails("folder_named_so", beside_good(lambda folder: (folder / "a.nii.gz").mkdir()), "a.nii.gz", "a folder without"),
    keeps("folder_named_so_with_one", "a.nii.gz/b.nii.gz"),
    fails("empty_file", holding("zero.nii.gz", b""), "zero.nii.gz", "an empty file"),
    fails("text_named_so", holding("a.nii.gz", b"<html>not found</html>"), "a.nii.gz", "not a NIfTI file"),
    fails("freesurfer", holding("a.mgz"), "a.mgz", "mri_convert"),
    fails("minc", holding("a.mnc"), "a.mnc", "mnc2nii"),
    fails("bzip2", holding("a.nii.bz2"), "a.nii.bz2", "unpack it first"),
    fails("analyze_pair", beside_good(pair), "p.hdr", "p.img", "convert the pair to one .nii.gz"),
    passes_over("archive", "all.zip", "packed; unpack it first"),
    passes_over("numpy", "scan.npy", "numbers without a voxel grid"),
    passes_over("matlab", "scan.mat", "numbers without a voxel grid"),
    passes_over("photo", "Photo.JPG", "a picture that medgan does not read"),
    passes_over("philips", "scan.PAR", "dcm2niix"),
    passes_over("unknown", "README", "not a file that medgan knows"),
    passes_over("hidden", ".scan.nii.gz", "hidden"),
    Case("entry/macos_shadow", holding("._good.nii.gz"), "converts", outputs=(GOOD,)),
    fails("clash", twins, "x.nii and x.nii.gz would both write"),
    fails("summary", named(GOOD, "summary.nii.gz"), "summary.nii.gz and the batch itself"),
    keeps("case", "A.nii.gz", "a.nii.gz", says=("differ by case",)),
    keeps("unicode_form", "\u00fc.nii.gz", "u\u0308.nii.gz", says=("form of an accent",)),
    keeps("escape", "red\x1b[31m.nii.gz"),
    fails("escape_broken", holding("red\x1b[31m.nii.gz"), r"red\x1b[31m.nii.gz", "not a NIfTI file"),
    fails("line_end_broken", holding("two\nlines.nii.gz"), r"two\nlines.nii.gz"),
    keeps("line_end", "two\nlines\t.nii.gz"),
    keeps("not_utf_8", LATIN_1),
    fails("not_utf_8_broken", holding(LATIN_1), r"lat\xedn.nii.gz", "not a NIfTI file"),
    Case("entry/escape_passed_over", holding("red\x1b[31m.bin"), "converts", (r"red\x1b[31m.bin",), outputs=(GOOD,)),
    keeps("spaces", "Süd Klinik (1)/CT #2 [a].nii.gz"),
    keeps("markup", "[red]a[/red].nii.gz"),
    keeps("dots", "1.2.840.113619.nii.gz"),
    Case("entry/upper_case", named("UPPER.NII.GZ"), "converts", outputs=("UPPER.nii.gz",)),
    keeps("long_name", "n" * 235 + ".nii.gz"),
    Case("entry/too_long_name", named("n" * 247 + ".nii.gz"), "converts", ("too long for an output", "n" * 227 + "~")),
    Case("entry/long_name_map", named("n" * 240 + ".nii.gz"), "converts", ("too long",), options=("--change-map",)),
)  # fmt: skip
