"""Ray: ``RayExecutor`` trains a search on the nodes of a cluster, each population on a share of a device."""
