"""The slice viewer in a real browser, on volumes that are made up; values come from the files, read anew."""

import base64
import io
import itertools
import time

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from browsing import opened
from medgan.data.grid import made_up_grid
from medgan.data.volumes import write_volume
from medgan.pictures.windows import change
from medgan.report.html import LIVE_POLICY
from medgan.report.viewer import ViewerCase, viewer_assets, viewer_html

RAS = np.diag([2.0, 2.0, 5.0, 1.0])
RAS[:3, 3] = -40, -60, 100
SHAPE = (40, 48, 16)


def rotated(degrees):
    """RAS turned about the patient's long axis."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cosine, -sine, 0, 0], [sine, cosine, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]) @ RAS


def stored(folder, name, upright, affine=RAS, axes=(0, 1, 2), flips=()):
    """Write voxels (R, A, S) with their axes in another order and direction; the path."""
    picture = nib.Nifti1Image(upright, affine)
    order = np.array([[axes.index(axis), -1 if axis in flips else 1] for axis in range(3)], dtype=float)
    picture = picture.as_reoriented(order)
    path = folder / f"{name}.nii.gz"
    write_volume(np.asanyarray(picture.dataobj), made_up_grid(picture.shape, picture.affine), path, upright.dtype)
    return path


def body(seed=0):
    """An oval of tissue in air, with noise; HU."""
    x, y, z = np.indices(SHAPE)
    inside = ((x - 20) / 17) ** 2 + ((y - 24) / 20) ** 2 < 1
    rng = np.random.default_rng(seed)
    return np.where(inside, 40 + 3 * z + rng.normal(0, 15, SHAPE), -1000).round().astype(np.int16)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("case")
    kidney = np.zeros(SHAPE, np.uint8)
    kidney[10:16, 20:30, 4:12] = 2
    (folder / "labels.json").write_text('{"labels": {"0": "air", "2": "left_kidney"}}')
    volumes = {name: stored(folder, name, body(seed)) for seed, name in enumerate(("source", "synthetic", "truth"))}
    return ViewerCase("case 1", "MAE 17 HU", volumes, {"kidney": stored(folder, "kidney", kidney)})


def page(folder, cases, **settings):
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{LIVE_POLICY}"><title>Cases</title>'
    )
    scale = '<meta name="viewport" content="width=device-width">'
    text = f"{head}{scale}{viewer_assets()}</head><body><main><h1>Cases</h1>{viewer_html(cases, **settings)}</main>"
    path = folder / "page.html"
    path.write_text(f'<!doctype html><html lang="en"><head>{text}</body></html>', encoding="utf-8")
    return path


class Viewer:
    """The viewer of an opened page."""

    def __init__(self, shown):
        self.page = shown.page
        self.page.evaluate("medganViewer.ready")

    def settle(self):
        self.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def until(self, condition):
        """Wait; Playwright's own waiting evaluates text, which the page's policy forbids."""
        deadline = time.monotonic() + 10
        while not self.page.evaluate(condition):
            assert time.monotonic() < deadline, condition
            time.sleep(0.02)

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)
        self.settle()

    def focus(self, plane="axial"):
        self.page.locator(f'canvas[data-plane="{plane}"]').first.focus()
        return self

    def go_to(self, *mm):
        self.page.evaluate("(mm) => medganViewer.goTo(mm)", list(mm))
        self.settle()

    def value(self, name, mm):
        return self.page.evaluate("([name, mm]) => medganViewer.valueAt(name, mm)", [name, list(map(float, mm))])

    def state(self, name):
        return self.page.evaluate("(name) => medganViewer.state[name]", name)

    def canvas(self, plane="axial"):
        """Pixels (rows, columns, RGBA) of a plane."""
        url = self.page.evaluate(f"document.querySelector('canvas[data-plane={plane}]').toDataURL()")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGBA"))

    def pixel(self, mm, plane="axial"):
        place = self.page.evaluate("([plane, mm]) => medganViewer.pixelOf(plane, mm)", [plane, list(map(float, mm))])
        return self.canvas(plane)[int(place["y"]), int(place["x"]), :3].astype(int)


@pytest.fixture(scope="module")
def shown(browser, case, tmp_path_factory):
    with opened(browser, page(tmp_path_factory.mktemp("page"), [case, case])) as the_page:
        yield the_page


@pytest.fixture
def viewer(shown):
    shown.page.reload()
    return Viewer(shown)


def mm_of(voxel):
    return (RAS @ [*voxel, 1])[:3]


def test_a_page_from_disk_asks_for_nothing_and_complains_of_nothing(viewer, shown):
    viewer.focus().press("s", "b", "d", "m", "w", "x", "+", "ArrowUp")
    assert not shown.requests
    assert not shown.errors
    assert not shown.serious()


def test_the_canvas_changes_with_slice_window_and_swipe(viewer):
    looks = [viewer.canvas()]
    viewer.focus()
    for key in ("ArrowUp", "3", "s", "ArrowRight", "d", "m", "+"):
        viewer.press(key)
        looks.append(viewer.canvas())
    for before, after in itertools.pairwise(looks):
        assert before.shape == after.shape
        assert (before != after).any()


def test_values_and_differences_are_those_of_the_files(viewer, case):
    voxels = {name: np.asanyarray(nib.load(path).dataobj) for name, path in case.volumes.items()}
    for voxel in [(20, 24, 8), (5, 24, 0), (12, 30, 15), (30, 10, 3)]:
        mm = mm_of(voxel)
        values = {name: viewer.value(name, mm) for name in voxels}
        assert values == {name: float(each[voxel]) for name, each in voxels.items()}
        difference = float(voxels["synthetic"][voxel]) - float(voxels["truth"][voxel])
        assert viewer.value("difference", mm) == difference
    assert viewer.value("mask kidney", mm_of((12, 25, 8))) == 1
    assert viewer.value("mask kidney", mm_of((22, 25, 8))) == 0


def test_pixels_of_the_difference_have_the_colour_of_the_recomputed_value(viewer, case):
    one, other = (nib.load(case.volumes[name]).get_fdata() for name in ("synthetic", "truth"))
    viewer.focus().press("d", "i", "m")
    viewer.go_to(*mm_of((20, 24, 8)))
    for voxel in [(12, 30, 8), (28, 14, 8), (30, 30, 8), (25, 33, 8)]:
        expected = change(100, "HU").colours((one - other)[voxel].reshape(1, 1))[0, 0]
        np.testing.assert_allclose(viewer.pixel(mm_of(voxel)), expected, atol=3)


def test_grey_is_linear_in_the_window(viewer, case):
    truth = nib.load(case.volumes["truth"]).get_fdata()
    viewer.focus().press("i", "m", "v")  # plain voxels, no outlines, truth
    viewer.go_to(*mm_of((20, 24, 8)))
    for voxel in [(12, 30, 8), (28, 14, 8), (30, 30, 8)]:
        expected = 255 * np.clip((truth[voxel] + 160) / 400, 0, 1)
        np.testing.assert_allclose(viewer.pixel(mm_of(voxel)), [expected] * 3, atol=2)


def test_swipe_shows_one_image_left_of_the_curtain_and_the_other_right(viewer, case):
    voxels = {name: nib.load(case.volumes[name]).get_fdata() for name in ("synthetic", "truth")}
    viewer.focus().press("i", "m", "s")
    viewer.go_to(*mm_of((20, 24, 8)))
    for name, voxel in [("synthetic", (30, 30, 8)), ("truth", (10, 30, 8))]:  # the patient's right is on the left
        expected = 255 * np.clip((voxels[name][voxel] + 160) / 400, 0, 1)
        np.testing.assert_allclose(viewer.pixel(mm_of(voxel)), [expected] * 3, atol=2)


def test_keys_do_what_the_help_says(viewer):
    viewer.focus("coronal")
    before = viewer.state("cross")
    viewer.press("ArrowUp", "ArrowUp", "ArrowDown")
    assert viewer.state("cross") == [before[0], before[1] + 1, before[2]]
    viewer.focus().press("PageDown")
    assert viewer.state("cross")[2] == max(0, before[2] - 10)
    viewer.press("Home")
    assert viewer.state("cross")[2] == SHAPE[2] - 1
    viewer.press("s")
    assert viewer.state("mode") == "swipe"
    viewer.press("d")
    assert viewer.state("mode") == "difference"
    viewer.press("m", "3")
    assert viewer.state("masks") is False
    assert viewer.state("ranges")["HU"]["window"] == [-450, 1050]
    viewer.press("n")
    viewer.until("medganViewer.state.number === 1")
    assert viewer.page.url.endswith("#case-2")
    viewer.page.keyboard.press("?")
    assert viewer.page.get_by_role("dialog").is_visible()


def test_outlines_are_switched_together_and_one_by_one(viewer):
    viewer.focus()
    viewer.go_to(*mm_of((12, 25, 8)))
    both = [viewer.canvas()]
    viewer.press("m")
    both.append(viewer.canvas())
    viewer.press("m")
    viewer.page.get_by_role("button", name="left kidney").click()
    viewer.settle()
    both.append(viewer.canvas())
    assert (both[0] != both[1]).any()
    np.testing.assert_array_equal(both[1], both[2])


def test_the_slice_in_view_prints_and_its_controls_do_not(viewer, shown):
    shown.page.emulate_media(media="print")
    assert viewer.page.locator('canvas[data-plane="axial"]').is_visible()
    assert not viewer.page.get_by_role("button", name="Difference").is_visible()
    shown.page.emulate_media(media="screen")


def test_a_link_selects_a_case_and_a_place(viewer):
    viewer.page.evaluate("location.hash = 'case-2'")
    viewer.until("medganViewer.state.number === 1")
    assert viewer.page.locator("[data-do=case]").input_value() == "1"
    viewer.page.evaluate(f"location.hash = 'case-1@{','.join(map(str, mm_of((7, 30, 3))))}'")
    viewer.until("medganViewer.state.number === 0 && medganViewer.state.cross[0] === 7")
    assert viewer.state("cross") == [7, 30, 3]


STORAGE = {
    "RAS": {},
    "LPS": {"flips": (0, 1)},
    "sagittal": {"axes": (1, 2, 0), "flips": (1,)},
    "oblique": {"affine": rotated(12)},
}


@pytest.fixture(scope="module")
def marked(browser, tmp_path_factory):
    """A page with a marker at the patient's left front, a case a way of storing."""
    folder = tmp_path_factory.mktemp("marked")
    voxels = np.full(SHAPE, -1000, np.int16)
    voxels[5:35, 5:43] = 0
    voxels[8:11, 36:39, 11:14] = 1000
    cases = [ViewerCase(name, "", {"source": stored(folder, name, voxels, **how)}) for name, how in STORAGE.items()]
    with opened(browser, page(folder, cases)) as the_page:
        yield Viewer(the_page)


