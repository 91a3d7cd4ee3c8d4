"""What `fastat plan` says, against arithmetic and the paper's own hours."""

import json
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from fastat import ROOT
from fastat.cli import main
from fastat.config.grid import expand, load_config, overlay
from fastat.cost import passes, plan, shapes
from fastat.errors import BadInput
from fastat.machine import devices
from fastat.report import timings
from fastat.report.progress import Progress


def lines(*grid, rates=None, **config):
    whole = overlay(load_config(), {"grid": list(grid), **config})
    return plan.grid_costs(expand(whole), whole, plan.Calibration("", rates or {}))


def block(**changes):
    common = {"dataset": "cifar10", "model": "preact_resnet18", "eps": ["8/255", "12/255"], "seed": [0, 1, 2]}
    return common | changes


def test_a_line_is_of_one_run_and_counts_eps_and_seeds():
    (line,) = lines(block(method="clean"))
    assert line.n_runs == 6
    images = 30 * 391 * 128
    assert line.each.flops / images == pytest.approx(3 * 1.11e9, rel=0.02)  # 0.56 G multiply-adds, thrice
    n = 11_172_170
    assert line.each.memory["weights, gradients, momentum"] == pytest.approx(3 * 4 * n, rel=0.01)
    assert line.each.memory["images"] == 60_000 * 3 * 32 * 32 + 50_000 * 3 * 40 * 40


def test_a_training_on_a_subset_takes_as_many_iterations_and_is_not_attacked():
    whole, part = lines(block(method=["atas", "atas/paper_d9_10"], eps="8/255", seed=0))
    assert part.each.flops == pytest.approx(whole.each.flops, rel=0.02)
    assert whole.each.evaluation_flops > 0 == part.each.evaluation_flops
    assert "2 trainings and 1 evaluations, 1 of them with AutoAttack" in plan.describe([whole, part])


def test_state_is_what_the_cards_say():
    atas, pgi = lines(block(method=["atas", "fgsm_pgi"], eps="8/255"))
    assert atas.each.memory["state of the method"] == 960_000_000 + 200_000  # float32 in 40 x 40 frames, and v
    assert pgi.each.memory["state of the method"] == 50_000 * 3072 * (1 + 4)  # int8 prior, float32 momentum
    grid = {"dataset": "imagenet", "model": "resnet18", "eps": "2/255", "method": "atas", "seed": 0}
    (imagenet,) = lines(grid)
    rows = 1_281_168  # 1,281,167 images, a multiple of 8 shards
    assert imagenet.each.memory["state of the method"] == rows * (3 * 32 * 32 * 2 + 4)


def test_hours_are_the_papers_scaled_by_flops_and_say_so():
    found = {line.method: line for line in lines(block(method=["pgd10", "fgsm_rs", "fgsm_rs/released", "n_fgsm"]))}
    assert found["pgd10"].hours == pytest.approx(1.23) and found["pgd10"].basis == "paper"
    assert found["fgsm_rs"].hours == pytest.approx(0.22)
    assert found["fgsm_rs/released"].hours == pytest.approx(0.11)  # 15 of 30 epochs
    assert found["n_fgsm"].hours == pytest.approx(0.30, rel=0.01) and found["n_fgsm"].basis == "paper's atas"


def test_the_paper_s_hours_are_of_its_own_recipe_at_its_own_eps():
    own = {"cifar10": {"fgsm_rs": {"epochs": 60}, "atas": {"epochs": {"by_eps": {8: 30, 12: 90}}}}}
    atas, longer, more = lines(block(method=["fgsm_rs", "atas"]), recipes=own)
    assert (longer.hours, longer.basis) == (pytest.approx(2 * 0.22), "paper's fgsm_rs")
    assert (atas.hours, atas.basis, atas.n_runs) == (pytest.approx(0.30), "paper", 3)
    assert (more.hours, more.n_runs) == (pytest.approx(3 * 0.30), 3)


def test_a_prior_that_is_no_whole_255th_is_not_kept_as_int8():
    """8/255 is 1 eps at 8, and 0.5 eps is 4/255 at 8, but 3.5/255 at 7."""
    own = {"cifar10": {"fgsm_pgi": {"params": {"alpha": "0.5 eps"}}}}
    odd, even = lines(block(method="fgsm_pgi", eps=["7/255", "8/255"]), recipes=own)
    sizes = [line.each.memory["state of the method"] / (50_000 * 3072) for line in (odd, even)]
    assert sizes == [4 + 4, 1 + 4]


