"""Make the golden files anew, all or those of some studies, in a commit of its own that says why the figures changed.

OMP_NUM_THREADS=1 PYTHONPATH=tests python -m golden.renew [STUDY ...]
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from golden.compare import MACHINE, machine
from golden.studies import STUDIES, GoldenStudies, golden_files


def renew(*names: str) -> None:
    """Run studies, by default all, and keep their tables and the machine's description."""
    if names and machine() != json.loads(MACHINE.read_text()):
        sys.exit(f"{MACHINE} names another machine than this one: renew all studies, so that it is true of each.")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ |= {"MEDGAN_CACHE": str(root / "cache"), "MEDGAN_HOME": str(root / "home")}
        golden = GoldenStudies(root)
        for name in names or STUDIES:
            study = golden.whole(name)
            for file, golden_file in golden_files(name).items():
                shutil.copyfile(study / file, golden_file)
            print(f"{name}: {', '.join(path.name for path in golden_files(name).values())}")
    MACHINE.write_text(json.dumps(machine(), indent=1) + "\n")


if __name__ == "__main__":
    renew(*sys.argv[1:])
