"""What a figure looks like: nothing clipped or over one another, nothing empty, the same colours everywhere."""

import itertools
import re

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle

from fastat.report import figure_data, figures, methods
from fastat.report.contents import FIGURES
from fastat.report.figures import printed, style, sweeps
from tests.report.test_figures import EPS, STEPS, named, results
from tests.report.test_sweeps import made


def grid(names, seeds, eps=("51/255", "77/255", "102/255")):
    """Runs of these METHOD/VARIANT at each eps."""
    return [("digits", "preact_tiny", one, *name.split("/"), str(seed)) for one in eps for name in names
            for seed in range(seeds)]  # fmt: skip


MANY = [*(f"{name}/paper" for name in methods.METHODS), "fgsm_rs/fgsm", *(f"newone{k}/paper" for k in range(14))]
ONE_EACH = ["clean/paper", "pgd10/paper", "fgsm_rs/paper", "atta/paper", "atas/paper"]


GRIDS = {
    "steps": named(STEPS, 3), "many": grid(MANY, 1), "single": named(ONE_EACH, 1),
    "few": grid(ONE_EACH, 3, ["8/255", "16/255"]),
    "gaps": [*grid(ONE_EACH, 1), *grid(["fgsm_adaptive/paper", "nuat/paper"], 2, ["77/255"]),
             *grid(["yopo/paper"], 1, ["51/255"])],
}  # fmt: skip
SWEPT = {  # what is swept, over which methods and more
    "one sweep": ({"fgsm_rs": {"alpha": ["0.5 eps", "1 eps", "1.5 eps"]}}, ["fgsm_rs"], {"seed": 0}),
    "sweeps": ({"fgsm_rs": [{"random_start": [True, False]}, {"schedule.lr": [0.01, 0.1, 0.3]}],
                "atta": {"store": ["float32", "int8", "float16"], "reset_every": [2, 5, 10]},
                "atas": {"c": [0.001, 0.01, 0.1, 1]}}, ["fgsm_rs", "atta", "atas"], {}),
}  # fmt: skip


@pytest.fixture(scope="module", params=[*GRIDS, *SWEPT])
def laid_out(request, tmp_path_factory):
    """Name -> figure, as it is saved: of step sizes, 32 methods, one seed at one eps, two eps, one of some, sweeps."""
    folder = tmp_path_factory.mktemp("looks") / "results"
    if request.param in GRIDS:
        results(folder, GRIDS[request.param])
    else:
        swept, names, more = SWEPT[request.param]
        made(folder, swept, names, **more)
    figure_data.write_all(folder, None, EPS, folder / "figures")
    with plt.style.context(figures.STYLE, after_reset=True):
        found = {name: figures.drawn(name, folder / f"figures/{name}.csv") for name in FIGURES}
        assert not [caption for _, caption in found.values() if "damaged" in caption]  # a drawing that fails says so
        drawn = {name: figure for name, (figure, _) in found.items()}
        for figure in drawn.values():
            figure.draw_without_rendering()
            plt.close(figure)
        yield drawn


def texts(figure):
    """(text, its box in pixels) of everything that is written, but the labels of ticks that are not drawn."""
    hidden = {label for axes in figure.axes for axis in axes_of(axes) for label in not_drawn(axis)}
    for artist in figure.findobj(plt.Text):
        if artist.get_visible() and artist.get_text().strip() and artist not in hidden:
            yield artist, plt.Text.get_window_extent(artist)


def axes_of(axes):
    """The axis of x, y and, of a landscape, z."""
    return [axes.xaxis, axes.yaxis, *([axes.zaxis] if hasattr(axes, "zaxis") else [])]


def not_drawn(axis):
    """The labels of ticks beyond the axis, which matplotlib keeps."""
    low, high = sorted(axis.get_view_interval())
    for tick in [*axis.majorTicks, *axis.minorTicks]:
        if not low - 1e-9 <= tick.get_loc() <= high + 1e-9:
            yield from (tick.label1, tick.label2)


