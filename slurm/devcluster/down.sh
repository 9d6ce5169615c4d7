#!/bin/bash
# Takes down what up.sh started: by its recorded process ids, each checked by name first.
set -uo pipefail

DIR=${REELMILL_DEVCLUSTER:-/tmp/reelmill-devcluster}
export SLURM_CONF=$DIR/slurm.conf
[ -e "$DIR/.reelmill-devcluster" ] || { echo "no dev cluster in $DIR"; exit 0; }

state() { awk '/^Name:/ {name = $2} /^State:/ {state = $2} END {print name, state}' "/proc/$1/status" 2> /dev/null; }

stop() {  # pid file, name
    local pid; pid=$(cat "$1" 2> /dev/null) || return 0
    for _ in $(seq 75); do
        case $(state "$pid") in "$2 Z" | "$2 X") return 0 ;; "$2 "*) kill "$pid" 2> /dev/null ;; *) return 0 ;; esac
        sleep 0.2
    done
    kill -9 "$pid" 2> /dev/null
}

if timeout 5 scontrol ping > /dev/null 2>&1; then
    mapfile -t jobs < <(timeout 10 squeue -h -o %A | sort -u)
    [ ${#jobs[@]} -eq 0 ] || timeout 10 scancel "${jobs[@]}"
    for _ in $(seq 75); do [ -z "$(timeout 5 squeue -h)" ] && break; sleep 0.2; done
fi
for file in "$DIR"/run/slurmd-*.pid; do stop "$file" slurmd; done
stop "$DIR/run/slurmctld.pid" slurmctld
for process in /proc/[0-9]*; do          # steps outlive their slurmd
    pid=${process#/proc/}
    [[ $(state "$pid") == "slurmstepd "[!Z] ]] || continue
    tr '\0' '\n' < "$process/environ" 2> /dev/null | grep -qxF "SLURM_CONF=$SLURM_CONF" && kill -9 "$pid"
done
stop "$DIR/run/slurmdbd.pid" slurmdbd
stop "$DIR/run/mariadbd.pid" mariadbd
stop "$DIR/run/munged.pid" munged

(
    flock 9
    if grep -qF "# reelmill-devcluster $DIR" /etc/hosts; then   # not `sed -i`: in containers it cannot be renamed
        kept=$(grep -vxF "$(for i in 1 2 3 4; do echo "127.0.1.$i n$i # reelmill-devcluster $DIR"; done)" /etc/hosts)
        printf '%s\n' "$kept" > /etc/hosts
    fi
) 9> /tmp/.reelmill-devcluster-hosts
if [ "$(readlink /etc/slurm/slurm.conf)" = "$SLURM_CONF" ]; then rm /etc/slurm/slurm.conf; fi
rm -f "$DIR"/run/*.pid
echo "down; logs are in $DIR/log"
