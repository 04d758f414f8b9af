"""The broker of a node as others need it: started, joined, watched over; and how its groups come from what was asked for."""
