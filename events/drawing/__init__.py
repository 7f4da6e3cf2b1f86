"""Pictures of graphs and state tables: Mermaid, DOT and SVG."""
