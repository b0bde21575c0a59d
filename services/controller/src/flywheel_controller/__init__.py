"""The controller: acts on alerts by declared rules, verifies, takes back."""