def test_restarts_and_the_best_epoch_s_evaluation_are_counted_and_attacks_by_name_are_said_to_be_not():
    plain = planned(took(), "atas")["atas"]
    again = planned(took(), "atas", evaluation={"pgd_restarts": 3})["atas"]
    held = planned(took(), "atas", recipes={"cifar10": {"atas": {"hold_out": 0.1}}})["atas"]
    rate = plain.each.flops / plain.hours
    assert again.evaluation_hours - plain.evaluation_hours == pytest.approx(2 * plain.each.evaluation_flops / rate)
    assert held.evaluation_hours == pytest.approx(2 * plain.evaluation_hours)
    named = planned(took(), "atas", evaluation={"attacks": ["pgd-20"]})["atas"]
    assert "Not in these hours: the attacks by name, on 3 runs." in plan.describe([named])
    assert named.evaluation_hours == plain.evaluation_hours and "by name" not in plan.describe([plain])


def test_a_calibration_trains_in_the_recipes_precision_and_attacks_in_float32(monkeypatch):
    told = []
    monkeypatch.setattr(devices, "set_precision", told.append)
    config = load_config() | {"recipes": {"digits": {"every": {"precision": "tf32"}}}}
    plan.calibrate([("digits", "preact_tiny")], config, torch.device("cpu"))
    assert set(told) == {"tf32", "float32"} and told.count("float32") == 2 * told.count("tf32")


def test_a_calibrated_device_takes_the_papers_place(tmp_path, capsys):
    config = tmp_path / "tiny.yaml"
    config.write_text("grid: [{dataset: digits, model: preact_tiny, eps: 77/255, method: [clean, atas], seed: 0}]")
    assert main(["plan", "--configfile", str(config)]) == 0
    assert "2 lines unknown: --calibrate" in capsys.readouterr().out
    made = tmp_path / "rates.json"
    assert main(["plan", "--configfile", str(config), "--calibrate", str(made)]) == 0
    said = json.loads(made.read_text())
    assert said["flops_per_second"]["digits/preact_tiny"] > 1e7
    assert min(said["seconds_of_passes"]["digits/preact_tiny"].values()) > 0
    capsys.readouterr()
    assert main(["plan", "--configfile", str(config), "--calibration", str(made), "--results", str(tmp_path),
                 "--out", str(tmp_path / "plan.json")]) == 0  # fmt: skip
    assert "unknown" not in capsys.readouterr().out
    cells = json.loads((tmp_path / "plan.json").read_text())["cells"]
    assert sorted(cells) == [f"digits/preact_tiny/eps77/{method}/paper" for method in ("atas", "clean")]
    assert cells["digits/preact_tiny/eps77/atas/paper"]["train_seconds"] > 0
    made.write_text("{}")
    assert main(["plan", "--configfile", str(config), "--calibration", str(made)]) == 2


def took(**seconds):
    """Timings of finished runs of cifar10/preact_resnet18/eps8/METHOD/VARIANT on this device, and one on another."""
    there = "cifar10/preact_resnet18/eps8/{}/seed{}"
    runs = [
        Progress(there.format(name.replace("__", "/"), 0), trained=t, evaluated=e, device="here")
        for name, (t, e) in seconds.items()
    ]
    return timings.of([*runs, Progress(there.format("atas/paper", 1), trained=1.0, device="there")], "here")


def planned(took, *methods, calibration=None, **config):
    whole = overlay(load_config(), {"grid": [block(method=list(methods), eps="8/255")], **config})
    found = plan.grid_costs(expand(whole), whole, calibration, took)
    return {line.method: line for line in found}


def test_hours_are_those_of_finished_runs_or_scaled_from_them_by_flops():
    found = planned(took(fgsm_rs__paper=(1800.0, 7200.0)), "fgsm_rs", "fgsm_rs/released", "pgd10")
    own, variant, other = found["fgsm_rs"], found["fgsm_rs/released"], found["pgd10"]
    assert (own.hours, own.evaluation_hours, own.basis) == (0.5, 2.0, "1 finished")
    assert variant.hours == pytest.approx(0.25)  # 15 of 30 epochs
    assert variant.basis == "finished fgsm_rs; eval: 1 finished"
    assert other.hours == pytest.approx(0.5 * other.each.flops / own.each.flops)
    assert other.basis == "finished others; eval: 1 finished" and other.evaluation_hours == 2.0