def test_nothing_is_written_outside_the_figure(laid_out):
    for name, figure in laid_out.items():
        whole = figure.bbox
        for text, box in texts(figure):
            inside = box.x0 > whole.x0 - 2 and box.x1 < whole.x1 + 2 and box.y0 > whole.y0 - 2 and box.y1 < whole.y1 + 2
            assert inside, (name, text.get_text(), box, whole)


@pytest.mark.parametrize("inches", [3.1, 3.2, 9.2])
@pytest.mark.parametrize("letters", ["FGSM-RS with step 175 MMWW", "collapsed"])
def test_a_note_ends_inside_the_figure(inches, letters):
    """Measured at the resolution of what is laid out, and of the picture that is saved."""
    wrapped = ""
    for dpi in (100, 150):
        figure = Figure((inches, 3), dpi=dpi)
        FigureCanvasAgg(figure)
        style.note(figure, [" ".join([letters] * 30)])
        wrapped = wrapped or figure.get_supxlabel()
        figure.supxlabel(wrapped, size=style.NAME, x=0.01, ha="left", ma="left")
        (box,) = (box for text, box in texts(figure) if letters in text.get_text())
        assert 0.6 * figure.bbox.x1 < box.x1 < 0.99 * figure.bbox.x1, dpi


def test_no_text_lies_on_another(laid_out):
    for name, figure in laid_out.items():
        level = [(t, box) for t, box in texts(figure) if not hasattr(t.axes, "zaxis") and t.get_rotation() % 90 == 0]
        for (one, a), (other, b) in itertools.combinations(level, 2):
            wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
            assert wide < 1.5 or high < 1.5, (name, one.get_text(), other.get_text())


def test_no_panel_is_empty(laid_out):
    for name, figure in laid_out.items():
        for axes in figure.axes:
            assert axes.lines or axes.collections or axes.images or axes.patches or axes.texts, name


def test_a_legend_stands_once_and_says_nothing_twice(laid_out):
    for name, figure in laid_out.items():
        of_panels = [axes.get_legend() for axes in figure.axes if axes.get_legend()]  # what else a sweep varied
        words = [text.get_text() for legend in (*figure.legends, *of_panels) for text in legend.get_texts()]
        assert len(figure.legends) <= 1 and len(of_panels) <= (name == "sweeps") and len(set(words)) == len(words), name


def test_the_thin_lines_of_a_sweep_stand_in_its_legend_with_every_dash():
    handles = dict((words, handle) for handle, words in sweeps.signs())
    thin = handles["recipe swept over (same dashes)"]
    assert [line.get_linestyle() for line in thin] == [
        handles[name].get_linestyle() for name in ("clean", "PGD50", "AutoAttack")
    ]


@pytest.fixture(scope="module")
def captions(tmp_path_factory):
    """Name -> caption, with two seeds of each step size."""
    folder = results(tmp_path_factory.mktemp("captions") / "results", named(STEPS))
    figure_data.write_all(folder, None, EPS, folder / "figures")
    with plt.style.context(figures.STYLE, after_reset=True):
        found = {name: figures.drawn(name, folder / f"figures/{name}.csv") for name in FIGURES}
        for figure, _ in found.values():
            plt.close(figure)
    return found


@pytest.mark.parametrize("name", sorted(set(FIGURES) - {"theory", "sweeps"}))
def test_caption_and_picture_say_of_what_how_many_runs_and_seeds_they_are(captions, name):
    figure, caption = captions[name]
    line = re.search(r"digits, preact_tiny, eps 8/255: (\d+) runs?, ([12]) seeds? a cell", caption)
    assert line, caption
    assert line.group() in figure.get_supxlabel().replace("\n", " ")


def test_they_count_runs_and_not_rows(captions):
    n = {name: re.search(r"(\d+) runs?, ", caption).group(1) for name, (_, caption) in captions.items()
         if name not in ("theory", "sweeps")}  # fmt: skip
    # two seeds of: all but the subsets; those; three steps of each of two methods; two methods; one run of ATAS
    assert (n["collapse_map"], n["fig03"], n["fig04"], n["fig08"], n["fig09"]) == ("20", "4", "12", "4", "1")


