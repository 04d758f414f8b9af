"""What `gpumax doctor` looks at in a cluster of Kubernetes."""