@pytest.mark.parametrize("number", range(len(STORAGE)), ids=STORAGE)
def test_the_patients_left_front_is_on_the_upper_right_however_it_is_stored(marked, number):
    marked.page.evaluate(f"medganViewer.open({number + 1})")
    affine = STORAGE["oblique"]["affine"] if number == 3 else RAS
    marked.go_to(*(affine @ [9, 37, 12, 1])[:3])
    marked.focus().press("5")
    places = {}
    for plane in ("axial", "coronal", "sagittal"):
        pixels = marked.canvas(plane)
        bright = np.argwhere(
            (pixels[..., 0] > 190) & (np.ptp(pixels[..., :3].astype(int), axis=2) < 6)
            & (np.abs(np.indices(pixels.shape[:2]) - np.array(pixels.shape[:2])[:, None, None] / 2)
               < np.array(pixels.shape[:2])[:, None, None] * 0.38).all(axis=0)
        )  # fmt: skip
        places[plane] = bright.mean(axis=0) / pixels.shape[:2] - 0.5  # rows and columns from the middle
    down, right = places["axial"]
    assert down < -0.1
    assert right > 0.1
    assert places["coronal"][1] > 0.1, "the patient's left is on the right"
    assert places["coronal"][0] < -0.05, "the head is up"
    assert places["sagittal"][1] < -0.1, "the front is on the left"


