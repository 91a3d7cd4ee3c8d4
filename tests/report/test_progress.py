"""How far a run is, as its files say it: those that the code itself writes, and damaged ones."""

import json
import os
import time

import pytest
import torch

from fastat.config.grid import load_config, overlay, protocol_for, protocol_of, result_files
from fastat.config.recipe import resolve
from fastat.config.spec import RunSpec
from fastat.errors import BadInput
from fastat.evaluation import autoattack
from fastat.machine import files
from fastat.report import progress
from fastat.report.progress import Place, look
from fastat.training import checkpoint
from fastat.training.checkpoint import Standing

SPEC = RunSpec.parse("digits/preact_tiny/eps77/atas/paper/seed0")
CONFIG = load_config()
HOUR = 3600.0
ROWS = [
    {"attack": attack, "index": index, "label": 0, "correct": right, "step": ""}
    for attack, rights in {"clean": (1, 0, 1, 1), "apgd-ce": (0, None, 1, 1), "square": (None, None, 1, None)}.items()
    for index, right in enumerate(rights)
    if right is not None
]


@pytest.fixture
def folder(tmp_path):
    """The empty folder of SPEC; the results are `tmp_path`."""
    path = tmp_path / "runs" / SPEC.name
    path.mkdir(parents=True)
    return path


def finish(folder, **about):
    """The files of a finished run that was attacked."""
    for name in result_files(SPEC, CONFIG):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    about = {"run": SPEC.name, "status": "finished", "train_seconds": 8.0, **about}
    (folder / "run.json").write_text(json.dumps(about))


def save_state(folder, epochs=7):
    """A training's state after so many epochs of 1.5 s."""
    standing = Standing(epoch=epochs + 1, log=[{"epoch": k + 1, "seconds": 1.5} for k in range(epochs)])
    checkpoint.save(folder / "state/state.safetensors", {"model": {"w": torch.zeros(3)}}, standing, "made from")


def write_log(results, text, kind="train", ending=""):
    """The log of SPEC's job."""
    path = results / f"logs/{kind}/{SPEC.name}{ending}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def at(results, later=0.0, config=CONFIG):
    """Now, or so many seconds later."""
    return Place(results, config, now=time.time() + later)


def test_a_run_with_all_its_files_is_done_and_a_diverged_one_is_no_failure(tmp_path, folder):
    finish(folder)
    run = look(SPEC, at(tmp_path))
    assert (run.status, run.stage, run.diverged, run.trained) == ("done", "", False, 8.0)
    finish(folder, status="diverged", cause="the training loss became nan in epoch 2")
    run = look(SPEC, at(tmp_path))
    assert (run.status, run.diverged, run.cause) == ("done", True, "")


def test_the_header_of_a_state_says_how_many_epochs_are_done_and_what_one_takes(tmp_path, folder):
    save_state(folder)
    run = look(SPEC, at(tmp_path))
    assert (run.status, run.stage, run.done, run.of, run.seconds) == ("running", "training", 7, 30, 1.5)
    assert look(SPEC, at(tmp_path, later=HOUR)).status == "stopped"


def test_what_was_written_within_three_epochs_counts_as_running_elsewhere(tmp_path, folder):
    standing = Standing(epoch=2, log=[{"epoch": 1, "seconds": HOUR}])
    checkpoint.save(folder / "state/state.safetensors", {"model": {"w": torch.zeros(3)}}, standing, "made from")
    run = look(SPEC, at(tmp_path, later=2.5 * HOUR))
    assert (run.status, run.held) == ("running", False) and run.silent == pytest.approx(2.5 * HOUR, abs=60)
    assert look(SPEC, at(tmp_path, later=4 * HOUR)).status == "stopped"


@pytest.mark.skipif(not progress.locks.seen(), reason="this system lists no locks")
def test_a_held_lock_means_running_however_old_the_files_are_and_whatever_the_log_says(tmp_path, folder):
    save_state(folder)
    write_log(tmp_path, "fastat train: no data. Make it.\n")
    with files.exclusive(folder / "state"):
        run = look(SPEC, at(tmp_path, later=9 * HOUR))
    assert (run.status, run.held, run.cause) == ("running", True, "")