@pytest.mark.parametrize("name", ["accuracy_by_eps", "cost_robustness", "fig04"])
def test_accuracies_say_on_how_many_test_images(captions, name):
    assert "; 1000 test images, 200 under AutoAttack." in captions[name][1]


@pytest.mark.parametrize("name", ["curves", "fig01", "fig03", "fig05", "fig07", "fig08"])
def test_curves_say_on_how_many_training_images(captions, name):
    assert "; 128 training images under PGD10." in captions[name][1]


def test_without_the_numbers_of_images_the_line_lacks_them(tmp_path):
    folder = results(tmp_path / "results", named(ONE_EACH, 1))
    figure_data.write_all(folder, None, EPS, folder / "figures")
    (folder / "figures/about.csv").unlink()
    with plt.style.context(figures.STYLE, after_reset=True):
        _, caption = figures.drawn("curves", folder / "figures/curves.csv")
    assert caption.endswith("digits, preact_tiny, eps 8/255: 5 runs, 1 seed a cell.")


# Colours

TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
SEEN = {  # Machado, Oliveira and Fernandes 2009, of linear RGB, at full severity
    "all": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}  # fmt: skip


def cielab(colour, seen):
    """A colour as it is seen, in CIELAB."""
    value = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    x = TO_XYZ @ np.clip(np.asarray(seen) @ linear, 0, 1) / [0.95047, 1, 1.08883]
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


HUES = {name: methods.colour(name) for name in methods.METHODS if not methods.is_grey(methods.colour(name))}


@pytest.mark.parametrize("seen", SEEN)
def test_the_hues_are_told_apart_by_all_who_see(seen):
    seen_so = {
        name: cielab(hue, SEEN[seen]) for name, hue in {**HUES, "FGSM": methods.colour("fgsm_rs", "fgsm")}.items()
    }
    for (one, a), (other, b) in itertools.combinations(seen_so.items(), 2):
        assert np.linalg.norm(a - b) > 17, (one, other)


def test_the_paper_s_methods_in_question_have_hues_and_the_others_are_grey():
    assert set(HUES) == {"pgd10", "fgsm_rs", "atta", "atas", "fgsm_adaptive", "n_fgsm"}
    assert methods.colour("fgsm_rs", "fgsm") not in HUES.values()
    assert methods.colour("fgsm_rs", "step175") == methods.colour("fgsm_rs")


def test_a_method_has_the_same_colour_in_every_figure(captions):
    wanted = {methods.called(m, v): methods.colour(m, v) for m, v in (name.split("/") for name in STEPS)}
    found = {}
    for name in ("curves", "accuracy_by_eps", "fig01", "fig07", "fig08"):
        for axes in captions[name][0].axes:
            for text in axes.texts:
                if text.get_text() in wanted and getattr(text, "arrow_patch", None):
                    found.setdefault(text.get_text(), set()).add(to_hex(text.arrow_patch.get_edgecolor()))
    assert {"ATAS", "FGSM-RS", "FGSM", "PGD10", "ATTA"} <= set(found)
    assert found == {name: {wanted[name]} for name in found}


def test_methods_differ_without_colour_too():
    looks = [(methods.about(name).dash, methods.about(name).marker) for name in methods.METHODS]
    assert len(set(looks)) == len(looks)
    assert all(MarkerStyle(methods.about(name).marker).is_filled() for name in methods.METHODS)


# Names


def test_names_are_as_near_to_their_lines_as_their_height_allows():
    assert style.spread([0.2, 0.5, 0.8], 0.1, 0, 1) == [0.2, 0.5, 0.8]
    assert style.spread([0.5, 0.5, 0.5], 0.1, 0, 1) == pytest.approx([0.4, 0.5, 0.6])
    assert style.spread([0.0, 0.0], 0.1, 0.01, 0.99) == pytest.approx([0.01, 0.11])
    assert style.spread([0.98, 0.99, 1.0], 0.1, 0.01, 0.99) == pytest.approx([0.79, 0.89, 0.99])


