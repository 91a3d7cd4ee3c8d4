"""The offline page: what it says of made-up results, and how it behaves in Chromium. All numbers here are made up."""

import base64
import csv
import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastat.cli import main
from fastat.machine import seals
from fastat.report import page
from fastat.report.methods import colour
from fastat.report.statistics import wilson
from tests import fabricate

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
RUN = fabricate.RUN


def made(folder: Path, who: list[tuple[str, ...]] | None = None, **options: Any) -> Path:
    """Write made-up results and their page below `folder`; the page's path."""
    fabricate.write(folder / "results", fabricate.runs() if who is None else who, **options)
    return written(folder)


def written(folder: Path) -> Path:
    """Write the page of what is below `folder`; its path."""
    page.write_html(folder / "results", folder / "figures", folder / "index.html")
    return folder / "index.html"


def data_of(path: Path) -> dict[str, Any]:
    """The JSON inside the page."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(encoding="utf-8"))
    assert found
    return json.loads(found[1])


def records(packed: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(packed["columns"], row, strict=True)) for row in packed["rows"]]


def cell_of(folder: Path, rows: pd.DataFrame) -> dict[str, Any]:
    """The leaderboard's only row, of a measured.csv of one cell."""
    (folder / "results").mkdir(exist_ok=True)
    rows.to_csv(folder / "results/measured.csv", index=False)
    (cell,) = records(data_of(written(folder))["cells"])
    return cell


# What it says


def test_a_folder_without_any_file_gives_a_page_that_names_each(tmp_path: Path) -> None:
    text = written(tmp_path).read_text()
    for name in ("measured.csv", *page.TABLES, "evidence.jsonl"):
        assert f"There is no {Path(name).name}" in text
    assert "No claim has been examined" in text
    assert "No figure has been drawn" in text
    assert data_of(tmp_path / "index.html")["cells"]["rows"] == []


def test_empty_and_damaged_files_are_named_and_harm_nothing_else(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / "results/claims.csv").write_text("")
    (tmp_path / "results/pairs.csv").write_text("dataset,model\ndigits,preact_tiny\n")
    (tmp_path / "results/sanity.csv").write_bytes(b"\xff\xfe\x00broken")
    text = written(tmp_path).read_text()
    assert "claims.csv cannot be read" in text
    assert "pairs.csv lacks the columns eps, attack" in text
    assert "sanity.csv cannot be read" in text
    assert len(data_of(tmp_path / "index.html")["cells"]["rows"]) == 6


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    first = made(tmp_path).read_bytes()
    assert written(tmp_path).read_bytes() == first


def test_the_policy_allows_the_two_scripts_and_no_network(tmp_path: Path) -> None:
    text = made(tmp_path).read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    script = re.search(r'<script type="module">(.*?)</script>', text, re.DOTALL)
    assert policy and script
    own = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert policy[1].startswith("default-src 'none'; ")
    assert f"'sha256-{own}'" in policy[1]
    scripts = re.search(r"script-src ([^;]*);", policy[1])
    assert scripts and len(scripts[1].split()) == 2
    assert "unsafe-eval" not in policy[1] and "http" not in policy[1]


def test_a_cell_has_the_mean_and_spread_of_its_seeds_and_the_interval_of_their_images(tmp_path: Path) -> None:
    who = fabricate.runs(1, seeds=3)
    rows = fabricate.measured(who)
    aa = rows.loc[rows["metric"] == "aa", "value"].astype(float)
    cell = cell_of(tmp_path, rows)
    assert cell["seeds"] == 3
    assert cell["aa"] == pytest.approx(aa.mean(), rel=1e-4)  # the page keeps five digits
    assert cell["aa_std"] == pytest.approx(aa.std(ddof=1), rel=1e-4)
    assert [cell["aa_low"], cell["aa_high"]] == pytest.approx(wilson(aa.mean(), 200), rel=1e-4)


def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    cell = cell_of(tmp_path, fabricate.measured(fabricate.runs(1, seeds=1)))
    assert cell["aa"] is not None
    assert cell["aa_std"] is None


