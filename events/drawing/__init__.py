"""Graphs and state tables as pictures: Mermaid, DOT and SVG."""