def test_looking_takes_no_lock_and_changes_no_file(tmp_path, folder, monkeypatch):
    finish(folder)
    save_state(folder)
    autoattack.write_partial(folder / "state/autoattack-00.csv", ROWS)
    (folder / "eval/autoattack.csv").unlink()
    monkeypatch.setattr("fcntl.flock", lambda *_: pytest.fail("a lock was taken"))
    before = {path: path.lstat() for path in tmp_path.rglob("*")}
    look(SPEC, at(tmp_path))
    after = {path: path.lstat() for path in tmp_path.rglob("*")}
    assert before.keys() == after.keys()
    assert all(old.st_mtime_ns == after[path].st_mtime_ns for path, old in before.items())


def test_of_a_half_done_evaluation_the_images_count_that_fell_or_withstood_the_last_attack(tmp_path, folder):
    finish(folder)
    (folder / "eval/autoattack.csv").unlink()
    autoattack.write_partial(folder / "state/autoattack-00.csv", ROWS)
    run = look(SPEC, at(tmp_path))
    assert (run.status, run.stage, run.done, run.of) == ("running", "evaluation", 3, 50)
    assert look(SPEC, at(tmp_path, later=HOUR)).status == "stopped"


SHARDED = overlay(CONFIG, {"evaluation": {"autoattack": {"shards": 2}}})


@pytest.mark.skipif(not progress.locks.seen(), reason="this system lists no locks")
def test_a_run_one_of_whose_shards_is_at_work_is_running(tmp_path, folder):
    finish(folder)
    (folder / "eval/autoattack.csv").unlink()
    with files.exclusive(folder / "state/shard2of2"):
        run = look(SPEC, at(tmp_path, later=9 * HOUR, config=SHARDED))
    assert (run.status, run.stage, run.held) == ("running", "evaluation", True)
    assert look(SPEC, at(tmp_path, later=9 * HOUR, config=SHARDED)).status == "waiting"


def test_the_images_of_all_shards_count_and_of_the_best_epoch_only_its_own(tmp_path, folder):
    finish(folder)
    (folder / "eval/autoattack.csv").unlink()
    for k in range(2):
        rows = [{**row, "index": row["index"] + 10 * k} for row in ROWS]
        autoattack.write_partial(folder / f"state/autoattack-0{k}.csv", rows)
    assert look(SPEC, at(tmp_path, config=SHARDED)).done == 6
    os.utime(folder / "state/autoattack-00.csv", (100, 100))
    assert look(SPEC, at(tmp_path)).done == 3  # of the newest, where there are no shards
    best = overlay(SHARDED, {"recipes": {"digits": {"every": {"hold_out": 0.1}}}})
    (folder / "eval/autoattack.csv").write_text("x")
    os.utime(folder / "eval/autoattack.csv", (200, 200))
    run = look(SPEC, at(tmp_path, config=best))
    assert (run.stage, run.done) == ("evaluation", 3)


