//! Floor 4: what people see: progress, JSON lines, tables, errors.
