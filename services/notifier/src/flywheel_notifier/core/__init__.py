"""The notifier's rules: how alerts stand, what follows from that for each destination, and how it is put. Pure."""