def test_each_job_of_an_evaluation_fails_in_a_log_of_its_own(tmp_path, folder):
    finish(folder)
    for name in ("csv", "json"):
        (folder / f"eval/autoattack.{name}").unlink()
    autoattack.write_partial(folder / "state/autoattack-01.csv", ROWS)
    log = write_log(tmp_path, "fastat evaluate: the disk is full. Free some.\n", "evaluate", "-shard1of2")
    os.utime(log, (time.time() - HOUR, time.time() - HOUR))  # another shard went on
    run = look(SPEC, at(tmp_path, config=SHARDED))
    assert (run.status, run.cause, run.log) == ("failed", "the disk is full. Free some.", str(log))
    assert look(SPEC, at(tmp_path)).status == "running"  # without shards it is nobody's log
    finish(folder, files={"weights.safetensors": "these", "best.safetensors": "those"})
    for name in ("csv", "json"):
        (folder / f"eval/autoattack.{name}").unlink()
    (folder / "state/shard1of2.json").write_text('{"weights": "of another training"}')
    assert look(SPEC, at(tmp_path, config=SHARDED)).status == "failed"
    (folder / "state/shard1of2.json").write_text('{"weights": "these"}')
    assert look(SPEC, at(tmp_path, config=SHARDED)).status == "running"  # it was done since
    finish(folder)
    best = overlay(CONFIG, {"recipes": {"digits": {"every": {"hold_out": 0.1}}}})
    write_log(tmp_path, "fastat evaluate: killed before. Again.\n", "evaluate")  # of what is there by now
    os.utime(folder / "state/autoattack-01.csv", (100, 100))
    log = write_log(tmp_path, "fastat evaluate: no best weights. Train.\n", "evaluate", "-best")
    run = look(SPEC, at(tmp_path, config=best))
    assert (run.status, run.cause, run.log) == ("failed", "no best weights. Train.", str(log))
    finish(folder, files={"weights.safetensors": "these", "best.safetensors": "those"})
    log = write_log(tmp_path, "fastat evaluate: no room. Make some.\n", "evaluate", "-best_shard2of2")
    run = look(SPEC, at(tmp_path, config=overlay(SHARDED, best)))
    assert (run.status, run.cause, run.log) == ("failed", "no room. Make some.", str(log))


def test_autoattack_on_a_checkpoint_fails_in_a_log_of_its_own(tmp_path):
    block = {"weights": "theirs.pth", "model": "preact_tiny", "dataset": "digits", "eps": "77/255"}
    spec, config = RunSpec.parse("digits/preact_tiny/eps77/external/theirs/seed0"), {**CONFIG, "external": [block]}
    for name in result_files(spec, config):
        path = tmp_path / "runs" / spec.name / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"run": spec.name, "status": "external"}))
    assert look(spec, at(tmp_path, config=config)).status == "done"
    (tmp_path / "runs" / spec.name / "eval/autoattack.csv").unlink()
    for ending, said in (("", "no weights"), ("-autoattack", "the GPU is lost")):
        path = tmp_path / f"logs/evaluate/{spec.name}{ending}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"fastat evaluate: {said}\n")
    run = look(spec, at(tmp_path, config=config))
    assert (run.status, run.stage, run.cause) == ("failed", "evaluation", "the GPU is lost")


def test_attacks_by_name_are_a_stage_of_their_own_after_the_evaluation(tmp_path, folder):
    asked = {**CONFIG, "evaluation": {**CONFIG["evaluation"], "attacks": ["pgd-20"]}}
    finish(folder)
    write_log(
        tmp_path, "pgd-20 alpha=0.2eps: broke 9 of 360\nfastat evaluate: the disk is full\n", "evaluate", "-attacks"
    )
    assert look(SPEC, at(tmp_path)).status == "done"
    run = look(SPEC, Place(tmp_path, asked, set(), time.time() + 9 * HOUR))
    assert (run.status, run.stage, run.cause) == ("failed", "attacks", "the disk is full")
    assert run.log.endswith("seed0-attacks.log")
    autoattack.write_partial(folder / "state/attack-00.csv", ROWS)
    run = look(SPEC, Place(tmp_path, asked, set(), time.time()))
    assert (run.status, run.of) == ("stopped", 0)  # something was written since it failed
    (folder / "eval/steps.csv").unlink()
    assert look(SPEC, Place(tmp_path, asked, set(), time.time())).stage == "evaluation"


def test_square_is_autoattacks_last_attack(tiny_model):
    assert list(autoattack.attacks(tiny_model.eval(), 10, 0.1, 0, torch.device("cpu")))[-1] == "square"


def test_an_error_at_the_end_of_a_log_is_the_cause_of_a_failure(tmp_path, folder):
    log = write_log(tmp_path, "epoch=1/30 loss=2\nfastat train: the disk is full. Free some.\n")
    run = look(SPEC, at(tmp_path))
    assert (run.status, run.cause, run.log) == ("failed", "the disk is full. Free some.", str(log))
    log.write_text('Traceback (most recent call last):\n  File "x.py", line 1, in f\n    g()\nKeyError: 3\n')
    assert look(SPEC, at(tmp_path)).cause == "KeyError: 3"


