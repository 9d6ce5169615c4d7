# Sourced by a batch script. Puts a function `srun` before the program of that name: it starts the job's tasks,
# waits for them, and has Slurm queue the job again if its work is neither done nor past hope.
#
# In: REELMILL_JOB      the job's file (job.json), whose directory takes the journal of starts and ends
#     REELMILL_PYTHON   shell words that start Python
# Out, for the tasks: MASTER_ADDR, MASTER_PORT, REELMILL_SECONDS_LEFT (at their start); for the journal: REELMILL_LOG
#
# What the tasks' exit code means: 0 done, or stopped with a note that work is left; 2 the request is wrong, which no
# repetition mends; 75 stopped where it can go on; anything else is a rank or a node that died.
# `reelmill.cluster.node.requeue` decides, bounded by progress; only this script speaks to Slurm, so that Python may live in a container that has no scontrol.

# Seconds until the time limit, as Slurm counts them; nothing if there is none. No clock of a node is asked.
reelmill_seconds_left() {
    squeue -h -a -j "$SLURM_JOB_ID" -o %L | awk -F'[-:]' '/^[0-9]+([-:][0-9]+)*$/ {
        days = /-/ ? $1 : 0; seconds = 0
        for (i = /-/ ? 2 : 1; i <= NF; i++) seconds = seconds * 60 + $i
        print days * 86400 + seconds; exit
    }'
}

# The first port from $1 on that nothing on this node, the first of the job, listens on.
reelmill_free_port() {
    local port=$1
    while grep -qiE "^ *[0-9]+: [0-9a-f]+:$(printf %04x "$port") [0-9a-f]+:[0-9a-f]+ 0a" /proc/net/tcp /proc/net/tcp6 2> /dev/null; do
        port=$(( 15000 + (port - 14999) % 17000 ))
    done
    echo "$port"
}

reelmill_decide() { eval "$REELMILL_PYTHON"' -m reelmill.cluster.node.requeue "$@" "$REELMILL_JOB"'; }

srun() {
    local option pid status term="" end="" grace id=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}}
    trap 'term=1' TERM           # bash itself must outlive Slurm's warning
    trap : USR1 USR2
    # What a set-up line or a module left for Slurm's programs would answer another question than is asked here.
    for option in $(compgen -e | grep -E '^(SQUEUE|SCONTROL|SACCT)_|^SLURM_TIME_FORMAT$'); do unset "$option"; done
    export PYTHONSAFEPATH=1      # or the directory of submission would come before the snapshot of the code
    REELMILL_LOG=$(readlink "/proc/$$/fd/2")
    export REELMILL_LOG
    reelmill_decide before || exit $?

    MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -1)
    MASTER_PORT=$(reelmill_free_port $(( 15000 + (SLURM_JOB_ID + 7919 * ${SLURM_RESTART_COUNT:-0}) % 17000 )))
    REELMILL_SECONDS_LEFT=$(reelmill_seconds_left)   # empty: no time limit
    [ -z "$REELMILL_SECONDS_LEFT" ] || end=$(( SECONDS + REELMILL_SECONDS_LEFT ))
    export MASTER_ADDR MASTER_PORT REELMILL_SECONDS_LEFT
    # srun no longer takes it from the job (Slurm 22.05 and later): bound tasks would get one processor each.
    [ -z "$SLURM_CPUS_PER_TASK" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
    grace=$(scontrol show config | awk '/^KillWait/ {print int($3 / 2)}')

    # --wait=0: rank 0 may need minutes to write what the others have agreed on.
    command srun --kill-on-bad-exit=1 --wait=0 "$@" &
    pid=$!
    while :; do
        wait $pid; status=$?
        kill -0 $pid 2> /dev/null || break
        if [ "$term" = 1 ]; then   # Slurm will kill everything KillWait seconds from now, this script too
            term=2; (sleep "${grace:-10}"; kill -KILL $pid 2> /dev/null) &
        fi
    done

    # A TERM here is Slurm's or its user's own decision (cancelled, preempted, requeued), except at the time limit.
    if [ -n "$term" ] && { [ -z "$end" ] || (( SECONDS < end )); }; then
        reelmill_decide after $status --ended-by-slurm
    else
        reelmill_decide after $status
    fi
    case $? in
    0) scontrol requeue "${id:-$SLURM_JOB_ID}" || echo "reelmill: Slurm refused to queue the job again" >&2 ;;
    3) exit 0 ;;
    esac
    [ $status -ne 0 ] || status=75   # tasks that stopped as asked all ended well, but the job is not done
    exit $status
}
