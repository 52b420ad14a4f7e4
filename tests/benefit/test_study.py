"""A study run in one go, and one that is stopped and run again: what is left, told and compared."""

import json
import time
from pathlib import Path

from rich.console import Console

from medgan.benefit.study import run_benefit

def test_x(asked, tmp_path):
    t=time.time()
    with (tmp_path / "told.txt").open("w+") as told:
        found = run_benefit(asked(tmp_path, overrides=["ratios_percent=[0, 50, 100]"]), Console(file=told, width=140))
        told.seek(0)
        print(told.read())
    print(time.time()-t)
    print(found.failures)
    print((found.folder/"benefit.json").read_text()[:3000])
    import subprocess; print(subprocess.run(f"ls -R {found.folder} | head -150", shell=True, capture_output=True, text=True).stdout)
    assert 0
