"""Jobs on a cluster: Slurm's scripts, its queue, and the records by which a folder of files tells how far jobs are."""
