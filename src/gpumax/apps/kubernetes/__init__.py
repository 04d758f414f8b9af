"""The API's routes, answered by a cluster of Kubernetes with the rights of whoever asks: no server of ours is needed."""
