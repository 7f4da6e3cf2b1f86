"""The events themselves: models, wire names, codec, and what a step is told beside an event."""
