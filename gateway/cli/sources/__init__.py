"""The sources of the commands: a store on disk, or a served engine over HTTP."""
