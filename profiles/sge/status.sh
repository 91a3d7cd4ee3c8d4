#!/bin/sh
# What Snakemake asks of a job: running, success or failed. A job that qstat knows no more is in qacct's list, if a bit later.
qstat -j "$1" >/dev/null 2>&1 && echo running && exit
for wait in 0 5 10 20 40; do
  sleep $wait
  said=$(qacct -j "$1" 2>/dev/null | awk '$1 == "failed" {f = $2} $1 == "exit_status" {e = $2} END {print f + e}')
  [ -n "$said" ] && qacct -j "$1" >/dev/null 2>&1 && break
  said=lost
done
[ "$said" = 0 ] && echo success || echo failed
