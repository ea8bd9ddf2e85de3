"""Stand-ins for hardware that speak the vendor's own interface, so that the real bindings are exercised."""
