"""gRPC over sockets of this machine, as the kubelet speaks it."""
