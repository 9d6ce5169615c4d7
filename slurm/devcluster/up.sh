#!/bin/bash
# Brings up a real Slurm of four nodes on this one host, with accounting and two pretended GPUs a node.
#
#   bash slurm/devcluster/up.sh          (or: make slurm-up)
#
# Needs root and Debian's Slurm packages; uses neither systemd nor cgroups. Everything lives in one directory.
# README.md here says what each setting is for; down.sh takes it all down again.
set -euo pipefail

DIR=${REELMILL_DEVCLUSTER:-/tmp/reelmill-devcluster}
PORT=${REELMILL_DEVCLUSTER_PORT:-17800}       # +0 slurmctld, +1 slurmdbd, +2 MariaDB, +11…+14 slurmd
DEFAULT=${REELMILL_DEVCLUSTER_DEFAULT:-1}     # 1: this host's default Slurm, if it has none (/etc/slurm/slurm.conf)
BINDING=${REELMILL_DEVCLUSTER_BINDING:-none}  # affinity: tasks are bound to cores, of which a node has what this host has
NODES=4
CPUS=8
HOST=$(hostname -s)
PACKAGES="slurmctld slurmd slurm-client munge slurmdbd mariadb-server-core mariadb-client-core"

main() {
    [ "$BINDING" = none ] || CPUS=$(env -u OMP_NUM_THREADS nproc)   # which nproc would print instead
    refuse_without_means
    fresh_directory
    name_nodes
    write_configuration
    export SLURM_CONF=$DIR/slurm.conf
    start_munge
    start_accounting
    start_controller
    start_nodes
    sinfo
    echo
    echo "Up. In each shell that should use it:  export SLURM_CONF=$SLURM_CONF"
    echo "Down again:                            bash slurm/devcluster/down.sh"
}

refuse() { echo "slurm/devcluster/up.sh: $*" >&2; exit 2; }