def test_of_a_torchrun_the_runs_own_words_are_the_cause(tmp_path, folder):
    write_log(
        tmp_path, "fastat train: too large. Take less.\nTraceback (most recent call last):\n  x\nChildFailedError:\n"
    )
    assert look(SPEC, at(tmp_path)).cause == "too large. Take less."


@pytest.mark.parametrize(
    "after,status",
    [
        (f"{SPEC.name}: resumed at epoch 2, batch 0\n", "running"),
        ("epoch=2/30 loss=2\n", "running"),
        (f"{SPEC.name}: stopped; saved at epoch 2, batch 3. Run again to go on.\n", "waiting"),
        ("fastat train: stopped by Ctrl-C. Run again to go on.\n", "waiting"),
    ],
)
def test_a_failure_before_the_last_sign_of_work_is_over(tmp_path, folder, after, status):
    write_log(tmp_path, f"fastat train: the disk is full. Free some.\n{after}")
    assert look(SPEC, at(tmp_path)).status == status


def test_evaluation_and_probe_fail_in_logs_of_their_own(tmp_path, folder):
    finish(folder)
    (folder / "eval/whitebox.csv").unlink()
    write_log(tmp_path, "square: broke 0 of 4\nfastat evaluate: no weights. Train.\n", "evaluate")
    run = look(SPEC, at(tmp_path))
    assert (run.status, run.stage, run.cause) == ("failed", "evaluation", "no weights. Train.")
    finish(folder)
    write_log(tmp_path, "fastat probe: no snapshots. Train.\n", "evaluate", "-probe")
    kept = [{**block, "snapshots": True} for block in CONFIG["grid"]]
    run = look(SPEC, at(tmp_path, config={**CONFIG, "grid": kept}))
    assert (run.status, run.stage, run.cause) == ("failed", "probe", "no snapshots. Train.")


@pytest.mark.parametrize(
    "name,content,said",
    [
        ("run.json", "", "run.json is empty"),
        ("run.json", '{"run": ', "run.json is damaged"),
        ("run.json", "[]", "run.json is damaged"),
        ("run.json", '{"run": "another", "status": "finished", "train_seconds": 1}', "of another run, another"),
        ("eval/steps.csv", "", "steps.csv is empty"),
    ],
)
def test_a_finished_file_that_is_damaged_is_a_failure_with_its_name(tmp_path, folder, name, content, said):
    finish(folder)
    (folder / name).write_text(content)
    run = look(SPEC, at(tmp_path))
    assert run.status == "failed" and said in run.cause and "Delete" in run.cause


def test_damaged_states_are_noted_and_the_run_is_looked_at_all_the_same(tmp_path, folder):
    save_state(folder)
    path = folder / "state/state.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    place = at(tmp_path)
    run = look(SPEC, place)
    assert (run.status, run.done) == ("running", 0) and "state.safetensors is damaged" in place.notes[0]
    path.unlink()
    finish(folder)
    (folder / "eval/autoattack.csv").unlink()
    (folder / "state/autoattack-00.csv").write_bytes(b"attack\xff\0\n")
    place = at(tmp_path)
    assert look(SPEC, place).stage == "evaluation" and "autoattack-00.csv is damaged" in place.notes[0]


def test_folders_that_cannot_be_read_are_noted(tmp_path, folder):
    folder.rmdir()
    folder.write_text("a file where a folder should be")
    place = at(tmp_path)
    assert look(SPEC, place).status == "waiting" and "cannot be read: Not a directory" in place.notes[0]
    folder.unlink()
    folder.symlink_to(folder)
    assert look(SPEC, at(tmp_path)).status == "waiting"


def test_runs_beside_the_grid_are_named_and_stray_folders_noted(tmp_path, folder):
    for name in ("seed1", "seed0_old", "seed01"):
        (folder.parent / name).mkdir()
    place = at(tmp_path)
    assert progress.strangers(place, {SPEC.name}) == [SPEC.name.replace("seed0", "seed1")]
    assert [note.split("/")[-1].split()[0] for note in place.notes] == ["seed01", "seed0_old"]