def test_three_dimensions_are_drawn_from_the_page_alone(viewer, shown):
    shown.page.set_viewport_size({"width": 390, "height": 500})  # the CPU draws it
    viewer.focus().press("t")
    viewer.until(
        "Boolean(document.querySelector('.mv-3d select')?.value) && document.querySelector('[role=status]').hidden"
    )
    viewer.page.select_option(".mv-3d select", "skin")
    picture = np.asarray(Image.open(io.BytesIO(viewer.page.locator(".mv-3d div").screenshot())).convert("L"))
    assert 0.02 < (picture > 60).mean() < 0.9, "a body in the middle of nothing"
    viewer.page.locator(".mv-3d canvas").focus()
    viewer.press("t")
    shown.page.set_viewport_size({"width": 1280, "height": 900})
    assert viewer.page.locator('canvas[data-plane="axial"]').is_visible()
    assert not shown.requests
    assert not shown.errors


def test_a_page_without_niivue_says_so(browser, case, tmp_path, monkeypatch):
    monkeypatch.setattr("medgan.report.viewer.NIIVUE", "missing")
    with opened(browser, page(tmp_path, [case])) as the_page:
        button = Viewer(the_page).page.get_by_role("button", name="3D")
        assert button.is_disabled()
        assert "lacks NiiVue" in button.get_attribute("title")


