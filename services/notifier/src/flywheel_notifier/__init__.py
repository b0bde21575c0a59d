"""The notifier: sends alerts to people, once for each cause, again when it matters."""
