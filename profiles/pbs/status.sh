#!/bin/sh
# What Snakemake asks of a job: running, success or failed. PBS keeps finished jobs for `qstat -x` (job_history_enable).
said=$(qstat -x -f "$1" 2>/dev/null) || { echo failed; exit; }
case $(echo "$said" | awk '$1 == "job_state" {print $3}'):$(echo "$said" | awk '$1 == "Exit_status" {print $3}') in
F:0) echo success ;;
F:*) echo failed ;;
*) echo running ;;
esac