def test_a_diverged_seed_is_counted_and_leaves_no_zero(tmp_path: Path) -> None:
    rows = fabricate.measured(fabricate.runs(1, seeds=2)).astype({"value": object})
    fell = rows["seed"] == "1"
    rows.loc[fell & (rows["metric"] == "diverged"), "value"] = 1
    rows = rows[~(fell & rows["metric"].isin(["clean", "pgd10", "pgd50", "aa"]))]
    cause = dict(zip(RUN, fabricate.runs(1, seeds=2)[1], strict=True)) | {"metric": "cause", "value": "loss is NaN"}
    cell = cell_of(tmp_path, pd.concat([rows, pd.DataFrame([cause])]))
    assert (cell["diverged"], cell["cause"]) == (1, "loss is NaN")
    assert (cell["seeds"], cell["aa_seeds"]) == (2, 1)
    assert cell["aa"] > 1


def test_a_cell_that_was_never_evaluated_has_empty_places(tmp_path: Path) -> None:
    rows = fabricate.measured(fabricate.runs(1))
    cell = cell_of(tmp_path, rows[~rows["metric"].isin(["clean", "pgd10", "pgd50", "aa"])])
    assert [cell[name] for name in ("clean", "aa", "aa_std", "aa_low", "aa_high", "aa_n")] == [None] * 6
    assert cell["aa_seeds"] == 0


def test_rows_that_stand_there_twice_count_once_and_two_values_of_one_number_count_never(tmp_path: Path) -> None:
    rows = fabricate.measured(fabricate.runs(1, seeds=1))
    other = rows[rows["metric"] == "aa"].assign(value=99.0)
    cell = cell_of(tmp_path, pd.concat([rows, rows, other]))
    assert cell["aa"] is None
    assert cell["clean"] is not None
    text = (tmp_path / "index.html").read_text()
    assert f"{len(rows)} rows stood there twice" in text
    assert "two values of one number (aa)" in text


def test_seeds_on_different_hardware_have_no_common_seconds(tmp_path: Path) -> None:
    rows = fabricate.measured(fabricate.runs(1))
    rows.loc[(rows["metric"] == "device") & (rows["seed"] == "2"), "value"] = "another GPU"
    cell = cell_of(tmp_path, rows)
    assert cell["train_seconds"] is None
    assert cell["why_no_seconds"] == "the seeds ran on different hardware"
    assert cell["hardware"] == "another GPU + made-up GPU"
    assert "compare only within one kind of hardware" in (tmp_path / "index.html").read_text()


def test_rows_without_a_name_and_numbers_that_are_none_are_left_out(tmp_path: Path) -> None:
    rows = fabricate.measured(fabricate.runs(1, seeds=1))
    rows.loc[rows["metric"] == "clean", "value"] = np.inf
    rows.loc[rows["metric"] == "pgd10", "value"] = "abc"
    rows.loc[rows["metric"] == "pgd50", "method"] = None
    cell = cell_of(tmp_path, rows)
    assert [cell[name] for name in ("clean", "pgd10", "pgd50")] == [None] * 3
    assert "1 rows without a complete name" in (tmp_path / "index.html").read_text()


def test_collapse_counts_seeds(tmp_path: Path) -> None:
    cell = cell_of(tmp_path, fabricate.measured(fabricate.runs(1, seeds=6)))  # the fifth run collapses, at epoch 4
    assert (cell["collapsed_at_end"], cell["collapsed_for_a_while"]) == (1, 0)
    assert (cell["seeds"], cell["collapse_epoch"]) == (6, 4)


def test_what_diverged_is_no_collapse_and_of_what_was_left_out_nothing_is_said(chromium: Any, tmp_path: Path) -> None:
    rows = fabricate.measured(fabricate.runs(1, seeds=10)).astype({"value": object})  # seeds 4 and 9 collapse
    rows.loc[rows["seed"].isin(["0", "9"]) & (rows["metric"] == "diverged"), "value"] = 1
    gone = dict(zip(RUN, fabricate.runs(1)[0], strict=True)) | {"seed": "7", "metric": "left_out", "value": "damaged"}
    cell = cell_of(tmp_path, pd.concat([rows[rows["seed"] != "7"], pd.DataFrame([gone])]))
    assert (cell["seeds"], cell["diverged"], cell["collapsed_at_end"]) == (9, 2, 1)
    assert "2 diverged, 1 are collapsed at the end, 0 were for a while." in (tmp_path / "index.html").read_text()
    with Visit(chromium, tmp_path / "index.html") as visit:
        assert visit.column("Collapsed at the end") == ["1 of 7; 2 diverged"]
        assert visit.column("at epoch")[0] == "diverged, –, –, –, 4 end, –, –, –, diverged"
        visit.page.locator("#cells tbody button").click()
        (seed,) = (one for one in visit.page.locator("#evidence details").all() if "Seed 7" in one.inner_text())
        seed.locator("summary").click()
        assert "left out" in seed.inner_text() and "collapse" not in seed.inner_text()
        traces = visit.page.evaluate("document.querySelector('#curves .panels > div').data")
        assert [trace["marker"]["symbol"] for trace in traces if "marker" in trace] == ["x"]


