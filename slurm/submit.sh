#!/bin/bash
# sbatch, with nothing of the job that it may be called from. SLURM_* variables go with a job whatever --export says
# (SLURM_CPU_BIND would bind it to the old job's cores), and SBATCH_* ones count before the lines of a script.
#
#   bash slurm/submit.sh [option of sbatch …] slurm/train.sbatch …
for name in $(compgen -e); do
    case $name in
    SLURM_CONF) ;;
    SLURM_* | SBATCH_* | SRUN_* | SALLOC_*) unset "$name" ;;
    esac
done
exec sbatch "$@"
