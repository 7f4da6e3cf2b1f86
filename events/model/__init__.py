"""Events: their models and wire names, the codec, and what a step is told beside an event."""