def test_what_cannot_be_read_or_lies_elsewhere_is_named_and_the_rest_is_shown(browser, case, tmp_path):
    broken = tmp_path / "Jane_Doe.nii.gz"
    broken.write_bytes(b"no image")
    moved = RAS.copy()
    moved[0, 3] += 30
    elsewhere = stored(tmp_path, "elsewhere", body(), affine=moved)
    volumes = {"source": case.volumes["source"], "synthetic": broken, "truth": elsewhere}
    path = page(tmp_path, [ViewerCase("case 1", "", volumes), ViewerCase("case 2", "", {"truth": broken})])
    assert "Jane_Doe" not in path.read_text(encoding="utf-8")
    with opened(browser, path) as the_page:
        viewer = Viewer(the_page)
        message = viewer.page.get_by_role("status").inner_text()
        assert "Not shown: synthetic: " in message
        assert "Not shown: truth: lies on another voxel grid" in message
        assert viewer.value("source", mm_of((20, 24, 8))) == body()[20, 24, 8]
        viewer.page.evaluate("medganViewer.open(2)")
        assert "Not shown: truth: " in viewer.page.get_by_role("status").inner_text()
        assert not the_page.errors


def test_on_a_telephone_nothing_scrolls_sideways_and_a_tap_moves_the_cross(browser, case, tmp_path):
    with opened(browser, page(tmp_path, [case]), 390, 844) as the_page:
        viewer = Viewer(the_page)
        for key in ("s", "b", "d"):
            viewer.focus().press(key)
            assert viewer.page.evaluate("document.documentElement.scrollWidth") <= 390
        viewer.page.locator('canvas[data-plane="axial"]').click(position={"x": 100, "y": 120})
        viewer.settle()
        assert viewer.state("cross")[0] > SHAPE[0] / 2, "left of the middle is the patient's right"


def test_a_page_keeps_to_its_size_and_says_what_it_left_out(case, tmp_path):
    whole, frame = viewer_html([case, case]), len(viewer_html([ViewerCase("case 1", "", {})]))
    budget = (len(whole) - frame) // 2
    small = viewer_html([case, case], budget_mb=budget / 1e6)
    assert len(small) - frame < budget
    assert "Thinned to keep this page small" in small
    assert "Thinned" not in whole


def test_an_mr_beside_ct_has_a_window_of_its_own_and_is_no_part_of_differences(browser, tmp_path):
    mr = np.where(body() > -500, 300 + body(), 0).astype(np.int16)
    volumes = {"source": stored(tmp_path, "mr", mr), "synthetic": stored(tmp_path, "ct", body())}
    with opened(browser, page(tmp_path, [ViewerCase("case 1", "", volumes)])) as the_page:
        viewer = Viewer(the_page)
        assert viewer.state("ranges")["source"]["window"][0] > 0
        assert viewer.page.get_by_role("button", name="Difference").is_disabled()
        assert "no value below -100" in viewer.page.locator(".mv-notes").inner_text()


def test_the_wheel_turns_slices_and_dragging_moves_the_curtain_and_the_window(viewer):
    box = viewer.page.locator('canvas[data-plane="axial"]').bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    before, mouse = viewer.state("cross")[2], viewer.page.mouse
    mouse.move(*middle)
    time.sleep(0.4)  # a wheel that scrolls the page goes on scrolling it
    mouse.wheel(0, -100)
    viewer.until(f"medganViewer.state.cross[2] === {before + 1}")
    viewer.focus().press("s")
    mouse.move(*middle)
    mouse.down()
    mouse.move(middle[0] + box["width"] / 4, middle[1])
    mouse.up()
    assert viewer.state("curtain") == pytest.approx(0.75, abs=0.01)
    mouse.move(*middle)
    mouse.down(button="right")
    mouse.move(middle[0] + 50, middle[1])
    mouse.up(button="right")
    low, high = viewer.state("ranges")["HU"]["window"]
    assert high - low > 400


def test_a_single_slice_has_one_plane(browser, tmp_path):
    slice_only = stored(tmp_path, "slice", body()[:, :, :1])
    with opened(browser, page(tmp_path, [ViewerCase("case 1", "", {"source": slice_only})])) as the_page:
        assert Viewer(the_page).page.locator(".mv canvas").count() == 1
        assert not the_page.errors


def test_markup_in_names_is_text(tmp_path, case):
    title = "</script><img src=x onerror=alert(1)>"
    html = viewer_html([ViewerCase(title, title, case.volumes)])
    assert title not in html
    assert "<img" not in html


def test_no_case_is_no_viewer():
    assert viewer_html([]).strip() == ""