def test_the_verdict_is_that_of_autoattack_and_of_the_papers_variant_alone(tmp_path: Path) -> None:
    cell = fabricate.cells(1)[0]
    who = [(*cell, "0"), (*cell[:4], "other", "0")]
    made(tmp_path, who)
    aa = fabricate.verdicts(who)
    clean = aa.assign(metric="clean", verdict="not reproduced")
    pd.concat([clean, aa]).to_csv(tmp_path / "results/verdicts.csv", index=False)
    other, ours = records(data_of(written(tmp_path))["cells"])
    assert (ours["verdict"], ours["verdict_metric"]) == ("reproduced", "aa")
    assert other["verdict"] is None
    pd.concat([clean, aa.assign(ours=None)]).to_csv(tmp_path / "results/verdicts.csv", index=False)
    assert records(data_of(written(tmp_path))["cells"])[1]["verdict"] == "not reproduced"


def test_another_benchmarks_numbers_stand_in_no_column_of_the_papers(tmp_path: Path) -> None:
    who = fabricate.runs(2, seeds=1)
    made(tmp_path, who)
    judged = fabricate.verdicts(who)
    judged.assign(table="FastAT_Benchmark").to_csv(tmp_path / "results/verdicts.csv", index=False)
    data = data_of(written(tmp_path))
    assert records(data["verdicts"]) == [] and all(cell["verdict"] is None for cell in records(data["cells"]))


def test_sanity_of_a_cell_is_the_verdict_of_all_its_runs_or_a_count(tmp_path: Path) -> None:
    who = fabricate.runs(3, seeds=3)  # the seventh run, the first of the third cell, looks masked
    cells = records(data_of(made(tmp_path, who))["cells"])
    found = {cell["method"]: cell["sanity"] for cell in cells}
    assert found == {"pgd10": "ok", "freeat": "ok", "yopo": "masking suspected 1 of 3, ok 2 of 3"}


def test_sanity_of_foreign_runs_is_not_shown(tmp_path: Path) -> None:
    made(tmp_path, fabricate.runs(1))
    fabricate.sanity(fabricate.runs(2)[3:]).to_csv(tmp_path / "results/sanity.csv", index=False)
    data = data_of(written(tmp_path))
    assert data["sanity"]["rows"] == []
    assert records(data["cells"])[0]["sanity"] is None


def test_curves_are_by_epoch_rounded_and_have_gaps_where_nothing_was_measured(tmp_path: Path) -> None:
    rows = fabricate.measured(fabricate.runs(1, seeds=1), epochs=4)
    gone = (rows["metric"] == "train_pgd10_acc") & (rows["epoch"] == 2)
    rows = rows[~gone].sample(frac=1, random_state=0)
    cell_of(tmp_path, rows)
    (curve,) = data_of(tmp_path / "index.html")["curves"]
    fgsm = rows[rows["metric"] == "train_fgsm_acc"].sort_values("epoch")["value"].astype(float)
    assert curve["epoch"] == [1, 2, 3, 4]
    assert curve["pgd10"][1] is None
    assert curve["fgsm"] == pytest.approx(list(fgsm), abs=0.051)  # rounded to 0.1


def test_evidence_belongs_to_its_run_and_damaged_lines_are_counted(tmp_path: Path) -> None:
    made(tmp_path)
    path = tmp_path / "results/evidence.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[1:], "{broken", "[]", ""]))
    data = data_of(written(tmp_path))
    for run, listed in zip(records(data["runs"]), data["evidence"], strict=True):
        if listed is None:
            continue
        about = dict(data["facts"][k] for k in listed)
        assert about["run"].endswith(f"seed{run['seed']}")
        assert about["run"] == json.loads(next(line for line in lines if f'"{about["made_from"]}"' in line))["run"]
    assert sum(listed is None for listed in data["evidence"]) == 1
    text = (tmp_path / "index.html").read_text()
    assert "2 lines are damaged" in text
    assert "1 of 18 runs have no line" in text


def test_the_head_names_the_commits_and_that_one_was_changed(tmp_path: Path) -> None:
    made(tmp_path)
    path = tmp_path / "results/evidence.jsonl"
    path.write_text(path.read_text().replace("0123456789abcdef", "0123456789abcdef-dirty", 1))
    assert "Commits 012345678, 012345678-dirty." in written(tmp_path).read_text()


def test_landscapes_stop_at_the_limit_with_the_means_first_and_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path)
    everything = data_of(tmp_path / "index.html")["surfaces"]
    assert len(everything) == 8  # 2 runs, 2 epochs, 2 groups
    monkeypatch.setattr(page, "SURFACE_POINTS", 5 * 81)
    some = data_of(written(tmp_path))["surfaces"]
    assert [surface["group"] for surface in some] == ["mean"] * 4 + ["image:7"]
    assert "5 of 8 loss landscapes are on the page" in (tmp_path / "index.html").read_text()


