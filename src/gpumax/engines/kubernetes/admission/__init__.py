"""What is changed about pods as they are made: pure, from a pod to a JSON patch."""
