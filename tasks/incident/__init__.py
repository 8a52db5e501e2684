"""An incident on this host: folder, file names, joining. No Prefect; layout, run_lock, joining need no third party."""