def test_a_landscape_keeps_the_place_of_every_point(tmp_path: Path) -> None:
    made(tmp_path)
    rows = fabricate.surfaces(fabricate.runs()[:2])
    surface = next(one for one in data_of(tmp_path / "index.html")["surfaces"] if one["epoch"] is None)
    point = rows[rows["epoch"].isna() & (rows["group"] == "mean")].iloc[12]
    at = surface["w"].index(point["w"]), surface["u"].index(point["u"])
    assert surface["z"][at[0]][at[1]] == pytest.approx(point["loss"], abs=0.00051)  # rounded to 0.001


def test_pictures_are_inside_with_their_captions(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/one.png").write_bytes(PIXEL)
    (tmp_path / "figures/one.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>" + " " * 100)
    (tmp_path / "figures/one.txt").write_text(f"A caption {HOSTILE}\n")
    text = made(tmp_path).read_text()
    assert f'src="data:image/png;base64,{base64.b64encode(PIXEL).decode()}"' in text  # the smaller of the two
    assert "A caption &lt;/script&gt;" in text
    assert HOSTILE not in text


def test_a_picture_of_what_is_in_its_data_no_more_is_left_out_and_said(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (data := tmp_path / "results/figures").mkdir(parents=True)
    captions = {"sweeps": "Of a sweep.", "fig02": "Nothing to draw: no run.", "curves": "Of curves."}
    for name, caption in captions.items():
        (tmp_path / f"figures/{name}.png").write_bytes(PIXEL)
        (tmp_path / f"figures/{name}.txt").write_text(caption)
        (data / f"{name}.csv").write_text("dataset\n" + "digits\n" * (name == "curves"))
    text = made(tmp_path).read_text()
    assert re.findall(r"<figcaption><strong>(.*?)</strong>", text) == ["Figure 2", "Curves"]
    assert "sweeps.png is left of an earlier config, and is not shown: sweeps.csv has no rows now." in text


def test_the_paper_s_figures_come_first_in_its_order_and_one_without_a_picture_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    for name in ("accuracy_by_eps", "curves", "fig02", "fig10", "fig01", "zzz"):
        (tmp_path / f"figures/{name}.png").write_bytes(PIXEL)
        caption = "Nothing to draw: no run." if name == "fig02" else f"Of {name}."
        (tmp_path / f"figures/{name}.txt").write_text(caption)
    text = made(tmp_path).read_text()
    titles = re.findall(r"<figcaption><strong>(.*?)</strong>", text)
    assert titles == ["Figure 1", "Figure 2", "Figure 10", "Curves", "Accuracy by eps", "Zzz"]
    assert text.count("<figure>") == 6 and text.count("<img ") == 5


def test_letters_are_as_large_in_all_figures(tmp_path: Path) -> None:
    head = PIXEL[:16]
    (tmp_path / "wide.png").write_bytes(head + (1500).to_bytes(4) + PIXEL[20:])
    (tmp_path / "narrow.png").write_bytes(head + (600).to_bytes(4) + PIXEL[20:])
    (tmp_path / "no.png").write_bytes(b"no picture")
    assert [page.pixels(tmp_path / f"{name}.png") for name in ("wide", "narrow", "no", "absent")] == [1120, 448, 0, 0]


def test_a_method_has_the_colour_of_the_figures(tmp_path: Path) -> None:
    who = [("digits", "preact_tiny", "8/255", *name, "0") for name in (("atas", "paper"), ("fgsm_rs", "fgsm"))]
    cells = records(data_of(made(tmp_path, who))["cells"])
    assert [cell["colour"] for cell in cells] == [colour("atas"), colour("fgsm_rs", "fgsm")]


@given(st.recursive(st.text() | st.just(HOSTILE), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_embedded_json_is_the_same_json_and_cannot_end_its_script(value: Any) -> None:
    text = page.inert(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == value
    assert not set("<>&\u2028\u2029") & set(text)


# How it behaves


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("there is no Chromium here, so nobody looks at the page: install Debian's package chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with the package playwright")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


SORT = """button => new Promise((done) => {
    const start = performance.now();
    const drawn = (_, observer) => (observer.disconnect(), done(performance.now() - start));
    new MutationObserver(drawn).observe(document.querySelector("#cells tbody"), { childList: true });
    button.click();
})"""


class Visit:
    """A page that is open, with what it asked for and complained about."""

    def __init__(self, browser: Any, path: Path, width: int = 1440) -> None:
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(f"{error} {error.stack}"))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready]", timeout=60_000)

    def __enter__(self) -> "Visit":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def head(self, k: int) -> Any:
        """The k-th column's head."""
        return self.page.locator("#cells thead th").nth(k)

    def sort(self, k: int) -> float:
        """Click the k-th column's head; the milliseconds until the rows stand anew."""
        return self.head(k).locator("[role=button]").evaluate(SORT)

    def column(self, title: str) -> list[str]:
        """The texts of a column of the leaderboard, from the top."""
        heads = [head.strip() for head in self.page.locator("#cells thead th").all_inner_texts()]
        return self.page.locator(f"#cells tbody td:nth-child({heads.index(title) + 1})").all_inner_texts()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of 20 cells, one of them with names and causes that try to become code."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "figures").mkdir()
    (folder / "figures/one.png").write_bytes(PIXEL)
    who = [*fabricate.runs(19, seeds=2), ("digits", "preact_tiny", "8/255", HOSTILE, "%{x}'\"", "0")]
    fabricate.write(folder / "results", who, surfaces_of=3)
    measured = pd.read_csv(folder / "results/measured.csv", dtype=str)
    cause = dict(zip(RUN, who[-1], strict=True)) | {"metric": "cause", "value": HOSTILE}
    pd.concat([measured, pd.DataFrame([cause])]).to_csv(folder / "results/measured.csv", index=False)
    claims = fabricate.claims()
    pd.concat([claims, claims.head(1).assign(text=HOSTILE)]).to_csv(folder / "results/claims.csv", index=False)
    return written(folder)


def test_it_opens_without_a_request_or_a_complaint(chromium: Any, path: Path) -> None:
    with Visit(chromium, path) as visit:
        assert [url for url in visit.asked if not url.startswith("data:")] == [path.as_uri()]
        assert visit.complaints == []
        assert visit.page.locator("#cells tbody tr").count() == 20


def test_the_policy_stops_a_request(chromium: Any, path: Path) -> None:
    with Visit(chromium, path) as visit:
        visit.page.evaluate("fetch('https://example.org/').catch(() => null)")
        assert any("Content Security Policy" in text for text in visit.complaints)


def test_an_empty_page_opens_without_a_complaint(chromium: Any, tmp_path: Path) -> None:
    with Visit(chromium, written(tmp_path)) as visit:
        assert visit.complaints == []
        for section in ("leaderboard", "curves", "landscapes", "claims", "paper", "pairs", "figures"):
            assert visit.page.locator(f"#{section} .empty").first.is_visible(), section


def number(text: str) -> float:
    """What a text sorts by: its first number, as a share where it says `k of n`."""
    found = [float(part) for part in re.findall(r"-?\d+(?:\.\d+)?", text)]
    return found[0] / found[1] if " of " in text else found[0]


def test_every_column_sorts_both_ways_with_empty_places_last(chromium: Any, path: Path) -> None:
    with Visit(chromium, path) as visit:
        for k in range(1, visit.page.locator("#cells thead th").count()):
            title, directions = visit.head(k).inner_text().strip(), set()
            numeric = "number" in (visit.head(k).get_attribute("class") or "").split()
            for _ in range(2):
                visit.sort(k)
                directions.add(way := visit.head(k).get_attribute("aria-sort"))
                cells = visit.page.locator(f"#cells tbody td:nth-child({k + 1})").all_inner_texts()
                full = [text.strip() for text in cells if text.strip()]
                assert not any(text.strip() for text in cells[len(full) :]), title
                keys = [number(text) if numeric else re.sub(r"^\W+ ", "", text.lower()) for text in full]
                assert keys == sorted(keys, reverse=way == "descending"), (title, way)
            assert directions == {"ascending", "descending"}, title


def test_filters_and_search_leave_the_rows_that_fit(chromium: Any, path: Path) -> None:
    with Visit(chromium, path) as visit:
        visit.page.select_option(".filters select[name=eps]", "4/255")
        assert set(visit.column("eps")) == {"4/255"}
        visit.page.fill(".filters input", "atta")
        assert visit.column("Method") == ["atta"]
        assert "1–1 of 1 (20 in all)" in visit.page.locator(".below").first.inner_text()
        visit.page.click(".filters button")  # the form is emptied first, and the rows stand anew a moment later
        visit.page.wait_for_function("document.querySelectorAll('#cells tbody tr').length !== 1")
        assert len(visit.column("Method")) == 20
        for name in ("dataset", "model", "variant", "method"):
            assert visit.page.locator(f".filters select[name={name}] option").count() >= 2


def test_a_row_on_other_images_than_test_images_names_them(chromium: Any, tmp_path: Path) -> None:
    names = {
        "theirs": "", "theirs_train": "training images", "theirs_released": "test images with a border",
        "theirs_train_released": "training images with a border",
    }  # fmt: skip
    who = [("digits", "preact_tiny", "8/255", "external", name, "0") for name in names]
    ours = ("digits", "preact_tiny", "8/255", "atas", "mine_train", "0")
    with Visit(chromium, made(tmp_path, [*who, ours])) as visit:
        for title in ("Clean", "PGD50", "AA [95 %]"):
            shown = dict(zip(visit.column("Recipe"), visit.column(title), strict=True))
            for name, words in {**names, "mine_train": ""}.items():
                assert words in shown[name] and ("images" in shown[name]) == bool(words), (name, title)
        visit.page.locator("#cells tbody tr", has_text="theirs_train_released").locator("button").click()
        text = visit.page.locator("#evidence").inner_text()
        assert "measured, % of training images with a border" in text


def test_evidence_is_one_key_away_and_escape_returns_to_the_row(chromium: Any, path: Path) -> None:
    with Visit(chromium, path) as visit:
        button = visit.page.locator("#cells tbody tr", has_text="atas").locator("button")
        button.focus()
        visit.page.keyboard.press("Enter")
        text = visit.page.locator("#evidence").inner_text()
        for words in (
            "Seed 0", "Seed 1", "config hash", "0123456789abcdef", "torch made-up", "batch_size", "made-up GPU",
            "results/runs/digits/preact_tiny/eps8/atas/paper/seed0/log.csv", "collapse", " MB at most", "finished",
            "Against the paper", "reproduced", "noise costs little",
        ):  # fmt: skip
            assert words in text, words
        visit.page.keyboard.press("Escape")
        assert not visit.page.locator("#evidence").is_visible()
        assert button.evaluate("button => document.activeElement === button")


def test_the_keyboard_reaches_sorts_and_ticks(chromium: Any, path: Path) -> None:
    with Visit(chromium, path) as visit:
        visit.page.keyboard.press("Tab")
        assert visit.page.evaluate("document.activeElement.className") == "skip"
        head = visit.page.locator("#cells thead th", has_text="Clean")
        head.locator("[role=button]").focus()
        visit.page.keyboard.press("Enter")
        head.and_(visit.page.locator("[aria-sort=descending]")).wait_for()
        visit.page.keyboard.press("Space")
        head.and_(visit.page.locator("[aria-sort=ascending]")).wait_for()
        assert "none" not in visit.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        box = visit.page.locator("#cells tbody input:not(:checked)").first
        box.focus()
        visit.page.keyboard.press("Space")
        visit.page.wait_for_function("document.querySelectorAll('.chips li').length === 4")


def test_curves_have_a_line_per_seed_and_a_cross_per_collapse(chromium: Any, path: Path) -> None:
    with Visit(chromium, path) as visit:
        for _ in range(3):
            visit.page.locator(".chips button").first.click()
        visit.page.wait_for_selector("#curves .status:has-text('No cell is chosen')")
        visit.page.locator("#cells tbody tr", has_text="yopo").first.locator(
            "input"
        ).check()  # its first seed collapses
        visit.page.wait_for_selector("#curves .panels .js-plotly-plot:nth-child(3) .scatterlayer .trace")
        for k in (1, 2, 3):
            panel = visit.page.locator(f"#curves .panels > div:nth-child({k})")
            assert panel.locator(".js-line").count() == 2
            assert panel.locator(".point").count() == 1


def test_a_curve_that_no_run_recorded_is_named_and_leaves_its_width_to_the_others(
    chromium: Any, tmp_path: Path
) -> None:
    made(tmp_path)
    rows = fabricate.measured(fabricate.runs())
    rows[rows["metric"] != "train_pgd10_loss"].to_csv(tmp_path / "results/measured.csv", index=False)
    with Visit(chromium, written(tmp_path)) as visit:
        assert visit.page.locator("#curves .status").inner_text() == "Not recorded for these cells: Loss under PGD10."
        widths = visit.page.locator("#curves .main-svg:first-child").evaluate_all(
            "all => all.map(one => one.clientWidth)"
        )
        assert len(widths) == 2
        assert min(widths) > 500  # of 1440, less the margins; a third would be 430


def test_no_more_cells_are_drawn_than_can_be_told_apart(chromium: Any, path: Path) -> None:
    with Visit(chromium, path) as visit:
        for k in range(3, 12):
            visit.page.locator("#cells tbody input").nth(k).check()
        visit.page.wait_for_function("document.querySelectorAll('.chips li').length === 8")
        assert visit.page.locator("#cells input:checked").count() == 8


def test_a_landscape_is_drawn_for_each_epoch_of_the_chosen_images(chromium: Any, path: Path) -> None:
    with Visit(chromium, path) as visit:
        form = visit.page.locator("#landscapes form")
        form.locator("select[name=group]").select_option("image:7")
        visit.page.wait_for_selector("#landscapes .js-plotly-plot:has-text('n = 1')")
        assert visit.page.locator("#landscapes .js-plotly-plot").count() == 2
        titles = visit.page.locator("#landscapes .gtitle").all_text_contents()
        assert titles == ["Epoch 3, n = 1", "Last epoch, n = 1"]


@pytest.mark.parametrize(("loss", "drawn", "said"), [(2.3, 2, ""), (None, 0, "No loss of this landscape is a number.")])
def test_a_flat_landscape_is_drawn_and_one_without_numbers_is_not(
    chromium: Any, tmp_path: Path, loss: float | None, drawn: int, said: str
) -> None:
    made(tmp_path)
    fabricate.surfaces(fabricate.runs(1, 1)).assign(loss=loss).to_csv(tmp_path / "results/figures/surfaces.csv")
    with Visit(chromium, written(tmp_path)) as visit:
        assert visit.page.locator("#landscapes .js-plotly-plot").count() == drawn
        assert visit.page.locator("#landscapes .status").inner_text() == said
        assert visit.complaints == []


def test_names_and_causes_that_try_to_be_code_stay_text(chromium: Any, path: Path) -> None:
    with Visit(chromium, path) as visit:
        row = visit.page.locator("#cells tbody tr", has_text="window.hacked")
        assert row.locator("td").nth(1).inner_text() == HOSTILE
        row.locator("input").check()
        visit.page.wait_for_selector(".chips li:has-text('window.hacked')")
        row.locator("button").click()
        assert HOSTILE in visit.page.locator("#evidence .content").inner_text()
        visit.page.keyboard.press("Escape")
        assert HOSTILE in visit.page.locator("#claims").inner_text()
        assert visit.page.evaluate("window.hacked") is None
        assert visit.page.locator("img:not(figure img)").count() == 0
        assert visit.complaints == []


@pytest.mark.parametrize("width", [375, 768, 1440])
def test_the_page_never_scrolls_sideways(chromium: Any, path: Path, width: int) -> None:
    with Visit(chromium, path, width) as visit:
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
        visit.page.locator("#cells button").first.click()
        assert visit.page.evaluate("(d => d.scrollWidth - d.clientWidth)(document.querySelector('#evidence'))") <= 0


def test_paper_gets_all_rows_in_black_on_white_and_no_controls(chromium: Any, tmp_path: Path) -> None:
    with Visit(chromium, made(tmp_path, fabricate.runs(40, seeds=1))) as visit:
        visit.page.emulate_media(media="print", color_scheme="dark")
        visit.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        assert visit.page.locator("#cells tbody tr").count() == 40
        for controls in (".filters", ".below", "nav", "#cells button", "#cells input"):
            assert not visit.page.locator(controls).first.is_visible(), controls
        style = visit.page.evaluate("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
        assert style == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
        visit.page.evaluate("window.dispatchEvent(new Event('afterprint'))")
        assert visit.page.locator("#cells tbody tr").count() == 25


def test_verdicts_are_told_by_a_sign_and_words_and_not_by_colour_alone(chromium: Any, path: Path) -> None:
    with Visit(chromium, path) as visit:
        signs = visit.page.locator(".verdict").evaluate_all(
            "all => all.map(one => [one.textContent, getComputedStyle(one, '::before').content])"
        )
        assert dict(signs) == {
            "holds": '"✓ "', "does not hold": '"✗ "', "undecided": '"? "', "not run": '"– "',
            "reproduced": '"✓ "', "not reproduced": '"✗ "',
            "ok": '"✓ "', "masking suspected 1 of 2, ok 1 of 2": '"✗ "',
        }  # fmt: skip
        assert "Spearman's rho 0.512 [0.1, 0.9] · p = 0.01" in visit.page.locator("#claims").inner_text()


def test_five_thousand_rows_open_page_by_page_and_sort(chromium: Any, tmp_path: Path) -> None:
    with Visit(chromium, made(tmp_path, fabricate.runs(5000, seeds=1), epochs=4, surfaces_of=0)) as visit:
        assert visit.page.locator("#cells tbody tr").count() == 25
        took = [round(visit.sort(k)) for k in (7, 1)]  # Clean, Method
        opened = visit.page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
        print(f"5,000 rows: open {opened:.0f} ms, sort by number, text {took} ms")
        assert visit.column("Method") == ["atas"] * 25
        assert "5000" in visit.page.locator(".below").first.inner_text()


# What others wrote: run.json of an archive, through every stage to all that people open

FOREIGN = {
    "device": f"{HOSTILE} | `x` $y$ \\input{{/etc/passwd}}\n| <b> ](javascript:window.hacked=1) \x1b[2J",
    "git_commit": "<img src=x onerror=window.hacked=1>",
    "versions": {"fastat": "<script>window.hacked=1</script>", "torch": "`|$\\"},
    "machine": {"processor": HOSTILE},
}


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs that say the worst of themselves, one that diverged for a cause, and the report of all."""
    folder = tmp_path_factory.mktemp("foreign")
    for k, cause in enumerate(("", "", f"=HYPERLINK(0) {FOREIGN['device']}")):
        run = fabricate.finished(folder / "results", f"digits/preact_tiny/eps77/atas/paper/seed{k}", 12 + k)
        about = seals.read(run / "run.json") | FOREIGN | {"device": f"{k} {FOREIGN['device']}"}
        about |= {"cause": cause, "status": "diverged", "epochs_done": 2} if cause else {}
        seals.write(run / "run.json", about)
    options = ["--results", str(folder / "results")]
    for argv in (["tidy", *options, "--out", str(folder / "results")], ["judge", *options]):
        assert main(argv) == 0
    assert main(["page", *options, "--figures", str(folder), "--out", str(folder / "index.html")]) == 0
    return folder


def test_in_markdown_what_others_wrote_is_no_markup(foreign: Path) -> None:
    said = 0
    for path in (foreign / "results").rglob("*.md"):
        text = path.read_text()
        assert not re.search(r"<[a-zA-Z/!]|\]\(java|\x1b", text), path.name
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in rows}) <= 1, path.name
        said += "window.hacked" in text
    assert said >= 2


def test_in_latex_what_others_wrote_is_text(foreign: Path) -> None:
    said = "".join(path.read_text() for path in (foreign / "results/tables").glob("*.tex"))
    assert "window.hacked" in said and "\\input" not in said and "<" not in said
    if not shutil.which("pdflatex"):
        pytest.skip("no pdflatex here: the tables' LaTeX was not compiled")
    inputs = "".join(f"\\input{{{path}}}\n" for path in (foreign / "results/tables").glob("*.tex"))
    head = "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\n"
    (foreign / "all.tex").write_text(f"{head}{inputs}\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=foreign, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]


def test_no_text_of_others_is_a_formula_to_a_spreadsheet(foreign: Path) -> None:
    rows = pd.read_csv(foreign / "results/measured.csv", dtype=str, keep_default_na=False)
    assert "'=HYPERLINK(0)" in " ".join(rows["value"])
    for path in (foreign / "results").rglob("*.csv"):
        cells = [cell for row in csv.reader(path.read_text().splitlines()) for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "@", "-")) and "hacked" in cell], path.name


def test_on_the_page_nothing_of_it_runs(foreign: Path, chromium: Any) -> None:
    with Visit(chromium, foreign / "index.html") as visit:
        row = visit.page.locator("#cells tbody tr").first
        row.locator("input").check()
        row.locator("button").click()
        assert HOSTILE in visit.page.locator("#evidence .content").inner_text()
        assert visit.page.evaluate("window.hacked") is None
        assert visit.page.locator("img:not(figure img)").count() == 0
        assert visit.complaints == [] and len(visit.asked) == 1
