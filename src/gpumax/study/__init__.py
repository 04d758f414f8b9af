"""Studies: scenarios played under several policies, measured, compared and drawn."""
