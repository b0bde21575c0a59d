"""The monitor's logic: pure. Events to windows, windows to burn rates, burn rates to alerts."""