def test_durations_are_from_the_lock_to_run_json_and_from_eval_to_its_last_file(tmp_path, folder):
    finish(folder)
    (folder / "state").mkdir()
    (folder / "state/lock").touch()
    times = {"state/lock": 100, "run.json": 120, "eval/whitebox.csv": 125, "eval/surfaces.csv": 126}
    times |= {"eval/steps.csv": 127, "eval/autoattack.csv": 150}
    for name, when in times.items():
        os.utime(folder / name, (when, when))
    os.utime(folder, (121, 121))
    run = look(SPEC, at(tmp_path))
    assert (run.trained, run.evaluated) == (20.0, 29.0)
    held_out = overlay(CONFIG, {"recipes": {"digits": {"every": {"hold_out": 0.1}}}})
    run, wanted = progress.Progress(SPEC.name), result_files(SPEC, held_out)
    for name, when in (("best_whitebox", 160), ("best_autoattack", 190)):  # of the best epoch's weights, too
        assert run.evaluated is None
        (folder / f"eval/{name}.csv").touch()
        os.utime(folder / f"eval/{name}.csv", (when, when))
        progress.durations(run, folder, progress.there(folder, []), wanted)
    assert run.evaluated == 69.0
    os.utime(folder / "run.json", (100, 100))
    os.utime(folder, (150, 150))
    run = look(SPEC, at(tmp_path))
    assert (run.trained, run.evaluated) == (8.0, None)
    write_sidecars(folder)
    assert look(SPEC, at(tmp_path)).evaluated == 34.5
    sharded = overlay(CONFIG, {"evaluation": {"autoattack": {"shards": 3}}})
    write_sidecars(folder, sharded)
    assert look(SPEC, at(tmp_path, config=sharded)).evaluated is None


def write_sidecars(folder, config=CONFIG):
    """Of evaluations by this config, of 34.5 s in all; the times of files do not tell."""
    protocol = protocol_for(config, "digits")
    for name, seconds in (("whitebox", 2.0), ("surfaces", 1.0), ("steps", 1.5), ("autoattack", 30.0)):
        about = {"protocol": protocol_of(name, protocol), "numerics": "portable", "seconds": seconds}
        (folder / f"eval/{name}.json").write_text(json.dumps(about))
    os.utime(folder, (time.time(),) * 2)


def test_seconds_of_another_recipe_or_protocol_than_the_config_s_tell_nothing(tmp_path, folder):
    finish(folder, recipe=json.loads(resolve(SPEC, CONFIG).to_json()))
    write_sidecars(folder)

    def seconds(**config):
        run = look(SPEC, at(tmp_path, config=overlay(CONFIG, config)))
        return run.trained, run.evaluated

    assert seconds() == (8.0, 34.5)
    assert seconds(evaluation={"pgd_restarts": 2}) == (8.0, None)
    assert seconds(numerics="native") == (None, None)  # it is part of the recipe
    assert seconds(recipes={"digits": {"atas": {"epochs": 9}}}) == (None, None)


def test_without_autoattack_a_run_is_done_with_its_last_probe(tmp_path, folder):
    block = {"dataset": "digits", "model": "preact_tiny", "eps": "77/255", "method": "atas", "seed": 0}
    without = at(tmp_path, config={**CONFIG, "grid": [{**block, "autoattack": False}]})
    finish(folder)
    for ending in ("csv", "json"):
        (folder / f"eval/autoattack.{ending}").unlink()
    for name in ("whitebox", "surfaces"):
        os.utime(folder / f"eval/{name}.csv", (130, 130))
    for path, when in ((folder / "eval/steps.csv", 150), (folder, 121)):
        os.utime(path, (when, when))
    run = look(SPEC, without)
    assert (run.status, run.autoattack, run.evaluated) == ("done", False, 29.0)
    assert look(SPEC, at(tmp_path)).stage == "evaluation"


def test_a_file_that_is_no_state_is_refused(tmp_path):
    path = tmp_path / "state.safetensors"
    for content in (b"", b"\xff" * 20, b"\x02\0\0\0\0\0\0\0{}"):
        path.write_bytes(content)
        with pytest.raises(BadInput, match="damaged or no state file"):
            progress.epochs_done(path)
