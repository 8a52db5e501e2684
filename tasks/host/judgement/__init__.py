"""What a process is to the workload, judged by facts of the kernel after the freeze. Reads nothing, sends no signal."""
