"""The process that holds the training lock under a cordon. Standard library alone; with containers, the Docker SDK."""
