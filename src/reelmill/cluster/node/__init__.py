"""What runs on a node: a task, its stage's work, and whether the job is queued again."""
