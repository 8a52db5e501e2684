"""The process that holds the training lock while a cordon stands. No third party but the Docker SDK, no Prefect."""
