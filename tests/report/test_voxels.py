"""What is read of the images equals a recomputation with numpy."""

import numpy as np
import pandas as pd
import pytest

from medgan.data.volumes import read_volume
from medgan.evaluation.fidelity import body_mask
from medgan.report.evaluation import read_evaluation
from medgan.report.voxels import BANDS, EDGES_HU, band_figures, histogram_section, joint_counts


def test_bias_and_slope_by_band_equal_numpys():
    rng = np.random.default_rng(0)
    real = rng.uniform(-1000, 900, 20_000)
    fake = 0.8 * real + rng.normal(10, 30, real.size)
    figures = band_figures(real, fake)
    assert set(figures) == set(BANDS)
    for name, (lower, upper) in BANDS.items():
        own = (real >= lower) & (real < upper)
        assert figures[name]["bias_hu"] == pytest.approx(np.mean(fake[own] - real[own]))
        assert figures[name]["slope"] == pytest.approx(np.polyfit(real[own], fake[own], 1)[0])
        assert figures[name]["share_percent"] == pytest.approx(100 * own.mean())
    assert sum(own["share_percent"] for own in figures.values()) == pytest.approx(100)


def test_a_band_with_hardly_a_voxel_has_no_figures_and_one_without_variation_no_slope():
    figures = band_figures(np.repeat([50.0, 700.0], [100, 3]), np.zeros(103))
    assert set(figures) == {"soft tissue, −30 to 100"}
    assert np.isnan(figures["soft tissue, −30 to 100"]["slope"])


def test_the_joint_histogram_counts_every_voxel_once_also_beyond_its_ends():
    real, fake = np.array([-5000.0, 0.0, 0.0, 5000.0]), np.array([0.0, 0.0, 19.0, 5000.0])
    counts = joint_counts(real, fake)
    assert counts.sum() == 4
    assert counts[0].sum() == 1
    assert counts[-1, -1] == 1
    place = np.searchsorted(EDGES_HU, 0.0, side="right") - 1
    assert counts[place].sum() == 2


def test_the_table_is_the_mean_over_subjects_and_a_file_that_is_gone_is_named(judged, tmp_path):
    cases = read_evaluation(judged).cases
    gone = cases.iloc[[0]].assign(subject="gone", image="gone", synthetic=str(tmp_path / "gone.nii.gz"))
    (section,) = histogram_section(pd.concat([cases, gone], ignore_index=True))
    biases = []
    for case in cases.to_dict("records"):
        real, fake = (read_volume(judged / case[role]).voxels for role in ("reference", "synthetic"))
        own = body_mask(real) & (real >= -30) & (real < 100)
        biases.append(float(np.mean(fake[own] - real[own])))
    row = next(row for row in section.tables[0].rows if row[0].startswith("soft tissue"))
    assert row[2].startswith(f"{np.mean(biases):+.1f} ")
    assert row[-1] == str(len(cases)) == "4"
    assert section.warnings[0].startswith("Not shown: gone: its synthetic: cannot be read")
    assert "4 of 5 images" in section.note
