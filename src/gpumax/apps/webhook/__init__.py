"""What the API server asks about pods before it takes them."""