def test_a_calibration_comes_after_finished_runs_of_the_method_and_before_those_of_others():
    known = plan.Calibration("here", {"cifar10/preact_resnet18": 1e12})
    found = planned(took(fgsm_rs__paper=(1800.0, None)), "fgsm_rs/released", "pgd10", calibration=known)
    assert found["fgsm_rs/released"].basis == "finished fgsm_rs"
    assert found["pgd10"].basis == "calibration"
    assert found["pgd10"].hours == pytest.approx(found["pgd10"].each.flops / 1e12 / 3600)


def test_a_calibrated_evaluation_is_its_passes_times_their_seconds():
    passes_of = {"cifar10/preact_resnet18": plan.PassSeconds(100, 0.05, 0.02)}
    known = plan.Calibration("here", {"cifar10/preact_resnet18": 1e12}, passes_of)
    protocol = {"batch_size": 500, "autoattack": {"n_images": 1000, "batch_size": 256}}
    found = planned(took(), "atas", calibration=known, evaluation=protocol)["atas"]
    whitebox = 60 * 100 * 0.05  # PGD10 and PGD50 on 10,000 images, a hundred at a time
    autoattack = 4 * ((100 * 0.81 / 0.46 + 1800) * 0.05 + 5000 * 0.02)
    assert found.evaluation_hours == pytest.approx((whitebox + autoattack) / 3600)


def test_a_file_for_schedulers_has_every_cell_and_null_for_what_nobody_knows():
    grid = [
        {"dataset": "digits", "model": "preact_tiny", "eps": ["51/255", "77/255"], "method": "atas", "seed": [0, 1]},
        {
            "dataset": "digits",
            "model": "preact_tiny",
            "eps": "77/255",
            "method": "atas",
            "seed": 2,
            "autoattack": False,
        },
    ]
    run = "digits/preact_tiny/eps77/atas/paper/seed{}"
    runs = [
        Progress(run.format(0), trained=8.0, evaluated=40.0, device="here"),
        Progress(run.format(2), trained=8.0, evaluated=2.0, autoattack=False, device="here"),
    ]
    whole = overlay(load_config(), {"grid": grid})
    found = plan.grid_costs(expand(whole), whole, None, timings.of(runs, "here"))
    said = plan.as_json(found, "here", "cpu")
    assert said["device"] == "here" and len(found) == 2
    cells = {
        f"digits/preact_tiny/eps{eps}/atas/paper": said["cells"].pop(f"digits/preact_tiny/eps{eps}/atas/paper")
        for eps in (51, 77)
    }
    assert not said["cells"]
    for cell in cells.values():
        assert (cell["train_seconds"], cell["evaluate_seconds"]) == (8.0, 40.0)  # the longer one, of those attacked
        assert cell["gpu_bytes"] == sum(found[0].each.memory.values())
        assert 0.7e9 < cell["host_bytes"] < 1e9
    unknown = plan.as_json(plan.grid_costs(expand(whole), whole), "here", "cuda")["cells"]
    assert {(cell["train_seconds"], cell["evaluate_seconds"]) for cell in unknown.values()} == {(None, None)}
    assert all(cell["host_bytes"] > 2e9 for cell in unknown.values())


def test_a_table_has_a_line_per_method_and_long_has_the_variants():
    found = list(planned(took(fgsm_rs__paper=(1800.0, 7200.0)), "fgsm_rs", "fgsm_rs/step075", "clean").values())
    said, long = plan.describe(found, "here"), plan.describe(found, "here", long=True)
    assert "fgsm_rs (2 variants)     6" in said and "30 min     2.0 h  15.0 h" in said and "step075" not in said
    assert "fgsm_rs/step075" in long and "PFLOP" in long
    assert max(map(len, said.splitlines())) <= 110


def test_what_cannot_fit_is_refused_with_the_numbers(tmp_path, monkeypatch):
    found = lines(block(method="atas"))
    plan.check_memory(found, 32 * 10**9, "a V100")
    with pytest.raises(BadInput, match=r"cifar10/preact_resnet18/atas needs 3\.8 GB, but a small GPU has 1\.0"):
        plan.check_memory(found, 10**9, "a small GPU")
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _path: SimpleNamespace(free=2 * 10**9))
    plan.check_disk(found, tmp_path / "not/yet")
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _path: SimpleNamespace(free=10**8))
    with pytest.raises(BadInput, match=r"need 1\.6 GB with the data sets still to be prepared .* has 0\.1 free"):
        plan.check_disk(found, tmp_path / "not/yet")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/cifar10.safetensors").touch()
    with pytest.raises(BadInput, match=r"the results need 1\.4 GB, but"):  # without its 60,000 images of 3,072 bytes
        plan.check_disk(found, tmp_path)
    with pytest.raises(BadInput, match=r"needs 3\.8 GB \(runs_per_gpu: 3 at once\)"):
        plan.check_memory(found, 5 * 10**9, "a small GPU", at_once=3)