# What the paper prints


def test_the_paper_s_accuracies_are_of_the_same_network_or_said_to_be_of_another():
    rows, whose = printed.numbers("aa", "cifar100", "wrn28_10")
    assert whose == "paper, CIFAR100, WRN-28-10" and sorted(set(rows["eps_255"])) == [4, 8, 12]
    rows, whose = printed.numbers("aa", "digits", "preact_tiny")
    assert whose == "paper, CIFAR10, ResNet-18"
    assert rows[rows["method"] == "atas"]["value"].tolist() == [45.38, 30.56, 21.09]  # Tables I and II
    assert printed.numbers("ratio", "digits", "preact_tiny")[0]["value"].tolist() == [1.4, 1.5, 1.6]  # Table III
    assert printed.by_eps("loss_gap") == "0.05, 0.10, 0.12 at 8, 12, 16/255"


@pytest.mark.parametrize("eps, own", [(["51/255", "102/255"], True), (["8/255", "16/255"], False), (["8/255"], False)])
def test_they_are_drawn_thin_and_grey_and_at_their_own_eps(tmp_path, eps, own):
    folder = results(tmp_path / "results", grid(ONE_EACH, 1, eps), instances=False)
    figure_data.write_all(folder, None, EPS, folder / "figures")
    with plt.style.context(figures.STYLE, after_reset=True):
        figure, _ = figures.drawn("accuracy_by_eps", folder / "figures/accuracy_by_eps.csv")
    plt.close(figure)
    panels = [axes for axes in figure.axes if "paper, CIFAR10, ResNet-18" in axes.get_xlabel()]
    assert len(panels) == 3
    for ours, upper in zip(figure.axes[:3], panels, strict=True):
        assert upper.lines and {line.get_color() for line in upper.lines} == {style.PAPER}
        points = np.concatenate([line.get_xydata() for line in upper.lines])
        assert set(points[:, 0]) <= {8, 12, 16} and (upper.get_xlim() != ours.get_xlim()) == own
        low, high = ours.get_ylim()
        assert (low < points[:, 1]).all() and (points[:, 1] < high).all()
        assert upper.get_xlim()[0] < points[:, 0].min() and points[:, 0].max() < upper.get_xlim()[1]


def test_what_has_no_run_is_not_drawn_and_said_in_a_line(tmp_path):
    folder = results(tmp_path / "results", named(ONE_EACH, 1))
    figure_data.write_all(folder, None, EPS, folder / "figures")
    with plt.style.context(figures.STYLE, after_reset=True):
        made = {
            name: figures.drawn(name, folder / f"figures/{name}.csv")[0] for name in ("collapse_map", "fig05", "fig04")
        }
        said = {name: figure.get_supxlabel().replace("\n", " ") for name, figure in made.items()}
        assert len(made["collapse_map"].axes) == 1 and "No map of step sizes" in said["collapse_map"]
        assert len(made["fig05"].axes) == 1 and "No run of FGSM-RS with a step of 1 eps" in said["fig05"]
        assert "trained with one step size; config/evening.yaml trains more" in said["fig04"]
        plt.close("all")


@pytest.mark.parametrize("ended,found", [([], 2), (["accuracy"], 3), (["accuracy", "gap"], 4)])
def test_figure_4_explains_the_signs_that_it_has(tmp_path, ended, found):
    folder = results(tmp_path / "results", named(ONE_EACH, 1))
    figure_data.write_all(folder, None, EPS, folder / "figures")
    rows = figure_data.read_data(folder / "figures/fig04.csv", figure_data.DATA["fig04"][0])
    rows["collapsed_at_end"] = rows["panel"].isin(ended).astype(int)
    with plt.style.context(figures.STYLE, after_reset=True):
        figure, _ = figures.FIGURES["fig04"][0](rows)
        words = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
        plt.close("all")
    assert words == ["PGD10", "AutoAttack", "collapsed at the end", "gap of collapsed networks"][:found]
