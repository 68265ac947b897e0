//! Floor 3: the concrete connectors and their registry.
