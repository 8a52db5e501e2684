"""Collect GPUs and what computes on them, as the driver tells it while the workload holds them."""

from tasks.acquisition.collector import Collector, ProgramOutput

_CARDS = (
    "index,uuid,name,driver_version,pstate,temperature.gpu,utilization.gpu,utilization.memory,"
    "memory.used,memory.total,power.draw,ecc.errors.uncorrected.volatile.total"
)
_PROCESSES = "gpu_uuid,pid,process_name,used_gpu_memory"

COLLECTOR = Collector(
    name="gpu",
    answers="What did the GPUs hold and compute?",
    order=18,
    sources=(
        ProgramOutput(("nvidia-smi", f"--query-gpu={_CARDS}", "--format=csv"), "gpu.csv"),
        ProgramOutput(("nvidia-smi", "-q"), "gpu_all.txt"),
        ProgramOutput(("nvidia-smi", f"--query-compute-apps={_PROCESSES}", "--format=csv"), "gpu_processes.csv"),
    ),
    deadline=10.0,
    while_frozen=True,
)