@pytest.mark.parametrize("method,measured", [("atas", 3.910e9), ("fgsm_rs", 3.038e9)])
def test_the_memory_of_a_training_is_what_an_h100_counted(method, measured):
    """Most of it is the sample of 512 images attacked after every epoch: docs/gpu.md."""
    (line,) = lines(block(method=method))
    assert sum(line.each.memory.values()) == pytest.approx(measured, rel=0.07)


def test_passes_are_in_forwards_and_backwards_over_the_images():
    found = {line.method: line.each.passes for line in lines(block(method=["clean", "freeat", "yopo", "fgsm_rs"]))}
    assert found["clean"] == pytest.approx(30, rel=0.01)
    assert found["freeat"] == pytest.approx(10 * 8, rel=0.01)  # App. B
    assert found["yopo"] == pytest.approx(12 * 5, rel=0.05)  # and the first layer's, twenty times
    assert found["fgsm_rs"] == pytest.approx(30 * 5 / 3, rel=0.01)  # no weight gradients in the attack


def test_processes_that_share_a_training_divide_what_has_a_row_per_image():
    grid = {"dataset": "imagenet", "model": "resnet18", "eps": "2/255", "method": "atas", "seed": 0}
    (alone,), (shared,) = lines(grid), lines(grid, processes={"imagenet": 4})
    for part, share in (("state of the method", 4), ("weights, gradients, momentum", 1)):
        assert alone.each.memory[part] == pytest.approx(share * shared.each.memory[part], rel=1e-3), part
    # 128 images, against 32: but 64 of the sample that each attacks after an epoch
    assert alone.each.memory["activations"] == pytest.approx(2 * shared.each.memory["activations"], rel=1e-3)
    assert (alone.each.flops, alone.each.disk, alone.each.state) == (
        shared.each.flops,
        shared.each.disk,
        shared.each.state,
    )


@pytest.mark.parametrize("method", ["fgsm_sdi", "fgsm_ga", "atta", "yopo", "freeat", "subat", "nuat", "atas_sdi"])
def test_what_is_counted_once_is_what_counting_everything_gives(method, monkeypatch):
    def count_all(_method, batches, train):
        return sum(passes.flops(partial(train, batch)) for batch in batches) / len(batches)

    def ask_torch(func, args, kwargs):
        out = func(*args, **kwargs)
        formula = shapes.flop_registry.get(func._overloadpacket)
        return out, formula(*args, **kwargs, out_val=out) if formula else 0

    one = {"dataset": "digits", "model": "preact_tiny", "eps": ["51/255", "77/255"], "method": method, "seed": 0}
    quick = [lines(one), lines(one)]  # the second time from memory alone
    monkeypatch.setattr(passes, "mean_flops", count_all)
    monkeypatch.setattr(shapes, "call", ask_torch)
    plan._passes.clear()
    exhaustive = lines(one)
    assert repr(quick) == repr([exhaustive, exhaustive])
    assert exhaustive[0].each.flops > 0


def test_an_average_of_the_weights_takes_memory_and_no_flops():
    plain, averaged = lines(block(method=["pgd10", "pgd10/wa"], eps="8/255"))
    assert averaged.each.flops == plain.each.flops
    key = "weights, gradients, momentum"
    assert 3 * averaged.each.memory[key] == 4 * plain.each.memory[key]


def test_a_slice_without_runs_is_refused():
    assert main(["plan", "--only", "cifar11"]) == 2


def test_every_method_of_the_largest_cells_takes_a_step_without_a_device():
    """On `meta` reading a value, or a tensor left on the CPU, is an error; ImageNet's state takes no memory there."""
    grid = load_config([ROOT / "config/paper.yaml"])["grid"]
    found = lines(*({**block, "model": "resnet18"} for block in grid if block["dataset"] == "imagenet"))
    assert len(found) == 10
    assert all(line.each.flops > 1e18 for line in found)
