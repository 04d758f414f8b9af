"""What new objects are answered before the API server takes them: what is changed about pods, and what their makers are told. Pure."""
