"""The profiles of Grid Engine and PBS through pretend commands that run the jobs in the background."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from fastat import ROOT

needs_plugin = pytest.mark.skipif(
    importlib.util.find_spec("snakemake_executor_plugin_cluster_generic") is None,
    reason="no snakemake-executor-plugin-cluster-generic here: the profiles of Grid Engine and PBS are not tried",
)
QSUB = """#!/bin/bash
for script; do :; done
echo "$@" >> $QUEUE/asked
id=$(ls $QUEUE | grep -c 'pid$')
setsid sh -c "sh $script; echo \\$? > $QUEUE/$id.ended" > /dev/null 2>&1 &
echo $! > $QUEUE/$id.pid
echo $id
"""
LIVES = "id=${!#}; kill -0 $(cat $QUEUE/$id.pid) 2>/dev/null"
ENDED = "code=$(cat $QUEUE/$id.ended 2>/dev/null || echo 137)"
COMMANDS = {  # what each engine's status command asks
    "sge": {
        "qsub": QSUB,
        "qstat": f"#!/bin/bash\n{LIVES}\n",
        "qacct": f'#!/bin/bash\nid=${{!#}}; {ENDED}\nprintf "failed 0\\nexit_status $code\\n"\n',
    },
    "pbs": {
        "qsub": QSUB,
        "qstat": f'#!/bin/bash\n{LIVES} && {{ echo "    job_state = R"; exit; }}\n{ENDED}\n'
        'printf "    job_state = F\\n    Exit_status = $code\\n"\n',
    },
}


def started(engine: str, folder: Path) -> subprocess.Popen:
    """Snakemake, which prepares digits by a job of this engine."""
    (folder / "bin").mkdir()
    (folder / "queue").mkdir()
    for name, text in {**COMMANDS[engine], "qdel": "#!/bin/sh\n"}.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    (folder / "profiles").symlink_to(ROOT / "profiles")
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--profile", f"profiles/{engine}", "--latency-wait", "5", "--seconds-between-status-checks", "1"]
    command += ["--configfile", str(ROOT / "config/smoke.yaml"), "--", "results/data/digits.safetensors"]
    environment = {**os.environ, "PATH": path, "QUEUE": str(folder / "queue")}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@needs_plugin
@pytest.mark.parametrize("engine", COMMANDS)
def test_a_job_is_asked_for_with_its_numbers_and_runs(engine, tmp_path):
    process = started(engine, tmp_path)
    said = process.communicate(timeout=200)[0]
    assert process.returncode == 0, said[-3000:]
    assert (tmp_path / "results/data/digits.safetensors").is_file()
    asked = (tmp_path / "queue/asked").read_text()
    numbers = {
        "sge": "-pe smp 1 -l h_rt=86400,mem_free=16000M,gpu=0",
        "pbs": "-l select=1:ncpus=1:ngpus=0:mem=16000mb -l walltime=86400",
    }
    assert "-N fastat.data." in asked and numbers[engine] in asked


@needs_plugin
@pytest.mark.parametrize("engine", COMMANDS)
def test_a_job_that_the_queue_kills_is_seen_to_have_failed(engine, tmp_path):
    """Without a status command Snakemake waits for its last word for ever."""
    process = started(engine, tmp_path)
    pid = tmp_path / "queue/0.pid"
    for _ in range(600):
        if pid.exists() and pid.read_text().strip():
            break
        time.sleep(0.1)
    os.killpg(int(pid.read_text()), signal.SIGKILL)
    said = process.communicate(timeout=200)[0]
    assert process.returncode == 1 and "Error in rule data" in said, said[-3000:]


def test_each_profile_pins_the_plugin_that_was_tried_and_keeps_what_makes_results():
    for engine in (*COMMANDS, "lsf"):
        text = (ROOT / f"profiles/{engine}/config.yaml").read_text()
        assert "# pip install snakemake-executor-plugin-" in text and "==" in text
        assert yaml.safe_load(text)["rerun-triggers"] == ["mtime", "params", "input"]