refuse_without_means() {
    local missing=() program
    for program in slurmctld slurmd slurmdbd sinfo munged mariadbd mariadb mariadb-install-db; do
        command -v "$program" > /dev/null || missing+=("$program")
    done
    [ ${#missing[@]} -eq 0 ] || refuse "not installed: ${missing[*]}. On Debian or Ubuntu, as root:
    apt-get update && apt-get install -y --no-install-recommends $PACKAGES"
    [ "$(id -u)" -eq 0 ] || refuse "needs root (nodes are network names and devices); run it with sudo"
    unshare --uts --mount true 2> /dev/null || refuse "needs the right to make namespaces (CAP_SYS_ADMIN):
    in a container, start that with --privileged or --cap-add SYS_ADMIN"
    if [ -s "$DIR/run/slurmctld.pid" ] && running "$(cat "$DIR/run/slurmctld.pid")" slurmctld; then
        refuse "already up in $DIR (export SLURM_CONF=$DIR/slurm.conf); take it down first: slurm/devcluster/down.sh"
    fi
}

running() {  # pid, name. A zombie has ended, though `kill -0` says otherwise.
    [ "$(awk '/^Name:/ {name = $2} /^State:/ {state = $2} END {print name, state != "Z"}' \
        "/proc/$1/status" 2> /dev/null)" = "$2 1" ]
}

wait_until() {  # seconds, command …
    local left=$(( $1 * 5 )); shift
    until timeout 5 "$@" > /dev/null 2>&1; do
        (( left-- > 0 )) || { echo "up.sh: gave up waiting for: $*; see $DIR/log" >&2; timeout 5 "$@"; exit 1; }
        sleep 0.2
    done
}

fresh_directory() {
    if [ -e "$DIR" ]; then
        [ -e "$DIR/.reelmill-devcluster" ] || refuse "$DIR exists and is not a dev cluster's; set REELMILL_DEVCLUSTER"
        rm -rf "$DIR"
    fi
    mkdir -p "$DIR"/{munge,state,log,run,database,database-tmp,devices,node-disk}
    touch "$DIR/.reelmill-devcluster"
    chmod 755 "$DIR" "$DIR/munge"        # munged refuses directories that a group may write
    (umask 077; head -c 128 /dev/urandom > "$DIR/munge/key")
}

name_nodes() {  # ranks find each other by the first node's name
    local i
    # Under a lock: another cluster may be coming up or going down.
    (flock 9; for i in $(seq $NODES); do echo "127.0.1.$i n$i # reelmill-devcluster $DIR"; done >> /etc/hosts) \
        9> /tmp/.reelmill-devcluster-hosts
}

write_configuration() {
    local i
    for i in 0 1; do mknod "$DIR/devices/gpu$i" c 1 3; done   # as /dev/null: a plain file gives no CUDA_VISIBLE_DEVICES
    echo "NodeName=n[1-$NODES] Name=gpu Count=2 File=$DIR/devices/gpu[0-1]" > "$DIR/gres.conf"

    cat > "$DIR/slurm.conf" << X
ClusterName=devcluster
# Ids not used before, or submitit would take an old job's result for a new one's; nor by a cluster beside this
# one, or ranks of two jobs would meet on one port.
FirstJobId=$(( $(date +%s) % 60000 * 1000 + PORT / 10 % 1000 + 1 ))
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=$PORT
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# cred_expire is how long a requeued job waits: above KillWait + 2, or it is held on the node it failed on.
AuthInfo=socket=$DIR/munge/socket,cred_expire=${REELMILL_DEVCLUSTER_REQUEUE_DELAY:-10}
KillWait=5
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool-%n
SlurmctldPidFile=$DIR/run/slurmctld.pid
SlurmdPidFile=$DIR/run/slurmd-%n.pid
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdLogFile=$DIR/log/slurmd-%n.log
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/$BINDING
$([ "$BINDING" = none ] || echo TaskPluginParam=cores)
JobAcctGatherType=jobacct_gather/none
# Each node claims more than a quarter of this host.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
GresTypes=gpu
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=5,bf_interval=5,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
ReturnToService=1
SlurmdTimeout=20
InactiveLimit=0
MinJobAge=300
MaxArraySize=${REELMILL_DEVCLUSTER_MAX_ARRAY:-1001}
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$(( PORT + 1 ))
AccountingStoragePass=$DIR/munge/socket
AccountingStorageTRES=gres/gpu
NodeName=n[1-$NODES] NodeHostname=$HOST NodeAddr=127.0.1.[1-$NODES] Port=[$(( PORT + 11 ))-$(( PORT + 10 + NODES ))] CPUs=$CPUS RealMemory=64000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=1-00:00:00 State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=high Nodes=ALL MaxTime=1-00:00:00 State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=short Nodes=ALL MaxTime=00:30:00 State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
X

    (umask 077; cat > "$DIR/slurmdbd.conf") << X
AuthType=auth/munge
AuthInfo=socket=$DIR/munge/socket
DbdHost=$HOST
DbdAddr=127.0.0.1
DbdPort=$(( PORT + 1 ))
SlurmUser=root
LogFile=$DIR/log/slurmdbd.log
PidFile=$DIR/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$(( PORT + 2 ))
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_accounting
X

    if [ "$DEFAULT" = 1 ] && [ ! -e /etc/slurm/slurm.conf ]; then
        mkdir -p /etc/slurm && ln -sfn "$DIR/slurm.conf" /etc/slurm/slurm.conf
    fi
}

start_munge() {
    munged --key-file="$DIR/munge/key" --socket="$DIR/munge/socket" --pid-file="$DIR/run/munged.pid" \
        --log-file="$DIR/log/munged.log" --seed-file="$DIR/munge/seed"
}

start_accounting() {  # sacct is how an ended job's fate is known; slurmctld must find its cluster already there
    local database=(mariadb --no-defaults -S "$DIR/run/database.sock" -u root)
    export TMPDIR=$DIR/database-tmp   # in /tmp two of them trip over each other's tables
    mariadb-install-db --no-defaults --user=root --datadir="$DIR/database" --skip-test-db \
        --auth-root-authentication-method=normal > "$DIR/log/database-install.log" 2>&1
    setsid mariadbd --no-defaults --user=root --datadir="$DIR/database" --socket="$DIR/run/database.sock" \
        --pid-file="$DIR/run/mariadbd.pid" --port=$(( PORT + 2 )) --bind-address=127.0.0.1 --skip-name-resolve \
        --innodb-buffer-pool-size=64M --innodb-log-file-size=32M --innodb-lock-wait-timeout=900 \
        --innodb-flush-log-at-trx-commit=0 --performance-schema=OFF --skip-log-bin \
        > "$DIR/log/mariadbd.log" 2>&1 < /dev/null &
    wait_until 60 "${database[@]}" -e 'select 1'
    "${database[@]}" -e "create database slurm_accounting; create user slurm@'127.0.0.1' identified by 'slurm';
        grant all on slurm_accounting.* to slurm@'127.0.0.1';"
    unset TMPDIR
    slurmdbd
    wait_until 60 sacctmgr -n show cluster
    sacctmgr -i add cluster devcluster > /dev/null
}

start_controller() {
    slurmctld
    wait_until 30 scontrol ping
}

start_nodes() {
    local i
    for i in $(seq $NODES); do REELMILL_DEVCLUSTER=$DIR bash "$(dirname "$0")/node.sh" start "n$i"; done
    wait_until 60 bash -c "[ \$(sinfo -h -N -p main -t idle -o %N | wc -l) -eq $NODES ]"
}

main
