#!/bin/bash
# One node of the dev cluster:  node.sh start n2   |   node.sh lose n2   (as when its power fails: nothing is told)
set -euo pipefail

DIR=${REELMILL_DEVCLUSTER:-/tmp/reelmill-devcluster}
export SLURM_CONF=$DIR/slurm.conf
node=$2

case $1 in
start)  # with its own hostname and a disk (node-disk) that the others do not see
    unshare --uts --mount bash -c "echo $node > /proc/sys/kernel/hostname
        mount -t tmpfs -o size=64m tmpfs '$DIR/node-disk' && exec slurmd -N $node"
    ;;
lose)   # all that runs under the node's hostname: slurmd, its steps, their tasks
    place=$(readlink "/proc/$(cat "$DIR/run/slurmd-$node.pid")/ns/uts")
    for process in /proc/[0-9]*; do
        if [ "$(readlink "$process/ns/uts" 2> /dev/null)" = "$place" ]; then kill -9 "${process#/proc/}" || true; fi
    done
    ;;
*)
    echo "node.sh: start or lose, not $1" >&2; exit 2 ;;
esac
