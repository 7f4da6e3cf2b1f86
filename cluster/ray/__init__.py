"""The Ray session: embedded or attached, and what ensue asks of Ray about processes."""
